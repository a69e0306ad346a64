"""A candidate: one model to try, how it is tuned, what it needs, and where it trains."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, FiniteFloat, StringConstraints, model_validator

from millrace.spec.base import ColumnName, Name, Spec

Memory = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*(MB|GB)$")]
_UNITS = {"MB": 10**6, "GB": 10**9}


class IntRange(Spec):
    """Whole numbers to search.

    Attributes:
        low: the least.
        high: the greatest.
        step: distance of two neighbours.
        log: whether to search evenly in the logarithm; `step` is then 1.
    """

    type: Literal["int"]
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1
    log: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> IntRange:
        _check_range(self.low, self.high, log=self.log, stepped=self.step != 1)
        return self


class FloatRange(Spec):
    """Numbers to search.

    Attributes:
        low: the least.
        high: the greatest.
        step: distance of two neighbours; None for any number in between.
        log: whether to search evenly in the logarithm; there is no `step` then.
    """

    type: Literal["float"]
    low: FiniteFloat
    high: FiniteFloat
    step: Annotated[float, Field(gt=0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> FloatRange:
        _check_range(self.low, self.high, log=self.log, stepped=self.step is not None)
        return self


class Choice(Spec):
    """Values to choose from, such as names or lists of layer widths."""

    type: Literal["categorical"]
    choices: Annotated[list[Any], Field(min_length=1)]


SearchSpace = dict[str, Annotated[IntRange | FloatRange | Choice, Field(discriminator="type")]]


class TuningSpec(Spec):
    """Which parameters are searched for, judged on later partitions than those trained on.

    Attributes:
        space: parameter of the trainer → what to try; the candidate's `params` hold for all others.
        trials: how many, at most.
        minutes: how long, at most; what comes first ends the search.
        folds: how many of the last partitions before the holdout are validated on, one a fold.
        gap: partitions left out between those trained on and the one validated on.
        sampler: how trials are proposed.
        pruner: how trials that fall behind are given up.
        parallel: trials at once; each has its share of the task's cores, or a place on the Ray cluster.
    """

    space: Annotated[SearchSpace, Field(min_length=1)]
    trials: Annotated[int, Field(ge=1, le=10_000)] = 30
    minutes: Annotated[float, Field(gt=0, le=7 * 24 * 60)] = 30.0
    folds: Annotated[int, Field(ge=1, le=24)] = 2
    gap: Annotated[int, Field(ge=0, le=24)] = 0
    sampler: Literal["tpe", "random"] = "tpe"
    pruner: Literal["median", "hyperband", "none"] = "median"
    parallel: Annotated[int, Field(ge=1, le=64)] = 1


class ResourceSpec(Spec):
    """What the training task of a candidate needs.

    Attributes:
        cpu: cores; the trainer's `threads` where `params` do not name them.
        memory: what training data may take of memory; more than that trains out of core.
        gpu: graphics cards; 0 trains on the CPU.
        queue: Celery queue, or executor's queue, of the task.
        pool: Airflow pool of the task.
        pool_slots: slots it takes there.
    """

    cpu: Annotated[int, Field(ge=1, le=256)] | None = None
    memory: Memory = "4GB"
    gpu: Annotated[int, Field(ge=0, le=64)] = 0
    queue: str | None = None
    pool: str | None = None
    pool_slots: Annotated[int, Field(ge=1)] = 1

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes."""
        return int(self.memory[:-2]) * _UNITS[self.memory[-2:]]


class EnvironmentSpec(Spec):
    """Software of its own: the candidate trains in an isolated environment that is built from a lock, once.

    Attributes:
        lock: pinned requirements (`name==version` lines), a path relative to the DAGs folder.
    """

    lock: str


class CandidateSpec(Spec):
    """One model to try.

    Attributes:
        trainer: name of a trainer of ours, or `package.module:Class` of one that is installed beside.
        params: parameters of the trainer.
        tuning: how further parameters are searched for.
        class_weight: `balanced`, or class → weight, on top of the rows' own weights.
        monotone: numeric feature → whether the prediction may only rise or only fall with it.
        workers: processes that train it together on the engine of the use case's `compute`, each on a share of the
            rows.
        resources: what its task needs.
        environment: software of its own.
    """

    trainer: str
    params: dict[str, Any] = {}
    tuning: TuningSpec | None = None
    class_weight: Literal["balanced"] | dict[str, Annotated[FiniteFloat, Field(gt=0)]] | None = None
    monotone: dict[ColumnName, Literal["increasing", "decreasing"]] = {}
    workers: Annotated[int, Field(ge=1, le=256)] = 1
    resources: ResourceSpec = ResourceSpec()
    environment: EnvironmentSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> CandidateSpec:
        if self.tuning and (doubled := sorted(set(self.tuning.space) & set(self.params))):
            raise ValueError(f"parameters {doubled} stand in params and in tuning.space")
        if self.environment and self.workers > 1:
            raise ValueError("a candidate with an environment of its own trains in one process: workers must be 1")
        return self


ClassName = Annotated[str, StringConstraints(min_length=1, max_length=100)]
Candidates = dict[Name, CandidateSpec]


def _check_range(low: float, high: float, *, log: bool, stepped: bool) -> None:
    if low > high:
        raise ValueError(f"the least, {low:g}, is above the greatest, {high:g}")
    if log and low <= 0:
        raise ValueError(f"log: true needs numbers above 0, the least is {low:g}")
    if log and stepped:
        raise ValueError("log: true takes no step")
