"""What is done with rows that share a key, and with those that come too late."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from millrace.spec.base import ColumnName, Spec


class DuplicatesSpec(Spec):
    """What happens where a key stands more than once. Of equal copies one always stays.

    Attributes:
        policy: `quarantine` all that differ, since nothing tells which is right; `keep_last` by `version` and
            quarantine the others as `duplicate_superseded`; or `block` the partition.
        version: column whose greatest value wins under `keep_last`.
    """

    policy: Literal["quarantine", "keep_last", "block"] = "quarantine"
    version: ColumnName | None = None

    @model_validator(mode="after")
    def _version_named(self) -> DuplicatesSpec:
        if (self.policy == "keep_last") != (self.version is not None):
            raise ValueError("keep_last needs `version`, the column whose greatest value wins; others take none")
        return self


class LateSpec(Spec):
    """What happens with rows that appear in a partition after it was closed.

    Attributes:
        policy: `merge` them as if they had been there; `quarantine` them with reason `late`; or open a `correction`:
            quarantine them and ask in the ledger for somebody's decision.
        closes_after_hours: hours after a partition's end from which it counts as closed, once it was published.
    """

    policy: Literal["merge", "quarantine", "correction"] = "merge"
    closes_after_hours: Annotated[float, Field(ge=0)] = 0
