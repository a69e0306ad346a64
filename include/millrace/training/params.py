"""Parameters of the trainers, closed and checked without importing any library.

Names are those of the library, except where one word means the same for all: `rounds` or `epochs`, `learning_rate`,
`early_stopping` (rounds or epochs without a gain on the last training partition, or on the last
`evaluation.validation_partitions`, which are then kept out of the fit; 0: a fixed number) and `threads` (recorded,
because another number of threads may give another model).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from millrace.package.estimator import RESERVED, find_estimator
from millrace.spec import CandidateSpec
from millrace.spec.base import Spec

Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Patience = Annotated[int, Field(ge=0)]
_SETTING = "settings."


Ability = Literal["weights", "monotone", "gpu", "workers", "blocks"]
"""What a trainer can do beyond a plain fit: rows of different weight, monotone features, a graphics card, several
workers on one model, rows that do not fit into memory (`TrainingData.block_rows`)."""


class TrainerParams(Spec):
    """What every trainer takes, and what can be asked of it. A trainer outside Millrace derives its `Params` from it.

    Attributes:
        problems: what it can learn.
        threads: cores it uses.
        checkpoint_every: rounds or epochs between two checkpoints; 0 for none. A boosted model is begun anew from its
            own bytes at each, so that another number may give another model.
        device: where it trains; `cuda` where the candidate's resources name a graphics card.
    """

    problems: ClassVar[frozenset[str]] = frozenset({"binary", "multiclass", "regression"})

    threads: Annotated[int, Field(ge=1, le=256)] = 2
    checkpoint_every: Annotated[int, Field(ge=0)] = 0
    device: Literal["cpu", "cuda"] = "cpu"

    @property
    def abilities(self) -> frozenset[Ability]:
        """What may be asked of the trainer with these parameters."""
        return frozenset()

    @property
    def supported(self) -> frozenset[str]:
        """The problems it can learn with these parameters."""
        return self.problems


class BaselineParams(TrainerParams):
    """The dummy has nothing to set."""

    @property
    def abilities(self) -> frozenset[Ability]:
        """It takes the mean of the labels, which are always in memory."""
        return frozenset({"weights", "blocks"})


class XGBoostParams(TrainerParams):
    """Gradient boosting by histogram; categories split natively. Names not listed above are xgboost's."""

    checkpoint_every: Annotated[int, Field(ge=0)] = 100
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 200
    learning_rate: Share = 0.1
    max_depth: Annotated[int, Field(ge=0, le=32)] = 6
    max_leaves: Annotated[int, Field(ge=0)] = 0
    grow_policy: Literal["depthwise", "lossguide"] = "depthwise"
    min_child_weight: NotNegative = 1.0
    subsample: Share = 1.0
    colsample_bytree: Share = 1.0
    colsample_bylevel: Share = 1.0
    colsample_bynode: Share = 1.0
    reg_lambda: NotNegative = 1.0
    reg_alpha: NotNegative = 0.0
    gamma: NotNegative = 0.0
    max_bin: Annotated[int, Field(ge=2, le=65_536)] = 256
    max_cat_to_onehot: Count = 4
    max_cat_threshold: Count = 64
    scale_pos_weight: Positive = 1.0
    early_stopping: Patience = 0

    @property
    def abilities(self) -> frozenset[Ability]:
        """All there is."""
        return frozenset({"weights", "monotone", "gpu", "workers", "blocks"})


class LightGBMParams(TrainerParams):
    """Leaf-wise gradient boosting, deterministic; categories split natively. Names not listed above are lightgbm's."""

    checkpoint_every: Annotated[int, Field(ge=0)] = 100
    rounds: Annotated[int, Field(ge=1, le=100_000)] = 200
    learning_rate: Share = 0.1
    num_leaves: Annotated[int, Field(ge=2, le=131_072)] = 31
    max_depth: int = -1
    min_data_in_leaf: Annotated[int, Field(ge=0)] = 20
    min_sum_hessian_in_leaf: NotNegative = 1e-3
    feature_fraction: Share = 1.0
    feature_fraction_bynode: Share = 1.0
    bagging_fraction: Share = 1.0
    bagging_freq: Annotated[int, Field(ge=0)] = 0
    lambda_l1: NotNegative = 0.0
    lambda_l2: NotNegative = 0.0
    min_gain_to_split: NotNegative = 0.0
    path_smooth: NotNegative = 0.0
    max_bin: Annotated[int, Field(ge=2, le=65_536)] = 255
    cat_smooth: NotNegative = 10.0
    cat_l2: NotNegative = 10.0
    max_cat_threshold: Count = 32
    min_data_per_group: Count = 100
    scale_pos_weight: Positive = 1.0
    early_stopping: Patience = 0

    @property
    def abilities(self) -> frozenset[Ability]:
        """All but a graphics card, which its wheel has no code for."""
        return frozenset({"weights", "monotone", "workers", "blocks"})


class TorchParams(TrainerParams):
    """A network of dense layers with ReLU over standardised numbers and embedded categories.

    Attributes:
        epochs: passes over the rows.
        hidden: width of each hidden layer; none gives a linear model.
        embedding: greatest width of a category's embedding; a small vocabulary gets half its size.
        batch_size: rows a step.
        learning_rate: at the start; it falls to 0 along a cosine.
        weight_decay: of AdamW.
        dropout: share of hidden units left out in a step.
    """

    checkpoint_every: Annotated[int, Field(ge=0)] = 1
    epochs: Annotated[int, Field(ge=1, le=10_000)] = 5
    hidden: tuple[Annotated[int, Field(ge=1, le=8192)], ...] = (128, 64)
    embedding: Annotated[int, Field(ge=1, le=512)] = 8
    batch_size: Count = 1024
    learning_rate: Positive = 0.002
    weight_decay: NotNegative = 1e-4
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    early_stopping: Patience = 0

    @property
    def abilities(self) -> frozenset[Ability]:
        """All but monotone features."""
        return frozenset({"weights", "gpu", "workers", "blocks"})


class SklearnParams(TrainerParams):
    """An estimator of scikit-learn behind a step that encodes the categories.

    Attributes:
        estimator: its dotted path below `sklearn`, such as `linear_model.LogisticRegression`.
        settings: its own parameters; what Millrace sets itself (seed, threads, class weights, monotone features,
            early stopping) stands outside of them.
        max_categories: categories kept apart; the rarest beyond them are one.
    """

    estimator: str
    settings: dict[str, Any] = Field(default_factory=dict)
    max_categories: Annotated[int, Field(ge=2, le=254)] = 254
    early_stopping: Patience = 0

    @model_validator(mode="before")
    @classmethod
    def _gathered(cls, values: Any) -> Any:
        """`settings.C` beside `settings`, as a search space names it, is put into it."""
        if not isinstance(values, Mapping):
            return values
        dotted = {name: value for name, value in values.items() if str(name).startswith(_SETTING)}
        if not dotted or not isinstance(settings := values.get("settings", {}), Mapping):
            return values
        rest = {name: value for name, value in values.items() if name not in dotted}
        return {**rest, "settings": {**settings, **{name[len(_SETTING) :]: item for name, item in dotted.items()}}}

    @model_validator(mode="after")
    def _consistent(self) -> SklearnParams:
        chosen = find_estimator(self.estimator)
        if reserved := sorted(set(self.settings) & RESERVED):
            raise ValueError(f"settings {reserved} of the estimator are Millrace's to set")
        if self.early_stopping and not chosen.stops_early:
            raise ValueError(f"{self.estimator} has no early stopping on a window of its own: early_stopping must be 0")
        return self

    @property
    def abilities(self) -> frozenset[Ability]:
        """Those of the estimator."""
        chosen = find_estimator(self.estimator)
        found: set[Ability] = {"weights"} if chosen.weighted else set()
        return frozenset({*found, "monotone"} if chosen.monotone else found)

    @property
    def supported(self) -> frozenset[str]:
        """Classifiers learn classes, regressors a value."""
        return frozenset({"binary", "multiclass"} if find_estimator(self.estimator).classifies else {"regression"})


def given_params(spec: CandidateSpec) -> dict[str, Any]:
    """Parameters of a candidate's trainer: cores and device by its resources where `params` do not name them."""
    resources = spec.resources
    given: dict[str, Any] = {} if resources.cpu is None else {"threads": resources.cpu}
    if resources.gpu:
        given["device"] = "cuda"
    return {**given, **spec.params}
