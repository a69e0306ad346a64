"""Clean-up: the declared steps that make a clean row of a raw one, in their order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from millrace.spec.base import ColumnName, ColumnType, Spec

Scalar = bool | int | float | str
CALLABLE = r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$"


class RenameStep(Spec):
    """Old name → new name."""

    rename: Annotated[dict[ColumnName, ColumnName], Field(min_length=1)]


class CastStep(Spec):
    """Column → type; a value that would lose something by it is set in quarantine."""

    cast: Annotated[dict[ColumnName, ColumnType], Field(min_length=1)]


class DeriveStep(Spec):
    """New column → SQL expression (DuckDB) over the columns there are, those derived before it included."""

    derive: Annotated[dict[ColumnName, str], Field(min_length=1)]


class FillStep(Spec):
    """Column → value that takes the place of null."""

    fill: Annotated[dict[ColumnName, Scalar], Field(min_length=1)]


class ClipRange(Spec):
    """Bounds of a number; None leaves that side open."""

    min: float | None = None
    max: float | None = None


class ClipStep(Spec):
    """Column → bounds; a value beyond one becomes that bound."""

    clip: Annotated[dict[ColumnName, ClipRange], Field(min_length=1)]


class MapStep(Spec):
    """Column → old value → new value; values that are not listed stay."""

    map: Annotated[dict[ColumnName, dict[str, Scalar]], Field(min_length=1)]


class DeduplicateStep(Spec):
    """Of rows that are equal in `by`, one stays; the others are set in quarantine as `duplicate_superseded`.

    Attributes:
        deduplicate: columns that make rows equal.
        keep: which stays, `first` or `last` in the order of `order_by`, then of arrival.
        order_by: column that orders them.
    """

    deduplicate: Annotated[list[ColumnName], Field(min_length=1)]
    keep: Literal["first", "last"] = "last"
    order_by: ColumnName | None = None


class DropStep(Spec):
    """Columns that the clean table leaves out."""

    drop: Annotated[list[ColumnName], Field(min_length=1)]


class PythonStep(Spec):
    """A function of the team's: `pyarrow.RecordBatch` in, a batch of the same rows out.

    Attributes:
        python: `package.module:function`.
        adds: column → type of the columns it adds.
    """

    python: Annotated[str, Field(pattern=CALLABLE)]
    adds: dict[ColumnName, ColumnType] = {}


_STEPS = {
    "rename": RenameStep,
    "cast": CastStep,
    "derive": DeriveStep,
    "fill": FillStep,
    "clip": ClipStep,
    "map": MapStep,
    "deduplicate": DeduplicateStep,
    "drop": DropStep,
    "python": PythonStep,
}


def verb_of(value: Any) -> str:
    """What a step is called: the key that tells it apart. `none` where it has none."""
    if isinstance(value, Mapping):
        return next((verb for verb in _STEPS if verb in value), "none")
    return next((verb for verb, kind in _STEPS.items() if isinstance(value, kind)), "none")


CleanupStep = Annotated[
    Annotated[RenameStep, Tag("rename")]
    | Annotated[CastStep, Tag("cast")]
    | Annotated[DeriveStep, Tag("derive")]
    | Annotated[FillStep, Tag("fill")]
    | Annotated[ClipStep, Tag("clip")]
    | Annotated[MapStep, Tag("map")]
    | Annotated[DeduplicateStep, Tag("deduplicate")]
    | Annotated[DropStep, Tag("drop")]
    | Annotated[PythonStep, Tag("python")],
    Discriminator(
        verb_of,
        custom_error_type="unknown_step",
        custom_error_message=f"a clean-up step is one of {', '.join(_STEPS)}",
    ),
]


def names_after(columns: Iterable[str], steps: Iterable[CleanupStep]) -> list[str]:
    """Names of the columns after the steps, in their order.

    Raises:
        ValueError: a step names a column that is not there at its place, or makes one that is.
    """
    present = list(columns)
    for index, step in enumerate(steps):
        verb = verb_of(step)
        for name in _touched(step):
            if name not in present:
                raise ValueError(f"cleanup step {index + 1} ({verb}) names column {name!r}, which is not there")
        if isinstance(step, RenameStep):
            present = [step.rename.get(name, name) for name in present]
        elif isinstance(step, DropStep):
            present = [name for name in present if name not in step.drop]
        else:
            present += _made(step)
        if doubled := sorted({name for name in present if present.count(name) > 1}):
            raise ValueError(f"cleanup step {index + 1} ({verb}) makes column {doubled[0]!r}, which is there already")
    return present


def _touched(step: CleanupStep) -> list[str]:  # noqa: PLR0911  # one line for each kind of step
    match step:
        case RenameStep():
            return list(step.rename)
        case CastStep():
            return list(step.cast)
        case FillStep():
            return list(step.fill)
        case ClipStep():
            return list(step.clip)
        case MapStep():
            return list(step.map)
        case DropStep():
            return step.drop
        case DeduplicateStep():
            return [*step.deduplicate, *([step.order_by] if step.order_by else [])]
        case _:
            return []


def _made(step: CleanupStep) -> list[str]:
    match step:
        case DeriveStep():
            return list(step.derive)
        case PythonStep():
            return list(step.adds)
        case _:
            return []
