"""What a team writes in YAML: domains, use cases and policies. Values only; the graph is Python."""

from millrace.spec.candidate import (
    CandidateSpec,
    Choice,
    EnvironmentSpec,
    FloatRange,
    IntRange,
    ResourceSpec,
    TuningSpec,
)
from millrace.spec.contract import ExpectationSpec, HistorySpec
from millrace.spec.domain import DomainSpec
from millrace.spec.feature import ComputeSpec, FeatureTableSpec, OnDemandSpec
from millrace.spec.leak import find_leaks, refuse_leaks
from millrace.spec.load import list_specs, load_domain, load_policy, load_use_case
from millrace.spec.policy import GateSpec, PolicySpec
from millrace.spec.source import (
    DeltaSourceSpec,
    FileSourceSpec,
    HttpSourceSpec,
    PythonSourceSpec,
    SourceSpec,
    SqlSourceSpec,
)
from millrace.spec.use_case import EvaluationSpec, LabelSpec, MonitoringSpec, UseCaseSpec

__all__ = [
    "CandidateSpec",
    "Choice",
    "ComputeSpec",
    "DeltaSourceSpec",
    "DomainSpec",
    "EnvironmentSpec",
    "EvaluationSpec",
    "ExpectationSpec",
    "FeatureTableSpec",
    "FileSourceSpec",
    "FloatRange",
    "GateSpec",
    "HistorySpec",
    "HttpSourceSpec",
    "IntRange",
    "LabelSpec",
    "MonitoringSpec",
    "OnDemandSpec",
    "PolicySpec",
    "PythonSourceSpec",
    "ResourceSpec",
    "SourceSpec",
    "SqlSourceSpec",
    "TuningSpec",
    "UseCaseSpec",
    "find_leaks",
    "list_specs",
    "load_domain",
    "load_policy",
    "load_use_case",
    "refuse_leaks",
]
