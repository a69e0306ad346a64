"""Steps that change single values and cannot fail on one: rename, fill, clip, map and drop."""

from __future__ import annotations

from millrace.cleanup.kind import FLOATS, INTEGERS, spoken_kind
from millrace.cleanup.literal import common_kind, literal, parsed
from millrace.cleanup.plan import FAULT, ROW, Column
from millrace.cleanup.scope import Scope
from millrace.lake.duck import quoted
from millrace.spec.cleanup import ClipRange, ClipStep, DropStep, FillStep, MapStep, RenameStep, Scalar
from millrace.spec.clock import Clock


def compile_rename(scope: Scope, step: RenameStep) -> list[str]:
    """Columns under their new names."""
    names = {name: step.rename.get(name, name) for name in scope.columns}
    select = [f"{quoted(old)} AS {quoted(new)}" for old, new in names.items()]
    scope.leave({names[old]: column for old, column in scope.columns.items()})
    return [", ".join([*select, quoted(ROW), quoted(FAULT)])]


def compile_drop(scope: Scope, step: DropStep) -> list[str]:
    """All columns but some."""
    scope.leave({name: column for name, column in scope.columns.items() if name not in step.drop})
    return [scope.select({})]


def compile_fill(scope: Scope, step: FillStep) -> list[str]:
    """A value for null."""
    changed = {}
    for name, value in step.fill.items():
        kind = scope.columns[name].kind
        sql = literal(value, kind, scope.clock)
        if sql is None:
            _refuse_value(scope, name, value)
            continue
        changed[name] = f"coalesce({quoted(name)}, {sql})"
    return [scope.select(changed)]


def compile_clip(scope: Scope, step: ClipStep) -> list[str]:
    """Numbers within bounds; null stays null."""
    changed = {}
    for name, bounds in step.clip.items():
        kind = scope.columns[name].kind
        if kind not in INTEGERS and kind not in FLOATS:
            scope.refuse(
                f"column {name!r} holds {spoken_kind(kind)}, and only numbers have bounds",
                column=name,
                remedy="clip a number",
            )
        elif sql := _clipped(scope, name, kind, bounds):
            changed[name] = sql
    return [scope.select(changed)]


def compile_map(scope: Scope, step: MapStep) -> list[str]:
    """New values for old ones, in the narrowest type that holds the column's own values and the new ones."""
    changed = {}
    columns = dict(scope.columns)
    for name, table in step.map.items():
        column = columns[name]
        kind = common_kind(column.kind, table.values(), scope.clock)
        if kind is None:
            _refuse_value(scope, name, _misfit(table.values(), column.kind, scope.clock))
            continue
        if cases := _cases(scope, name, table, kind):
            value = quoted(name)
            changed[name] = f"CASE {' '.join(cases)} ELSE CAST({value} AS {kind}) END"
            columns[name] = Column(kind=kind, origins=column.origins)
    select = scope.select(changed)
    scope.leave(columns)
    return [select]


def _clipped(scope: Scope, name: str, kind: str, bounds: ClipRange) -> str:
    low, high = bounds.min, bounds.max
    if low is None and high is None:
        scope.refuse("neither `min` nor `max` is given", column=name, remedy="give one of them, or leave the step out")
        return ""
    if low is not None and high is not None and low > high:
        scope.refuse(f"`min` {low:g} is above `max` {high:g}", column=name, remedy="exchange them")
        return ""
    value, cases = quoted(name), []
    for sign, bound in (("<", low), (">", high)):
        if bound is None:
            continue
        sql = literal(bound, kind)
        if sql is None:
            _refuse_value(scope, name, bound)
            return ""
        cases.append(f"WHEN {value} {sign} {sql} THEN {sql}")
    return f"CASE {' '.join(cases)} ELSE {value} END"


def _cases(scope: Scope, name: str, table: dict[str, Scalar], kind: str) -> list[str]:
    old_kind = scope.columns[name].kind
    seen: dict[str, str] = {}
    cases = []
    for written, value in table.items():
        old = parsed(written, old_kind)
        sql = None if old is None else literal(old, old_kind, scope.clock)
        if sql is None:
            scope.refuse(
                f"{written!r} writes no {spoken_kind(old_kind)}, so column {name!r} cannot hold it",
                column=name,
                remedy="name a value the column can hold",
            )
            return []
        if other := seen.get(sql):
            scope.refuse(f"{other!r} and {written!r} are one value", column=name, remedy="name it once")
            return []
        seen[sql] = written
        cases.append(f"WHEN {quoted(name)} = {sql} THEN {literal(value, kind, scope.clock)}")
    return cases


def _misfit(values: object, kind: str, clock: Clock | None) -> Scalar:
    given: list[Scalar] = list(values)  # type: ignore[call-overload]
    return next((value for value in given if literal(value, kind, clock) is None), given[0])


def _refuse_value(scope: Scope, name: str, value: Scalar) -> None:
    kind = spoken_kind(scope.columns[name].kind)
    scope.refuse(
        f"{value!r} does not fit column {name!r}, which holds {kind}",
        column=name,
        remedy=f"write a {kind}, or cast the column first",
    )
