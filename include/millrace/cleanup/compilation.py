"""The steps of a clean-up made into SQL; every fault of theirs is found here, without any rows."""

from __future__ import annotations

from typing import assert_never

import pyarrow as pa

from millrace.cleanup.expression import isolated
from millrace.cleanup.function import load_function
from millrace.cleanup.kind import declared_kind
from millrace.cleanup.plan import Column, Plan, PlannedStep
from millrace.cleanup.row_step import compile_clip, compile_drop, compile_fill, compile_map, compile_rename
from millrace.cleanup.scope import Scope
from millrace.cleanup.value_step import compile_cast, compile_derive
from millrace.errors import SpecError
from millrace.spec.cleanup import (
    CastStep,
    CleanupStep,
    ClipStep,
    DeduplicateStep,
    DeriveStep,
    DropStep,
    FillStep,
    MapStep,
    PythonStep,
    RenameStep,
    verb_of,
)
from millrace.spec.source import SourceSpec


def compile_cleanup(spec: SourceSpec, *, where: str) -> Plan:
    """The clean-up of a source as SQL.

    Args:
        spec: the source.
        where: name of table and partition; the place of a fault in the spec is put behind it.

    Raises:
        SpecError: a step cannot work.
    """
    plan, faults = _compile(spec)
    if faults:
        raise SpecError(faults[0].what, where=f"{where}, {faults[0].where}", remedy=faults[0].remedy)
    return plan


def check_cleanup(spec: SourceSpec, where: str) -> list[SpecError]:
    """What is wrong with the first step that cannot work; those after it may rest on it. Empty where all can.

    Args:
        spec: the source.
        where: its key, such as `flights.sources.weather`.
    """
    return [SpecError(fault.what, where=f"{where}.{fault.where}", remedy=fault.remedy) for fault in _compile(spec)[1]]


def clean_schema(spec: SourceSpec) -> pa.Schema:
    """Names and Arrow types of the clean columns, found without any rows.

    Raises:
        SpecError: a step of the clean-up cannot work.
    """
    plan, faults = _compile(spec)
    if faults:
        raise faults[0]
    return plan.schema


def _compile(spec: SourceSpec) -> tuple[Plan, list[SpecError]]:
    with isolated() as connection:
        scope = Scope(connection, spec)
        raw = scope.columns
        steps: list[PlannedStep] = []
        for index, step in enumerate(spec.cleanup):
            if not scope.refusals:
                steps.append(_compile_step(scope, index, step))
        return Plan(raw=raw, steps=tuple(steps), columns=scope.columns), scope.refusals


def _compile_step(scope: Scope, index: int, step: CleanupStep) -> PlannedStep:
    label = f"cleanup[{index}].{verb_of(step)}"
    scope.enter(label)
    before = scope.columns
    selects = _selects(scope, step)
    return PlannedStep(
        step=step,
        label=label,
        selects=tuple(selects),
        faults=scope.faults,
        before=before,
        after=scope.columns,
    )


def _selects(scope: Scope, step: CleanupStep) -> list[str]:  # noqa: PLR0911  # one line for each kind of step
    match step:
        case RenameStep():
            return compile_rename(scope, step)
        case CastStep():
            return compile_cast(scope, step)
        case DeriveStep():
            return compile_derive(scope, step)
        case FillStep():
            return compile_fill(scope, step)
        case ClipStep():
            return compile_clip(scope, step)
        case MapStep():
            return compile_map(scope, step)
        case DropStep():
            return compile_drop(scope, step)
        case DeduplicateStep():
            return []
        case PythonStep():
            return _compile_python(scope, step)
        case _:
            assert_never(step)


def _compile_python(scope: Scope, step: PythonStep) -> list[str]:
    """No SQL: the function is found, its new columns are noted, and that it may leave rows out."""
    try:
        load_function(step.python)
    except SpecError as error:
        scope.refuse(error.what, column=step.python, remedy=error.remedy)
    scope.number(f"cleanup.python.{step.python.partition(':')[2]}", ())
    added = {name: Column(kind=declared_kind(kind), origins=()) for name, kind in step.adds.items()}
    scope.leave({**scope.columns, **added})
    return []
