"""What the texts of a column look like: a regular expression that (nearly) all of them match."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import Any

from millrace.lake.duck import quoted, text

_SAMPLE = 20_000
_LONGEST = 64
_ENOUGH = 0.95
_CLASSES = {"9": "[0-9]", "A": "[A-Z]", "a": "[a-z]"}
_SPECIAL = r"[.^$*+?{}\[\]\\|()]"
_PLAIN = "^[A-Za-z0-9_.:/-]+$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A pattern and how far it reaches.

    Attributes:
        pattern: regular expression with both anchors.
        share: share of the sampled texts that match it.
    """

    pattern: str
    share: float


def shape_of(connection: Any, table: str, column: str) -> Shape | None:
    """The most telling pattern that at least 95 % of a column's texts match; None for free text.

    Tried in this order: one layout (`[A-Z]{2}-[0-9]{4}`), one sequence of classes (`[A-Z]+[0-9]+`), one alphabet with
    the lengths seen (`[A-Z0-9]{5,6}`). Texts are sampled by a hash of their content.
    """
    layout = _layout(quoted(column))
    run = f"regexp_replace(regexp_replace(regexp_replace({layout}, '9+', '9', 'g'), 'A+', 'A', 'g'), 'a+', 'a', 'g')"
    name, source = quoted(column), quoted(table)
    present, longest, alike = connection.execute(
        f"SELECT count({name}), max(length({name})), avg(CAST(regexp_matches({name}, {text(_PLAIN)}) AS INTEGER))"
        f" FROM {source}"
    ).fetchone()
    if not present or longest > _LONGEST or not longest:
        return None
    every = -(-present // _SAMPLE)
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW _shapes AS SELECT {layout} AS layout, {run} AS run FROM {source}"
        f" WHERE {name} IS NOT NULL AND hash({name}) % {every} = 0"
    )
    for way, repeat in (("layout", "{%d}"), ("run", "+")):
        counts = connection.execute(
            f"SELECT {way}, count(*), sum(count(*)) OVER () FROM _shapes GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT 1"
        ).fetchone()
        if counts and counts[0] and counts[1] >= _ENOUGH * counts[2]:
            return Shape(pattern=_pattern(counts[0], repeat), share=round(float(counts[1] / counts[2]), 12))
    return _alphabet(connection, column, table) if alike == 1 else None


def _layout(name: str) -> str:
    digits = f"regexp_replace({name}, '[0-9]', '9', 'g')"
    return f"regexp_replace(regexp_replace({digits}, '[A-Z]', 'A', 'g'), '[a-z]', 'a', 'g')"


def _pattern(shape: str, repeat: str) -> str:
    parts = []
    for sign, group in itertools.groupby(shape):
        count = len(list(group))
        if sign not in _CLASSES:
            parts.append(re.sub(_SPECIAL, r"\\\g<0>", sign) * count)
        elif repeat == "+":
            parts.append(f"{_CLASSES[sign]}+")
        else:
            parts.append(_CLASSES[sign] + (repeat % count if count > 1 else ""))
    return f"^{''.join(parts)}$"


def _alphabet(connection: Any, column: str, table: str) -> Shape:
    name = quoted(column)
    classes = ["A-Z", "a-z", "0-9", "_", "\\.", ":", "/", "-"]
    tests = ", ".join(f"bool_or(regexp_matches({name}, {text(f'[{item}]')}))" for item in classes)
    low, high, *found = connection.execute(
        f"SELECT min(length({name})), max(length({name})), {tests} FROM {quoted(table)}"
    ).fetchone()
    letters = "".join(item for item, there in zip(classes, found, strict=True) if there)
    return Shape(pattern=f"^[{letters}]{{{low},{high}}}$", share=1.0)
