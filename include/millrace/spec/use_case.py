"""A use case: one prediction problem on a domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from millrace.spec.base import ColumnName, Name, RuleError, Spec, UserName
from millrace.spec.candidate import Candidates, ClassName
from millrace.spec.feature import ComputeSpec
from millrace.spec.policy import GateSpec

Problem = Literal["binary", "multiclass", "regression"]
_METRICS = {"binary": ("auc",), "multiclass": ("log_loss", "auc"), "regression": ("rmse",)}


class LabelSpec(Spec):
    """What is predicted, and when it becomes known.

    Attributes:
        expression: SQL over the clean row; null means there is no label (cancelled, diverted).
        known_at: column of the clean table: the instant from which the label may be used.
        weight: SQL over the clean row: how much the row counts in training; 1 for all where empty.
    """

    expression: str
    known_at: ColumnName
    weight: str = ""


class EntitySpec(Spec):
    """What a prediction is made for: one clean row.

    Attributes:
        source: source of the domain whose clean rows are predicted.
        key: column that identifies the row.
        timestamp: column with the instant of prediction; features are those known then.
    """

    source: Name
    key: ColumnName
    timestamp: ColumnName


class FeatureServiceSpec(Spec):
    """What the model sees.

    Attributes:
        name: Feast feature service; a changed definition needs a new name.
        views: feature table → its features; looked up as of the entity's timestamp.
        row: column of the entity row → its type; known at prediction time, part of the request online.
        on_demand: on-demand view of the domain → its features.
        categorical: those of all features that are categories.
    """

    name: Name
    views: dict[Name, Annotated[list[ColumnName], Field(min_length=1)]]
    row: dict[ColumnName, Literal["number", "category"]] = {}
    on_demand: dict[Name, Annotated[list[ColumnName], Field(min_length=1)]] = {}
    categorical: list[ColumnName] = []

    @property
    def columns(self) -> list[str]:
        """All features, in the order the model sees them: those of the row, then view by view, then on demand."""
        looked_up = (name for features in self.views.values() for name in features)
        return [*self.row, *looked_up, *(name for features in self.on_demand.values() for name in features)]

    @property
    def categories(self) -> list[str]:
        """The features that are categories."""
        return [*(name for name, kind in self.row.items() if kind == "category"), *self.categorical]


Money = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class ValueSpec(Spec):
    """What decisions are worth, in money.

    Attributes:
        currency: its sign or code, as reports show it.
        matrix: what came → what was decided → money a row, a cost below nought; 0 where nothing is said. Classes of a
            binary problem are 0 and 1, decided at the use case's threshold.
        over: money for each unit that a regression says too much; a cost, so below nought.
        under: the same for each unit too little.
    """

    currency: Annotated[str, Field(min_length=1, max_length=8)]
    matrix: dict[ClassName, dict[ClassName, Money]] = {}
    over: Annotated[Money, Field(le=0)] = 0.0
    under: Annotated[Money, Field(le=0)] = 0.0

    @field_validator("matrix", mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """Classes that YAML reads as numbers, as the texts they are named by."""
        return _with_texts(given, deep=True)

    def fault(self, problem: Problem, classes: list[str]) -> str:
        """What of it does not fit a problem, with its key; "" where all does."""
        if problem == "regression":
            if self.matrix:
                return "value.matrix is for classes; a regression says `over` and `under`"
            return "" if self.over or self.under else "value.over and value.under are both 0: no error costs anything"
        if self.over or self.under:
            return "value.over and value.under are for a regression; classes have a `matrix`"
        known = classes if problem == "multiclass" else ["0", "1"]
        for came, row in self.matrix.items():
            if odd := [name for name in (came, *row) if name not in known]:
                at = f"value.matrix.{came}" if came not in known else f"value.matrix.{came}.{odd[0]}"
                return f"{at}: {odd[0]!r} is no class; known are: {', '.join(known)}"
        return "" if any(self.matrix.values()) else "value.matrix is empty: no decision is worth anything"


def _with_texts(given: Any, *, deep: bool) -> Any:
    if not isinstance(given, Mapping):
        return given
    return {
        str(key) if type(key) is int else key: _with_texts(value, deep=False) if deep else value
        for key, value in given.items()
    }


Crossing = Annotated[list[ColumnName], Field(min_length=2, max_length=3)]
Count = Annotated[int, Field(strict=True, ge=1, le=366)]


def _is_unset(value: object) -> bool:
    return value is None


class EvaluationSpec(Spec):
    """How candidates are compared: on the last partitions, in time order.

    Attributes:
        split: `time` only; a random split sees the future of its training rows.
        metric: the metric that ranks candidates and that gates compare: `auc` for binary, `log_loss` or `auc` (each
            class against the rest, the mean of all) for multiclass, `rmse` for regression.
        holdout_partitions: how many of the last partitions are kept back; training sees none of them, nor a label that
            became known after the first of them began.
        validation_partitions: how many a fold of a search predicts and early stopping keeps back; none: as many as are
            held out.
        bootstrap: rounds of the day-block bootstrap.
        slices: columns whose values are reported apart, and lists of two or three that are crossed. Features, or any
            other column of the entity's clean rows.
        sensitive: columns that people must not be treated worse by; features, or other columns of the clean rows.
        beta: of F-beta, how much more recall counts than precision.
        value: what decisions are worth.
    """

    split: Literal["time"] = "time"
    metric: Literal["auc", "log_loss", "rmse"] = "auc"
    holdout_partitions: Count = 1
    validation_partitions: Count | None = Field(default=None, exclude_if=_is_unset)
    bootstrap: Annotated[int, Field(ge=50, le=5000)] = 200
    slices: list[ColumnName | Crossing] = []
    sensitive: list[ColumnName] = []
    beta: Annotated[float, Field(gt=0, le=10)] = 1.0
    value: ValueSpec | None = None

    @property
    def validated(self) -> int:
        """How many partitions a fold of a search predicts and early stopping keeps back."""
        return self.validation_partitions or self.holdout_partitions

    @property
    def crossings(self) -> list[tuple[str, ...]]:
        """The columns of each slicing; one column is a crossing of one."""
        return [(item,) if isinstance(item, str) else tuple(item) for item in self.slices]

    @field_validator("slices")
    @classmethod
    def _slices_once(cls, slices: list[ColumnName | Crossing]) -> list[ColumnName | Crossing]:
        columns = [[item] if isinstance(item, str) else item for item in slices]
        if twice := [item for item in columns if len(set(item)) < len(item)]:
            raise ValueError(f"{_listed(twice)} crosses a column with itself")
        _require_once([tuple(sorted(item)) for item in columns], "slices")
        return slices

    @field_validator("sensitive")
    @classmethod
    def _sensitive_once(cls, sensitive: list[ColumnName]) -> list[ColumnName]:
        _require_once([(name,) for name in sensitive], "sensitive")
        return sensitive

    @property
    def audited(self) -> list[str]:
        """All columns that rows are told apart by, each once, in the order they are named."""
        return list(dict.fromkeys([*(name for columns in self.crossings for name in columns), *self.sensitive]))


def _require_once(named: list[tuple[str, ...]], key: str) -> None:
    if doubled := sorted({item for item in named if named.count(item) > 1}):
        raise ValueError(f"{_listed(doubled)} stands in `{key}` twice")


def _listed(named: Sequence[Sequence[str]]) -> str:
    return "; ".join(", ".join(item) for item in named)


class MonitoringSpec(Spec):
    """When a model is watched and when it is trained again.

    Attributes:
        drift_psi: population stability index over which a feature counts as drifted.
        drift_share: share of drifted features over which drift is named as a reason (alone it never retrains).
        performance_drop: drop of the metric against the release's own holdout that asks for retraining.
        window_partitions: how many partitions, through the one looked at, live performance is measured on; none: as
            many as are held out.
        max_age_partitions: partitions after which a release is stale and is trained again (0: never).
        cooldown_partitions: partitions after a decision to retrain in which only a drop asks again.
        shadow_first: whether the first release is scored along, for comparison.
        report_rows: rows sampled for the Evidently report.
        request_sample: share of the rows asked of the online service by key that is kept, to hold their features
            against those of the lake.
        skew_share: share of those rows with another value of one feature over which skew is named as a reason (alone
            it never retrains).
        skew_rows: rows compared a partition, the newest.
    """

    drift_psi: Annotated[float, Field(gt=0)] = 0.2
    drift_share: Annotated[float, Field(ge=0, le=1)] = 0.5
    performance_drop: Annotated[float, Field(ge=0)] = 0.01
    window_partitions: Count | None = Field(default=None, exclude_if=_is_unset)
    max_age_partitions: Annotated[int, Field(ge=0)] = 3
    cooldown_partitions: Annotated[int, Field(ge=0)] = 0
    shadow_first: bool = True
    report_rows: Annotated[int, Field(ge=100, le=100_000)] = 2_000
    request_sample: Annotated[float, Field(ge=0, le=1)] = 0.01
    skew_share: Annotated[float, Field(ge=0, le=1)] = 0.01
    skew_rows: Annotated[int, Field(ge=1, le=100_000)] = 2_000


class UseCaseSpec(Spec):
    """One prediction problem on a domain.

    Attributes:
        name: file stem, DAG id prefix, name of the model in registry and service.
        owners: Airflow user names; they may not approve what they wrote.
        tier: policy the use case is under (`low`, `medium`, `high`).
        gates: gates on top of the policy's; none of those can be taken away.
        leaks: columns of the entity's source that must never be features: they are known too late.
        min_training_partitions: partitions that must stand before the holdout.
        classes: what a multiclass label may be; the label expression gives one of these texts.
        compute: the engine that tunes, trains and scores; `connection` as in a domain's.
    """

    name: Name
    domain: Name
    description: str
    owners: Annotated[list[UserName], Field(min_length=1)]
    tier: Name
    problem: Problem
    entity: EntitySpec
    label: LabelSpec
    features: FeatureServiceSpec
    leaks: list[ColumnName] = []
    candidates: Annotated[Candidates, Field(min_length=1)]
    evaluation: EvaluationSpec = EvaluationSpec()
    gates: list[GateSpec] = []
    monitoring: MonitoringSpec = MonitoringSpec()
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    min_training_partitions: Annotated[int, Field(ge=1)] = 2
    seed: int = 7
    classes: list[ClassName] = []
    compute: ComputeSpec = ComputeSpec()

    def table(self, name: str) -> str:
        """Name in the lake of a table of this use case (`predictions`, `labelled`)."""
        return f"{self.name}/{name}"

    def service_table(self, name: str) -> str:
        """Name in the lake of a table whose columns are those of the feature service (`training_set`)."""
        return f"{self.table(name)}/{self.features.name}"

    @field_validator("description")
    @classmethod
    def _described(cls, text: str) -> str:
        if not text.strip():
            raise ValueError("say what is predicted, and what for: it opens the model card")
        return text

    @property
    def window(self) -> int:
        """How many partitions live performance is measured on."""
        return self.monitoring.window_partitions or self.evaluation.holdout_partitions

    @property
    def predictions_asset(self) -> str:
        """Name of the asset that tells that a partition was scored."""
        return f"{self.name}/predictions"

    @property
    def retrain_asset(self) -> str:
        """Name of the asset that asks for a training run."""
        return f"{self.name}/retrain_requested"

    @model_validator(mode="after")
    def _consistent(self) -> UseCaseSpec:
        columns = self.features.columns
        if leaked := sorted(set(columns) & set(self.leaks)):
            raise RuleError(
                f"features {leaked} are declared as leaks: they are not known when the prediction is made",
                remedy=f"take {', '.join(leaked)} out of `features`",
            )
        if doubled := sorted({name for name in columns if columns.count(name) > 1}):
            raise RuleError(f"features named twice: {doubled}", remedy=f"name {', '.join(doubled)} once in `features`")
        if unknown := sorted(set(self.features.categorical) - set(columns)):
            raise RuleError(
                f"categorical names no feature: {unknown}",
                remedy=f"take {', '.join(unknown)} out of features.categorical; features are: {', '.join(columns)}",
            )
        if self.evaluation.metric not in _METRICS[self.problem]:
            raise RuleError(
                f"metric {self.evaluation.metric!r} does not fit a {self.problem} problem",
                remedy=f"set evaluation.metric: {' or '.join(_METRICS[self.problem])}",
            )
        if (self.problem == "multiclass") != (len(self.classes) > 2) or len(set(self.classes)) < len(self.classes):
            raise RuleError(
                "classes: a multiclass problem names three or more, each once; any other problem none",
                remedy="list each class once in `classes`"
                if self.problem == "multiclass"
                else f"take `classes` out, or set problem: multiclass in place of {self.problem}",
            )
        value = self.evaluation.value
        if value is not None and (fault := value.fault(self.problem, self.classes)):
            raise RuleError(f"evaluation.{fault}", remedy="correct evaluation.value")
        return self
