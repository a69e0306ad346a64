"""What chains the operators: one class for the DAGs of a domain, one for those of a use case."""

from millrace_airflow.groups.domain import DomainDags
from millrace_airflow.groups.use_case import UseCaseDags

__all__ = ["DomainDags", "UseCaseDags"]
