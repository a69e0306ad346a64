"""A training job: all that decides what comes out of it, but for the rows; it travels to other processes as JSON."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import orjson

from millrace.errors import SpecError, TrainingError
from millrace.package import FeatureSpec, OnDemandFunctions
from millrace.partition import Partition
from millrace.spec import CandidateSpec, DomainSpec, UseCaseSpec
from millrace.spec.holdout import held_out
from millrace.training.params import given_params

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """One candidate to train on rows that come along.

    Attributes:
        use_case: its use case.
        domain: the domain of that.
        candidate: its name in the spec.
        table: name of the training set, for the manifest.
        holdout: partition kept back, the last where there are several, for the manifest.
        known_until: instant that the labels of the rows were known by, for the manifest.
        functions: on-demand view → text of its function; they are sealed with the model.
        params: values over those of the spec, such as tuning found.
        lock: text of the lock of the candidate's own environment; it is sealed with the model.
    """

    use_case: UseCaseSpec
    domain: DomainSpec
    candidate: str
    table: str
    holdout: str
    known_until: str
    functions: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    lock: str = ""

    @property
    def spec(self) -> CandidateSpec:
        """The candidate's spec.

        Raises:
            SpecError: the use case has none of that name.
        """
        return find_candidate(self.use_case, self.candidate)

    @property
    def where(self) -> str:
        """The candidate's place in its spec, for messages."""
        return f"use_cases/{self.use_case.name}.yaml: candidates.{self.candidate}"

    @property
    def values(self) -> dict[str, Any]:
        """Parameters of the trainer: those of the spec, then what tuning found; cores and device by its resources."""
        return {**given_params(self.spec), **self.params}

    @property
    def held_out(self) -> list[Partition]:
        """The partitions kept back, in order; training rows lie before the first."""
        return held_out(self.use_case, self.domain, self.holdout)

    @property
    def features(self) -> FeatureSpec:
        """What the model sees."""
        return FeatureSpec.of(self.use_case, self.domain)

    @property
    def on_demand(self) -> OnDemandFunctions:
        """The functions of on-demand features, loaded.

        Raises:
            FeatureError: one does not load.
        """
        return OnDemandFunctions(self.features, dict(self.functions))

    def digest(self, rows: str) -> str:
        """Names the job on rows of a digest: equal jobs go on from each other's checkpoints."""
        return hashlib.sha256(self.to_bytes() + rows.encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """JSON in the order of the specs, which is the order of the features: equal jobs, equal bytes."""
        return orjson.dumps(
            {
                "format": FORMAT,
                "use_case": self.use_case.model_dump(mode="json"),
                "domain": self.domain.model_dump(mode="json"),
                "candidate": self.candidate,
                "table": self.table,
                "holdout": self.holdout,
                "known_until": self.known_until,
                "functions": dict(sorted(self.functions.items())),
                "params": dict(sorted(self.params.items())),
                "lock": self.lock,
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes, *, where: Path | str = "job") -> Self:
        """The job that `to_bytes` was called on.

        Raises:
            TrainingError: it is of another format.
        """
        plain = orjson.loads(content)
        if plain.pop("format", None) != FORMAT:
            raise TrainingError(
                "the job has another format", where=str(where), remedy="make and run it with one version of Millrace"
            )
        return cls(
            **{
                **plain,
                "use_case": UseCaseSpec.model_validate(plain["use_case"]),
                "domain": DomainSpec.model_validate(plain["domain"]),
            }
        )


def find_candidate(use_case: UseCaseSpec, candidate: str) -> CandidateSpec:
    """A candidate of a use case by name.

    Raises:
        SpecError: it has none of that name.
    """
    found = use_case.candidates.get(candidate)
    if found is None:
        raise SpecError(
            f"no candidate {candidate!r}",
            where=f"use_cases/{use_case.name}.yaml: candidates",
            remedy=f"known are: {', '.join(use_case.candidates)}",
        )
    return found
