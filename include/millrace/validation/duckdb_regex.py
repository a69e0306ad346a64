r"""A regular expression of Python's in the words of RE2, DuckDB's engine, meaning exactly the same.

Python's own parser reads the pattern, and what it read is written down again with nothing left to either side's habits:
`$` also matches before a newline at the end, `\d`, `\s` and `\w` are Unicode's, `.` is anything but a newline.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterable
from re import _constants as word  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

from millrace.validation.duckdb_column import UncountedError

_MOST_REPEATS = 1000
_ANY_SIGN = r"[\x{0}-\x{10FFFF}]"
_ANY_BUT_NEWLINE = r"[^\x{A}]"
_FLAGS = re.UNICODE | re.DOTALL | re.VERBOSE | re.ASCII
_CATEGORIES = {
    word.CATEGORY_DIGIT: (r"\d", False),
    word.CATEGORY_NOT_DIGIT: (r"\d", True),
    word.CATEGORY_SPACE: (r"\s", False),
    word.CATEGORY_NOT_SPACE: (r"\s", True),
    word.CATEGORY_WORD: (r"\w", False),
    word.CATEGORY_NOT_WORD: (r"\w", True),
}


def to_re2(pattern: str) -> str:
    """The pattern that RE2 finds in exactly those texts in which `re.search` finds the given one.

    Raises:
        UncountedError: it has a part that RE2 lacks, is case-insensitive or multi-line, or is no pattern at all.
    """
    try:
        tree = parser.parse(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UncountedError(f"regular expression {pattern!r}: {error}") from error
    if tree.state.flags & ~_FLAGS:
        raise UncountedError(f"flags of regular expression {pattern!r}")
    return _sequence(list(tree), tree.state.flags, last=True)


def _sequence(items: list[Any], flags: int, *, last: bool) -> str:
    end = len(items) - 1
    return "".join(_item(op, given, flags, last=last and index == end) for index, (op, given) in enumerate(items))


def _item(op: Any, given: Any, flags: int, *, last: bool) -> str:
    if op in (word.LITERAL, word.NOT_LITERAL):
        return _sign(given) if op is word.LITERAL else f"[^{_sign(given)}]"
    if op in (word.ANY, word.IN):
        return _class(given, flags) if op is word.IN else _ANY_SIGN if flags & re.DOTALL else _ANY_BUT_NEWLINE
    if op is word.BRANCH:
        return "(?:" + "|".join(_sequence(list(branch), flags, last=last) for branch in given[1]) + ")"
    if op is word.SUBPATTERN and not given[1] and not given[2]:
        return f"(?:{_sequence(list(given[3]), flags, last=last)})"
    if op in (word.MAX_REPEAT, word.MIN_REPEAT):
        least, most, items = given
        return _repeat(least, most, items, flags)
    if op is word.AT:
        return _place(given, last=last)
    raise UncountedError(f"{op} in a regular expression")


def _repeat(least: int, most: Any, items: Any, flags: int) -> str:
    bound = "" if most is word.MAXREPEAT else int(most)
    if least > _MOST_REPEATS or (bound != "" and int(bound) > _MOST_REPEATS):
        raise UncountedError("a long repetition in a regular expression")
    return f"(?:{_sequence(list(items), flags, last=False)}){{{least},{bound}}}"


def _place(given: Any, *, last: bool) -> str:
    if given in (word.AT_BEGINNING, word.AT_BEGINNING_STRING):
        return r"\A"
    if given is word.AT_END_STRING:
        return r"\z"
    if given is word.AT_END and last:  # RE2 cannot look ahead, but nothing follows
        return r"\x{A}?\z"
    raise UncountedError(f"{given} in a regular expression")


def _class(items: Iterable[tuple[Any, Any]], flags: int) -> str:
    parts, negated = [], ""
    for op, given in items:
        if op is word.NEGATE:
            negated = "^"
        elif op is word.LITERAL:
            parts.append(_sign(given))
        elif op is word.RANGE:
            parts.append(f"{_sign(given[0])}-{_sign(given[1])}")
        elif op is word.CATEGORY and given in _CATEGORIES:
            parts.append(_category(*_CATEGORIES[given], bool(flags & re.ASCII)))
        else:
            raise UncountedError(f"{op} in a class of a regular expression")
    return f"[{negated}{''.join(parts)}]"


@functools.cache
def _category(category: str, negated: bool, ascii_only: bool) -> str:
    """The code points of a category of Python's, as ranges."""
    found = re.compile(category, re.ASCII if ascii_only else 0).match
    ranges: list[list[int]] = []
    for code in range(sys.maxunicode + 1):
        if (found(chr(code)) is None) == negated:
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{_sign(first)}-{_sign(last)}" for first, last in ranges)


def _sign(code: int) -> str:
    return f"\\x{{{code:X}}}"
