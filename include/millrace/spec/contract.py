"""What rows of a source must satisfy, and what a failure does."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from millrace.spec.base import ColumnName, Spec

OnFailure = Literal["block", "quarantine", "warn"]


class ExpectationSpec(Spec):
    """One Great Expectations expectation and what its failure does.

    Attributes:
        type: GX's snake-case name, such as `expect_column_values_to_be_between`.
        kwargs: arguments of the expectation (`column`, `min_value`, `mostly` …).
        on_failure: `block` the partition, set the failing rows in `quarantine` (row-level types only), or `warn`.
        stage: whether it judges `raw` rows, before clean-up, or `clean` ones.
        id: stable name that quarantine reasons carry; by default type and column.
    """

    type: Annotated[str, Field(pattern=r"^expect_[a-z_]+$")]
    kwargs: dict[str, Any] = {}
    on_failure: OnFailure = "block"
    stage: Literal["raw", "clean"] = "clean"
    id: str = ""

    @property
    def name(self) -> str:
        """`id`, or one made of stage, type and columns."""
        columns = [str(self.kwargs[key]) for key in ("column", "column_A", "column_B") if key in self.kwargs]
        columns += [str(item) for item in self.kwargs.get("column_list", [])]
        stage = ["raw"] if self.stage == "raw" else []
        return self.id or ".".join([*stage, self.type.removeprefix("expect_"), *columns])


class HistorySpec(Spec):
    """A measure of a partition held against the same measure of the partitions before it.

    Attributes:
        measure: `row_count`, `null_share` of a column, `mean` of a column, `distinct_count` of a column, or
            `freshness`: hours between the newest value of a timestamp column and the end of the partition.
        column: the column measured; none for `row_count`.
        last: how many earlier partitions it is compared with; the median of them is the yardstick.
        max_relative_change: allowed distance from the yardstick as a share of it.
        max_absolute_change: allowed distance from the yardstick (for `null_share`: 0.1 is ten points).
        max_hours: for `freshness`: the age that is still allowed; earlier partitions play no role.
        on_failure: `block` the partition or `warn`.
    """

    measure: Literal["row_count", "null_share", "mean", "distinct_count", "freshness"]
    column: ColumnName | None = None
    last: Annotated[int, Field(ge=1, le=400)] = 3
    max_relative_change: Annotated[float, Field(ge=0)] | None = None
    max_absolute_change: Annotated[float, Field(ge=0)] | None = None
    max_hours: Annotated[float, Field(ge=0)] | None = None
    on_failure: Literal["block", "warn"] = "warn"

    @property
    def name(self) -> str:
        """Measure and column: what findings and pages call it."""
        return ".".join(["history", self.measure, *([self.column] if self.column else [])])

    @model_validator(mode="after")
    def _complete(self) -> HistorySpec:
        if (self.column is None) != (self.measure == "row_count"):
            raise ValueError("row_count is of the whole partition; every other measure names its `column`")
        if self.measure == "freshness":
            if self.max_hours is None:
                raise ValueError("freshness needs `max_hours`")
        elif self.max_relative_change is None and self.max_absolute_change is None:
            raise ValueError(f"{self.measure} needs `max_relative_change` or `max_absolute_change`")
        return self
