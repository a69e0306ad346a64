"""The declared signature of a model that was trained elsewhere: what it reads, in which order, and what it answers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, model_validator

from millrace.spec.base import ColumnName, Name, Spec
from millrace.spec.candidate import ClassName

ModelFormat = Literal["onnx", "xgboost", "lightgbm", "skops"]
InputName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A number as it is written: neither a truth value nor a text with digits."""
_EXACT_CODE = 2**24


class NumberInput(Spec):
    """An input that is a number.

    Attributes:
        name: what the model calls it.
        feature: the feature of the use case; of the same name by default.
        missing: number that stands for a missing value; by default the model gets NaN.
    """

    type: Literal["number"]
    name: InputName
    feature: ColumnName | None = None
    missing: Number | None = None


class CategoryInput(Spec):
    """An input that is a category, given to the model as a code or as its text.

    Attributes:
        name: what the model calls it.
        feature: the feature of the use case; of the same name by default.
        text: whether the model takes the text itself.
        categories: the categories in the order of their codes from 0 on, or category → code. Of texts they may be left
            out: they are then those of the use case's rows before the holdout.
        unseen: code or text of a category that is not among them; by default NaN, or a text that none has.
        missing: code or text of a missing value; by default NaN, or an empty text.
    """

    type: Literal["category"]
    name: InputName
    feature: ColumnName | None = None
    text: bool = False
    categories: list[str] | dict[str, Number] = []
    unseen: Number | str | None = None
    missing: Number | str | None = None

    @property
    def codes(self) -> dict[str, float]:
        """Category → code."""
        if isinstance(self.categories, dict):
            return dict(self.categories)
        return {text: float(place) for place, text in enumerate(self.categories)}

    @model_validator(mode="after")
    def _consistent(self) -> CategoryInput:
        if isinstance(self.categories, list) and len(set(self.categories)) < len(self.categories):
            raise ValueError(f"{self.name}: a category stands twice")
        if self.text and isinstance(self.categories, dict):
            raise ValueError(f"{self.name}: codes of categories and text: true exclude each other")
        if not self.text and not self.categories:
            raise ValueError(f"{self.name}: categories is missing: list them in the order of the model's codes")
        wanted: type = str if self.text else float
        for key, value in (("unseen", self.unseen), ("missing", self.missing)):
            if value is not None and not isinstance(value, wanted):
                raise ValueError(f"{self.name}: {key} must be a {'text' if self.text else 'number'} here")
        if max((abs(code) for code in self.codes.values()), default=0) > _EXACT_CODE:
            raise ValueError(f"{self.name}: a code lies beyond ±{_EXACT_CODE}, which a float32 does not hold exactly")
        return self


class OutputSpec(Spec):
    """What the model answers.

    Attributes:
        name: output of an ONNX model; by default the one that is no label.
        classes: what its columns mean, in their order; by default the model's own order, else that of the use case
            (`"0"`, `"1"` of a binary one).
        link: what makes probabilities of what it answers: nothing, the logistic function, or softmax.
    """

    name: str = ""
    classes: list[ClassName] = []
    link: Literal["identity", "logit", "softmax"] = "identity"


class Example(Spec):
    """Rows with what the model answers to them where it was trained: a proof that codes and order are right.

    Attributes:
        rows: feature → value, row by row.
        predictions: probability of 1, value, or the probability of each class.
        tolerance: greatest difference that is let pass.
    """

    rows: Annotated[list[dict[ColumnName, Any]], Field(min_length=1, max_length=1000)]
    predictions: Annotated[list[Number | list[Number]], Field(min_length=1)]
    tolerance: Annotated[Number, Field(gt=0, le=0.01)] = 1e-5

    @model_validator(mode="after")
    def _consistent(self) -> Example:
        if len(self.rows) != len(self.predictions):
            raise ValueError(f"{len(self.rows)} rows have {len(self.predictions)} predictions")
        return self


class SignatureSpec(Spec):
    """The signature that is declared with a model from elsewhere.

    Attributes:
        name: name of the model among the candidates.
        source: where it comes from, for people: who made it, of what, which build.
        format: of the file, where neither its name nor MLflow says so.
        problem: what it answers; it must be the use case's.
        trained_through: last partition whose rows it learned from, by the word of whoever declares it; None where
            nobody knows.
        library: what trained it, such as `scikit-learn 1.9`.
        inputs: its inputs in its own order; may be left out where the model names numbers by the features' names.
        ignores: features of the use case that it does not read.
        output: what it answers.
        examples: rows to prove the import by.
    """

    name: Name = "imported"
    source: Annotated[str, StringConstraints(strip_whitespace=True, min_length=3, max_length=500)]
    format: ModelFormat | None = None
    problem: Literal["binary", "multiclass", "regression"]
    trained_through: Annotated[str, StringConstraints(min_length=4, max_length=40)] | None = None
    library: Annotated[str, StringConstraints(max_length=100)] = ""
    inputs: list[Annotated[NumberInput | CategoryInput, Field(discriminator="type")]] = []
    ignores: list[ColumnName] = []
    output: OutputSpec = OutputSpec()
    examples: Example | None = None

    @model_validator(mode="after")
    def _consistent(self) -> SignatureSpec:
        names = [item.name for item in self.inputs]
        features = [item.feature or item.name for item in self.inputs]
        for what, found in (("input", names), ("feature", features)):
            if doubled := sorted({name for name in found if found.count(name) > 1}):
                raise ValueError(f"{what} {', '.join(doubled)} stands twice")
        if both := sorted(set(features) & set(self.ignores)):
            raise ValueError(f"{', '.join(both)} stands in inputs and in ignores")
        return self
