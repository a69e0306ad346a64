"""A function of the team's as a source: what it may yield, and what becomes of its failures."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from tests.unit.ingestion.one_pass import FEBRUARY, JANUARY, no_connections, notes_of, rejects_of, rows_of

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.base import Connection
from millrace.ingestion.python_source import PythonSource
from millrace.partition import Partition
from millrace.spec.source import PythonSourceSpec

Make = Callable[..., PythonSource]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes the module `team_rows` that functions of a test live in."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(body: str) -> None:
        text = "import pyarrow as pa\n" + body
        (tmp_path / "team_rows.py").write_text(text, encoding="utf-8")

    yield write
    sys.modules.pop("team_rows", None)


def source(function: str = "rows", **changes: Any) -> PythonSource:
    spec = {
        **{"kind": "python", "function": f"team_rows:{function}", "columns": {"id": "int32", "name": "string"}},
        **{"key": ["id"], **changes},
    }
    return PythonSource(spec=PythonSourceSpec.model_validate(spec), connections=no_connections, first="2020-01")


def test_it_may_yield_batches_tables_and_lists_of_dicts(module: Callable[[str], None]) -> None:
    module(
        "def rows(partition):\n"
        "    yield pa.record_batch({'name': ['a'], 'id': [1], 'more': [0]})\n"
        "    yield pa.table({'id': [2.0], 'name': pa.array(['b']).dictionary_encode()})\n"
        "    yield [{'id': '3', 'name': 'c'}, {'id': 4}]\n"
        "    yield []\n"
    )
    assert rows_of(source()) == [
        {"id": 1, "name": "a"},
        {"id": 2, "name": "b"},
        {"id": 3, "name": "c"},
        {"id": 4, "name": None},
    ]
    assert notes_of(source()) == ["not declared, so not read: more"]


def test_it_is_asked_for_the_partition(module: Callable[[str], None]) -> None:
    module("def rows(partition):\n    return iter([[{'id': 1, 'name': partition.key}]])\n")
    assert rows_of(source(), FEBRUARY) == [{"id": 1, "name": "2020-02"}]
    assert source().fingerprint(JANUARY) is None


def test_values_of_several_types_in_a_field_are_told_apart_row_by_row(module: Callable[[str], None]) -> None:
    module(
        "def rows(partition):\n"
        "    yield [{'id': 1, 'name': 'a'}, {'id': '2', 'name': 7}, {'id': 3.5, 'name': None}, {'id': [4], 'name': {}},"
        " {'id': 2**70, 'name': 'e'}, 'six', {'id': 7, 'name': '\\ud800'}]\n"
    )
    assert rows_of(source()) == [{"id": 1, "name": "a"}, {"id": 2, "name": "7"}]
    found = rejects_of(source())
    assert [(row["line"], row["reason"], row.get("column")) for row in found] == [
        (3, "type", "id"),
        (4, "type", "id"),
        (5, "type", "id"),
        (6, "parse", None),
        (7, "type", "name"),
    ]
    assert [row["raw"] for row in found[:2]] == ['{"id":3.5,"name":null}', '{"id":[4],"name":{}}']


def test_a_field_that_no_record_has_is_a_missing_column(module: Callable[[str], None]) -> None:
    module("def rows(partition):\n    yield [{'id': 1}]\n    yield [{'id': 2}]\n")
    with pytest.raises(SourceError, match="column 'name' is missing"):
        rows_of(source())


@pytest.mark.parametrize(
    ("body", "told", "kind"),
    [
        (
            "def rows(partition):\n    yield [{'id': 1, 'name': 'a'}]\n    raise KeyError('shelf')",
            "KeyError: 'shelf'",
            None,
        ),
        ("def rows(partition):\n    raise ConnectionResetError('gone')", "gone", SourceUnavailableError),
        ("def rows(partition):\n    yield from ()\n    raise TimeoutError('late')", "late", SourceUnavailableError),
        ("def rows(partition):\n    yield {'id': 1}", "yielded dict", None),
        ("def rows(partition):\n    return 5", "returned int", None),
        ("def rows():\n    yield []", "TypeError", None),
        ("rows = 5", "no function 'rows'", None),
        ("import nowhere_at_all", "nowhere_at_all", None),
    ],
)
def test_a_failure_names_the_function_and_what_it_said(
    module: Callable[[str], None], body: str, told: str, kind: type[SourceError] | None
) -> None:
    module(body)
    with pytest.raises(SourceError, match="team_rows") as caught:
        rows_of(source())
    assert told in str(caught.value)
    assert type(caught.value) is (kind or SourceError)
    assert caught.value.remedy


def test_it_is_handed_its_connection_whose_secrets_no_error_tells(module: Callable[[str], None]) -> None:
    module(
        "def rows(partition, *, connection):\n"
        "    yield [{'id': 1, 'name': connection.host}]\n"
        "    raise RuntimeError(f'refused {connection.password}')\n"
    )
    spec = source(connection="shop").spec
    reader = PythonSource(
        spec=spec, connections=lambda name: Connection(name=name, kind="http", host="h", password="hunter2")
    )
    found = reader.read(Partition("2020-01")).batches()
    assert next(found).to_pylist() == [{"id": 1, "name": "h"}]
    with pytest.raises(SourceError, match=r"refused \*\*\*"):
        next(found)


def test_large_tables_are_passed_on_in_pieces(module: Callable[[str], None]) -> None:
    module("def rows(partition):\n    yield pa.table({'id': range(200_000), 'name': ['x'] * 200_000})\n")
    sizes = [batch.num_rows for batch in source().read(JANUARY).batches()]
    assert sum(sizes) == 200_000
    assert max(sizes) <= 1 << 16


def test_records_of_no_partition_are_set_aside(module: Callable[[str], None]) -> None:
    module("def rows(partition):\n    yield pa.table({'id': [1, 2, None, 1], 'name': ['a', 'b', 'c', 'd']})\n")
    reader = source(partition_columns={"id": "%m"})
    assert [row["name"] for row in rows_of(reader)] == ["a", "d"]
    assert [(row["line"], row["partition_key"]) for row in rejects_of(reader)] == [(3, "unassigned")]


def test_the_declared_schema_is_what_batches_have(module: Callable[[str], None]) -> None:
    module("def rows(partition):\n    yield [{'id': 1, 'name': 'a'}]\n")
    reader = source()
    assert reader.schema == pa.schema([("id", pa.int32()), ("name", pa.string())])
    assert all(batch.schema == reader.schema for batch in reader.read(JANUARY).batches())
    assert reader.origin == "python:team_rows:rows"


@pytest.mark.parametrize(
    "body",
    [
        "def rows(partition):\n    yield []\n    raise SystemExit(3)\n",
        "import sys\ndef rows(partition):\n    sys.exit(3)\n",
        "import sys\nsys.exit(3)\n",
    ],
)
def test_a_function_that_ends_the_process_is_a_source_error(module: Callable[[str], None], body: str) -> None:
    module(body)
    with pytest.raises(SourceError, match=r"team_rows.*SystemExit: 3"):
        rows_of(source())


def test_truth_values_among_numbers_and_records_that_are_no_dicts_are_set_aside(module: Callable[[str], None]) -> None:
    module("def rows(partition):\n    yield [{'id': True, 'name': True}]\n    yield [{'id': 2, 'name': 'b'}, 5]\n")
    assert rows_of(source()) == [{"id": 2, "name": "b"}]
    assert [(row["line"], row["reason"]) for row in rejects_of(source())] == [(1, "type"), (3, "parse")]
    module("def odd(partition):\n    yield [5, None]\n")
    sys.modules.pop("team_rows")
    assert [row["reason"] for row in rejects_of(source("odd"))] == ["parse", "parse"]


def test_keys_of_a_personal_source_are_counted_and_not_named(module: Callable[[str], None]) -> None:
    module("def rows(partition):\n    yield [{'id': 1, 'name': 'a', 'ann@home': 1, 'bob@home': 2}]\n")
    assert notes_of(source(pii={"name": "tokenise"})) == ["not declared, so not read: 2 fields"]
    with pytest.raises(SourceError, match=r"there are: id, name, 2 that are not declared") as caught:
        rows_of(source(pii={"name": "tokenise"}, columns={"id": "int32", "name": "string", "gone": "string"}))
    assert "home" not in str(caught.value)
