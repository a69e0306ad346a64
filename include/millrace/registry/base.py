"""What registration hands on, and what a run in the tracking server shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from millrace.artifact import DatasetRef, PlainValue

CHALLENGER = "challenger"
CHAMPION = "champion"
PACKAGE_TAG = "millrace.package"


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredModel(PlainValue):
    """A version of a registered model.

    Attributes:
        name: registered model: the use case.
        version: its version there.
        digest: digest of the package.
        run_id: run that the package lies with.
        evidence: digest of the evidence bundle it was registered on.
        policy: digest of the policy.
    """

    name: str
    version: int
    digest: str
    run_id: str
    evidence: str
    policy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingInput:
    """The snapshot that a candidate was trained on.

    Attributes:
        ref: the training set.
        uri: where its table lies.
        columns: column → `double`, `string` or `datetime`.
        rows: rows that were trained on.
        partitions: their partitions.
    """

    ref: DatasetRef
    uri: str
    columns: Mapping[str, str]
    rows: int
    partitions: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContent:
    """What a candidate's run shows beside its parameters, figures and package.

    Attributes:
        started: milliseconds since the epoch when training began; 0 where nobody looked.
        ended: the same when it was over.
        curves: metric → (step, value) in the order of the steps.
        samples: of the machine while it trained: milliseconds since the epoch, and name → value.
        input: what it was trained on.
        files: folder among the run's artifacts ("" for the top) and the file that belongs there.
    """

    started: int = 0
    ended: int = 0
    curves: Mapping[str, Sequence[tuple[int, float]]] = field(default_factory=dict)
    samples: Sequence[tuple[int, Mapping[str, float]]] = ()
    input: TrainingInput | None = None
    files: Sequence[tuple[str, Path]] = ()
