"""Steps that may fail on single values, whose rows are then set aside: cast and derive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from millrace.cleanup.conversion import lossless_cast
from millrace.cleanup.expression import Parsed, parse_expression, unrepeatable_functions
from millrace.cleanup.kind import declared_kind, spoken_kind, storable_kind
from millrace.cleanup.plan import FAULT, ROW, Column, finite
from millrace.cleanup.scope import Scope
from millrace.lake.duck import quoted
from millrace.spec.cleanup import CastStep, DeriveStep


@dataclass(frozen=True, slots=True, kw_only=True)
class _Made:
    """A column about to be made: `sql` gives a struct of its value, null where that failed."""

    sql: str
    column: Column
    number: int


def compile_cast(scope: Scope, step: CastStep) -> list[str]:
    """Columns in other types; a value that would lose something is a fault of its row."""
    plain: dict[str, str] = {}
    made: dict[str, _Made] = {}
    columns = dict(scope.columns)
    for name, declared in step.cast.items():
        kind, target = columns[name].kind, declared_kind(declared)
        cast = lossless_cast(quoted(name), kind, target, scope.clock)
        if cast is None:
            scope.refuse(
                f"column {name!r} holds {spoken_kind(kind)}, of which no value is a {declared}",
                column=name,
                remedy="derive a new column by an expression that says what is meant",
            )
            continue
        columns[name] = Column(kind=target, origins=columns[name].origins)
        if cast.may_fail:
            number = scope.number(f"cleanup.cast.{name}", columns[name].origins)
            made[name] = _Made(sql=cast.sql, column=columns[name], number=number)
        else:
            plain[name] = cast.sql
    selects = [scope.select(plain)] if plain or not made else []
    if made:
        selects += _levels(scope, made)
    scope.leave(columns)
    return selects


def compile_derive(scope: Scope, step: DeriveStep) -> list[str]:
    """New columns; an expression that fails on a value is a fault of its row.

    Expressions that do not rest on one another are put into one SELECT, so that long lists nest little.
    """
    selects: list[str] = []
    made: dict[str, _Made] = {}
    for name, expression in step.derive.items():
        parsed = parse_expression(scope.connection, expression)
        if parsed.names & {other.lower() for other in made}:
            selects += _levels(scope, made)
            made = {}
        found = _bind(scope, name, expression, parsed)
        if found is None:
            return selects
        made[name] = found
        scope.leave({**scope.columns, name: found.column})
    return [*selects, *_levels(scope, made)]


def _bind(scope: Scope, name: str, expression: str, parsed: Parsed) -> _Made | None:
    refusal, kind = _compiled(scope, expression, parsed)
    if refusal:
        scope.refuse(f"clean-up of {name!r}: {refusal}", column=name, remedy="correct the expression")
        return None
    if moving := unrepeatable_functions(parsed):
        scope.refuse(
            f"clean-up of {name!r} calls {', '.join(moving)}, which gives another value at every run",
            column=name,
            remedy="compute it from the data's own columns",
        )
        return None
    origins = scope.origins(parsed.names)
    return _Made(
        sql=f"TRY(struct_pack(v := CAST((\n{expression}\n) AS {kind})))",
        column=Column(kind=kind, origins=origins),
        number=scope.number(f"cleanup.derive.{name}", origins),
    )


def _compiled(scope: Scope, expression: str, parsed: Parsed) -> tuple[str, str]:
    """What is wrong with an expression, or the type of the column it makes."""
    import duckdb

    if parsed.fault:
        return parsed.fault, ""
    sql = f"SELECT TRY(struct_pack(v := (\n{expression}\n))) FROM ({scope.typed_nulls()})"
    try:
        kind = dict(scope.connection.sql(sql).types[0].children)["v"]
    except duckdb.Error as error:
        return _first_lines(error), ""
    stored = storable_kind(kind)
    if stored is None:
        return f"a column cannot hold {kind}; cast it to a number, text, date or timestamp", ""
    return "", stored


def _first_lines(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    more = [line for line in lines[1:2] if line.startswith(("Candidate", "Did you mean"))]
    return " ".join([*lines[:1], *more])


def _levels(scope: Scope, made: dict[str, _Made]) -> list[str]:
    """Two SELECTs: one tries, one takes the values out and notes the first fault of each row."""
    if not made:
        return []
    standing = [quoted(name) for name in scope.columns if name not in made]
    tried = [f"{item.sql} AS {_tried(name)}" for name, item in made.items()]
    taken = [_taken(name, made[name]) if name in made else quoted(name) for name in scope.columns]
    cases = " ".join(f"WHEN {_tried(name)} IS NULL THEN {item.number}" for name, item in made.items())
    fault = f"coalesce({quoted(FAULT)}, CASE {cases} END) AS {quoted(FAULT)}"
    return [
        ", ".join([*standing, *tried, quoted(ROW), quoted(FAULT)]),
        ", ".join([*taken, quoted(ROW), fault]),
    ]


def _tried(name: str) -> str:
    return quoted(f"{name}!")


def _taken(name: str, made: _Made) -> str:
    value = f"struct_extract({_tried(name)}, 'v')"
    return f"{finite(value, made.column.kind)} AS {quoted(name)}"
