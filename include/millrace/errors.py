"""The error tree. Every message says what is wrong, where, and what mends it.

`retryable` is what Airflow's retry policy reads: a retry helps only where waiting can change the outcome.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar


class MillraceError(Exception):
    """Root of all errors of Millrace.

    Args:
        what: the fault, with the offending value.
        where: file, key, partition or row it was found at.
        remedy: what a person does about it.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, what: str, *, where: str = "", remedy: str = "") -> None:
        self.what, self.where, self.remedy = what, where, remedy
        super().__init__(what, where, remedy)

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(type(self), where=self.where, remedy=self.remedy), (self.what,)

    def __str__(self) -> str:
        parts = [self.what]
        if self.where:
            parts.append(f"where: {self.where}")
        if self.remedy:
            parts.append(f"remedy: {self.remedy}")
        return "\n  ".join(parts)


class SpecError(MillraceError):
    """A YAML file or a value in it is wrong. A retry does not help: mend the file."""


class SettingsError(MillraceError):
    """The installation cannot work as configured (a path, a port, a version). Mend it, then try again."""


class SourceError(MillraceError):
    """A source has not what its spec declares: a missing column, an unreadable file. A retry does not help."""


class SourceUnavailableError(SourceError):
    """A source cannot be reached at the moment. A retry helps."""

    retryable = True


class EmptyPartitionError(SourceError):
    """A source has no rows for a partition that must have some. A retry does not help; clear it when data landed."""


class LakeError(MillraceError):
    """A Delta table is missing or a snapshot is not what its reference says. A retry does not help."""


class LakeConflictError(LakeError):
    """Another writer committed in between more often than we retried. A retry helps."""

    retryable = True


class LakeUnavailableError(LakeError):
    """The lake cannot be written to at the moment: no space, no rights, no answer. What was committed stands."""

    retryable = True


class ContractError(MillraceError):
    """A blocking expectation failed, so the partition is not published. Mend data or contract, then re-run."""


class ConservationError(MillraceError):
    """Rows in are not clean plus quarantined: a fault of Millrace's own. Nothing was published."""


class FeatureError(MillraceError):
    """A feature definition or request is wrong: unknown view, entity or column. A retry does not help."""


class UnknownViewError(FeatureError):
    """The online store has no such view (yet). Materialize it; a retry does not help."""


class OnlineStoreUnavailableError(FeatureError):
    """The online store does not answer at the moment. A retry helps; its high-water marks stand where they stood."""

    retryable = True


class OnlineStoreConflictError(FeatureError):
    """Another writer replaced or moved the same view of the online store meanwhile. A retry helps."""

    retryable = True


class TrainingError(MillraceError):
    """A candidate cannot be trained on the data it was given (one class, no rows). A retry does not help."""


class EnvironmentUnavailableError(TrainingError):
    """An isolated environment cannot be built at the moment: no index answers, or no space. A retry helps."""

    retryable = True


class ModelImportError(MillraceError):
    """A model from elsewhere cannot be taken in: not readable, not safe, or not what the use case asks for."""


class RebuildError(MillraceError):
    """A model cannot be rebuilt: no recipe, or what it names is gone. A retry does not help."""


class PackageError(MillraceError):
    """A package is incomplete or its bytes are not those of its manifest. A retry does not help."""


class EvaluationError(MillraceError):
    """An evaluation cannot be made: no rows, no labels, or candidates on different rows."""


class RegistryError(MillraceError):
    """The model registry refuses what is asked. A retry does not help."""


class RegistryUnavailableError(RegistryError):
    """The model registry does not answer. A retry helps; nothing was registered by halves."""

    retryable = True


class ReleaseRefusedError(MillraceError):
    """No passing verdict, approval or matching digest stands behind what is to be released. A retry does not help."""


class StaleEvidenceError(MillraceError):
    """The champion changed after the evidence was made: evaluate again, then release."""


class IdentityError(MillraceError):
    """Nobody can be named for an act: no token, or one that Airflow does not take. Log in, then do it again."""


class EngineError(MillraceError):
    """Where heavy work runs cannot be reached, or lost its workers too often. A retry may help; done pieces stand."""

    retryable = True


class StateUnavailableError(MillraceError):
    """The state database (ledger, releases) does not answer. A retry helps; what was not committed is not there."""

    retryable = True


class LedgerError(MillraceError):
    """The ledger's chain is broken or an entry contradicts one already written. A person has to look."""


class DeploymentError(MillraceError):
    """The online service did not load, or does not answer like, the release it was given. A retry may help."""

    retryable = True


class ServiceError(MillraceError):
    """A local service did not start or died too often; its log says why."""


class LineageError(MillraceError):
    """Nothing in our records has what was asked for: no such prediction, or nothing of that time. Ask otherwise."""


class DocumentError(MillraceError):
    """A stored document is missing, or its bytes are not those its digest names. A retry does not help."""
