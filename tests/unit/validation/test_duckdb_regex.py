from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.lake import duck
from millrace.validation.duckdb_column import UncountedError
from millrace.validation.duckdb_regex import to_re2

SIGNS = "ab1 \n_é٣\x00日😀-$\\'\t\x1c\xa0"


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    made = duck.connect(external=False)
    yield made
    made.close()


def found(connection: Any, pattern: str, texts: list[str]) -> list[bool]:
    connection.register("texts", pa.table({"place": range(len(texts)), "text": texts}))
    told = connection.execute(
        f"SELECT regexp_matches(text, {duck.text(to_re2(pattern))}) FROM texts ORDER BY place"
    ).fetchall()
    return [row[0] for row in told]


def words(count: int = 300) -> list[str]:
    draw = random.Random(7)
    return ["", *("".join(draw.choices(SIGNS, k=draw.randint(1, 5))) for _ in range(count))]


@pytest.mark.parametrize(
    "pattern",
    [
        "^[a-z]+$",
        "a$|b",
        r"\d",
        r"\D\s",
        r"^\w+$",
        r"^\W*$",
        r"[^\w\s]",
        "(?a)^\\w+$",
        ".",
        "^.$",
        "(?s)^.$",
        "(?x) a  b # both",
        r"^a{2,3}?b*\Z",
        "(?:a|b1)+$",
        "(?P<name>a)é",
        "[a-b1-9$]",
        "^$",
        "",
        r"[\\'\-]",
        r"\x00",
        "日|😀",
        r"a{,2}1",
        r"(a$|b\Z)",
        r"\$",
        "[^a]$",
        r"\n$",
    ],
)
def test_the_same_texts_are_found_as_in_python(connection: Any, pattern: str) -> None:
    texts = words()
    assert found(connection, pattern, texts) == [re.search(pattern, text) is not None for text in texts]


PIECES = st.sampled_from(["a", "b", "1", ".", r"\d", r"\w", r"\s", "[ab]", "[^a]", "é", r"\n", "(?:ab|1)", "(a|)"])
REPEATED = st.tuples(PIECES, st.sampled_from(["", "", "*", "+", "?", "{2}", "{0,2}?"])).map("".join)
PATTERNS = st.tuples(
    st.sampled_from(["", "^", r"\A"]), st.lists(REPEATED, max_size=4).map("".join), st.sampled_from(["", "$", r"\Z"])
).map("".join)


@settings(max_examples=60, deadline=None)
@given(pattern=PATTERNS, texts=st.lists(st.text(SIGNS, max_size=5), min_size=1, max_size=20))
def test_any_pattern_of_common_parts_means_the_same(connection: Any, pattern: str, texts: list[str]) -> None:
    assert found(connection, pattern, texts) == [re.search(pattern, text) is not None for text in texts]


@pytest.mark.parametrize(
    "pattern",
    [
        "(?=a)b",
        "(?<!a)b",
        r"(a)\1",
        r"\ba",
        "(?i)a",
        "(?m)^a",
        "a$b",
        "(a$)*",
        "(?i:a)b",
        "a{2000}",
        "(?>a)",
        "a*+",
        "([",
    ],
)
def test_what_re2_lacks_or_means_otherwise_is_refused(pattern: str) -> None:
    with pytest.raises(UncountedError):
        to_re2(pattern)
