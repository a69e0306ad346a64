"""Columns called what the SQL behind validation might call its own: their names make no difference."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.unit.shop import make_domain

from millrace.lake import Table
from millrace.settings import Settings
from millrace.step.ingestion import ingest_partition
from millrace.step.validation import validate_partition

_WORDS = """
hash number position digest raw reasons row_id first rows c t r s b w n cleaned copies contents content version place
tied row row_number best top suspect value times found flags one many common counted left_out key given wanted entry
count status source stage file line v v0 m0
"""
NAMES = tuple(_WORDS.split())
MADE = ("fault", "bits")
PLAIN = {name: f"x_{index}" for index, name in enumerate((*NAMES, *MADE))}
SAME = {name: name for name in (*NAMES, *MADE)}
WHOLE = {"number", "version", "times", "rows"}
Outcome = tuple[dict[str, int], list[dict[str, Any]], list[tuple[Any, Any]], list[str]]


def write_rows(folder: Path, called: Mapping[str, str]) -> Path:
    """Twelve rows: two pairs of equal rows, two pairs that share most values and differ in `raw` alone."""
    lines = [",".join(["day", *(called[name] for name in NAMES)])]
    for row in [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 8, 9]:
        again = len(lines) in (7, 9)
        values = {name: f"{index % 7}a{row - again}" for index, name in enumerate(NAMES)}
        values |= {name: str(row - again) for name in WHOLE} | {"raw": f"raw{row}"}
        values |= {"row_id": "shared"} if row in (1, 2) else {}
        values |= {"times": "77", "flags": "shared"} if row in (0, 9) else {}
        lines.append(",".join(["2020-01", *values.values()]))
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def outcome(folder: Path, settings: Settings, called: Mapping[str, str], key: list[str], policy: str) -> Outcome:
    """What one validation counts, its clean rows, and content and reasons of those set aside."""
    names = called
    back = {new: old for old, new in names.items()}
    known = [f"raw{number}" for number in range(1, 20)]
    checks = [
        ("expect_column_values_to_match_regex", {"column": names["hash"], "regex": "^.a[0-8]$"}, "quarantine"),
        ("expect_column_values_to_be_in_set", {"column": names["raw"], "value_set": known}, "quarantine"),
        ("expect_column_values_to_be_unique", {"column": names["row_id"]}, "quarantine"),
        ("expect_compound_columns_to_be_unique", {"column_list": [names["times"], names["flags"]]}, "quarantine"),
        ("expect_column_most_common_value_to_be_in_set", {"column": names["value"], "value_set": ["none"]}, "warn"),
        ("expect_column_distinct_values_to_be_in_set", {"column": names["found"], "value_set": ["none"]}, "warn"),
        ("expect_column_median_to_be_between", {"column": names["times"], "min_value": 100}, "warn"),
    ]
    domain = make_domain(
        write_rows(folder, called),
        columns={"day": "string"} | {names[name]: "int32" if name in WHOLE else "string" for name in NAMES},
        key=[names[name] for name in key],
        cleanup=[
            {"derive": {names["fault"]: f"{names['hash']} || {names['r']}", names["bits"]: f'"{names["row"]}"'}},
            {"cast": {names["number"]: "int16"}},
            {"deduplicate": [names[name] for name in NAMES]},
        ],
        duplicates={"policy": policy} | ({"version": names["version"]} if policy == "keep_last" else {}),
        contract=[{"type": kind, "kwargs": kwargs, "on_failure": then} for kind, kwargs, then in checks],
    )
    ingest_partition(domain, "orders", "2020-01", settings=settings)
    report = validate_partition(domain, "orders", "2020-01", settings=settings)
    clean = Table(settings.lake, "shop/clean/orders").read().to_pylist()
    aside = Table(settings.lake, "shop/quarantine/orders").read().to_pylist()
    counts = {"in": report.rows_in, "clean": report.rows_clean, "aside": report.rows_quarantined}
    rows = [{back.get(name, name): value for name, value in row.items()} for row in clean]
    told = [
        (
            {back.get(name, name): value for name, value in orjson.loads(row["raw"]).items()},
            [
                (item["expectation"].split(".")[0], [back.get(name, name) for name in item["column"].split(",")])
                for item in orjson.loads(row["reasons"])
            ],
        )
        for row in aside
    ]
    loose = domain.model_copy(
        update={"sources": {"orders": domain.sources["orders"].model_copy(update={"contract": []})}}
    )
    validate_partition(loose, "orders", "2020-01", settings=settings)
    later = Table(settings.lake, "shop/quarantine/orders").read().to_pylist()
    return counts, rows, sorted(told, key=str), sorted(str(row["resolution"]) for row in later)


@pytest.mark.parametrize(
    ("key", "policy"),
    [
        (["hash", "number"], "quarantine"),
        (["first", "copies", "contents"], "quarantine"),
        (["row", "place", "tied", "content", "s", "c"], "keep_last"),
        (["version", "r", "b", "t"], "keep_last"),
    ],
)
def test_names_of_columns_make_no_difference(tmp_path: Path, settings: Settings, key: list[str], policy: str) -> None:
    found = outcome(tmp_path, settings, SAME, key, policy)
    other = Settings.load({**_places(settings), "MILLRACE_VAR": str(tmp_path / "other")})
    (tmp_path / "other").mkdir()
    assert found == outcome(tmp_path, other, PLAIN, key, policy)
    counts, _, aside, resolved = found
    assert counts["in"] == counts["clean"] + counts["aside"] == 12
    told = {name for _, reasons in aside for name, _ in reasons}
    assert {"duplicate", "duplicate_superseded", "column_values_to_match_regex"} <= told
    assert {"column_values_to_be_in_set", "column_values_to_be_unique", "compound_columns_to_be_unique"} <= told
    assert "revalidated" in resolved


def _places(settings: Settings) -> dict[str, str]:
    return {"MILLRACE_ROOT": str(settings.root), "MILLRACE_DAGS": str(settings.dags)}
