"""Extra links in the grid. An operator sets `self.links["<name>"]` while it works; the worker stores it at the end."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperatorLink

REPORTS = "/millrace/reports"
EVIDENCE = "/millrace/evidence"
RUNBOOK = "/millrace/docs/on_call"


class _PageLink(BaseOperatorLink):
    """A link to a page that the task made; empty where it made none."""

    name = ""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address the operator noted under this link's name."""
        found: dict[str, str] = getattr(operator, "links", {})
        return found.get(self.name, "")


class DataDocsLink(_PageLink):
    """Great Expectations' page of this validation."""

    name = "Data Docs"


class ReplayLink(_PageLink):
    """The DAG that brings rows back from quarantine; only where some are there."""

    name = "Replay"


class ModelCardLink(_PageLink):
    """The model card of the evidence bundle."""

    name = "Model card"


class DriftReportLink(_PageLink):
    """Evidently's report of this partition."""

    name = "Drift report"


class SkewReportLink(_PageLink):
    """Online features of this partition's requests against those of the lake."""

    name = "Skew report"


class RegistryLink(_PageLink):
    """The model version or run in MLflow."""

    name = "MLflow"


class ServiceLink(_PageLink):
    """The model as the online service describes it."""

    name = "Online service"


class RunbookLink(BaseOperatorLink):
    """What to look at and what to press when a task of this kind fails."""

    name = "Runbook"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The same page for every task; its contents name the tasks."""
        return RUNBOOK


ALL_LINKS = (
    *(DataDocsLink(), ReplayLink(), ModelCardLink(), DriftReportLink(), SkewReportLink()),
    *(RegistryLink(), ServiceLink(), RunbookLink()),
)
