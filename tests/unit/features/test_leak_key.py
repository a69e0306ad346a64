"""A leak is found whatever tells the rows of a source apart: made-up keys reach the partition that is tried."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from rich.console import Console
from tests.unit.features.conftest import DAGS

from millrace.cli import check as command
from millrace.features.leak_probe import Probed
from millrace.features.probe import make_probe
from millrace.lake.duck import connect
from millrace.settings import Settings
from millrace.spec import DomainSpec
from millrace.step.check import NotTried, check_domain_leaks
from millrace.step.leak import check_leaks, clean_rows

EXAMPLE = (DAGS.parent / "docs" / "authoring.md").read_text(encoding="utf-8")
SQL = re.search(r"-- dags/domains/parcels/depot_delays.sql\n(.*?)```", EXAMPLE, re.DOTALL)
KEYS: dict[str, tuple[dict[str, str], list[str], list[dict[str, Any]]]] = {
    "text": ({"parcel": "string"}, ["parcel"], []),
    "integer": ({"parcel": "int32"}, ["parcel"], []),
    "number in a text": ({"parcel": "string"}, ["parcel"], [{"cast": {"parcel": "int64"}}]),
    "two columns": ({"customer": "string", "line": "int16"}, ["customer", "line"], []),
    "with its group": ({"depot": "string", "number": "int64"}, ["depot", "number"], []),
    "renamed": ({"id": "string"}, ["parcel"], [{"rename": {"id": "parcel"}}]),
    "derived": ({"id": "string"}, ["parcel"], [{"derive": {"parcel": "upper(id) || '-' || depot"}}]),
}
GRAINS = {"month": ("2024-01", "%Y-%m"), "day": ("2024-01-01", "%Y-%m-%d")}


def parcels(key: str, grain: str, *, known_late: list[str] | None = None, **source: Any) -> DomainSpec:
    """The domain of the guide for authors, its rows told apart by another key."""
    columns, names, steps = KEYS[key]
    first, form = GRAINS[grain]
    known = {"hours": "epoch(delivered_at - sent_at) / 3600.0", "known_at": "delivered_at"}
    table = {
        "description": "Parcels of a depot delivered in the seven days before.",
        "tags": {"of": "depot"},
        "sql": "parcels/depot_delays.sql",
        "entities": ["depot"],
        "ttl_hours": 48,
        "look_back_days": 12,
        "features": {"depot_late_share_7d": "float64", "depot_delivered_7d": "float64"},
    }
    others = {"depot": "string", "period": "string", "sent_at": "timestamp", "delivered_at": "timestamp"}
    made = {
        "uri": "/tmp/parcels.csv",
        "columns": {**columns, **others},
        "partition_columns": {"period": form},
        "key": names,
        "known_late": known_late or [],
        "cleanup": [*steps, {"derive": known}, {"drop": ["period"]}],
        "contract": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "depot"}}],
        **source,
    }
    return DomainSpec.model_validate(
        {
            "name": "parcels",
            "description": "Parcels sent out of depots.",
            "owners": ["admin"],
            "grain": grain,
            "first": first,
            "sources": {"parcels": made},
            "feature_tables": {"depot_delays": table},
        }
    )


def write(settings: Settings, *, leaking: bool) -> None:
    assert SQL is not None
    folder = settings.sql_folder / "parcels"
    folder.mkdir(exist_ok=True)
    text = SQL[1].replace("parcels.known_at", "parcels.sent_at") if leaking else SQL[1]
    assert ("parcels.sent_at <= day" in text) is leaking
    (folder / "depot_delays.sql").write_text(text, encoding="utf-8")


def test_what_keeps_to_time_is_tried_and_right(settings: Settings) -> None:
    write(settings, leaking=False)
    assert check_leaks(parcels("text", "day"), settings=settings) == Probed(faults=[], untried=[])


CASES = [(key, grain) for key in ("text", "integer", "two columns") for grain in GRAINS]


@pytest.fixture(scope="module")
def connection() -> Iterator[Any]:
    connection = connect(threads=1)
    yield connection
    connection.close()


@pytest.mark.parametrize(("key", "grain"), CASES)
def test_a_leak_is_found_whatever_the_key_is(settings: Settings, key: str, grain: str) -> None:
    write(settings, leaking=True)
    found = check_leaks(parcels(key, grain), settings=settings)
    (fault,) = found.faults
    assert "'depot_delays' knows the future" in fault.what
    assert "depot_delivered_7d follow from rows of parcels before" in fault.what
    assert found.untried == []


def test_a_late_outcome_is_named(settings: Settings) -> None:
    write(settings, leaking=True)
    (fault,) = check_leaks(parcels("text", "month", known_late=["hours", "known_at"]), settings=settings).faults
    assert "depot_late_share_7d follow from parcels.hours before" in fault.what


@pytest.mark.parametrize("key", ["number in a text", "with its group", "renamed", "derived"])
def test_keys_are_different_and_in_every_partition(connection: Any, key: str) -> None:
    domain = parcels(key, "month")
    probe = make_probe(connection, domain, domain.partition("2024-06"), 8, clean_rows)
    parts = probe.rows["parcels"]
    assert parts["2024-06"].num_rows > 1000
    assert all(table.num_rows > 100 for table in parts.values())
    names = domain.sources["parcels"].key
    keys = [tuple(row.values()) for table in parts.values() for row in table.select(names).to_pylist()]
    assert len(set(keys)) == len(keys)
    assert len(set(parts["2024-06"]["depot"].to_pylist())) == 4, "groups still fill"


SCANS = """
SELECT hub, seen_at AS event_timestamp, seen_at AS known_at, max(hours) AS took
FROM scans JOIN parcels USING (parcel)
WHERE seen_at >= $start AND seen_at < $end {bound}
GROUP BY ALL
"""


def test_a_leak_by_a_join_on_the_key_is_found(settings: Settings) -> None:
    grain = "month"
    scans = {
        "uri": "/tmp/scans.csv",
        "columns": {"parcel": "string", "hub": "string", "period": "string", "seen_at": "timestamp"},
        "partition_columns": {"period": GRAINS[grain][1]},
        "key": ["parcel", "seen_at"],
        "cleanup": [{"derive": {"known_at": "seen_at"}}, {"drop": ["period"]}],
        "contract": [{"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "hub"}}],
    }
    domain = parcels("text", grain, known_late=["delivered_at", "hours", "known_at"])
    document = domain.model_dump(mode="json", exclude_unset=True)
    document["sources"]["scans"] = scans
    table = document["feature_tables"]["depot_delays"]
    table |= {"entities": ["hub"], "features": {"took": "float64"}, "look_back_days": 20}
    domain = DomainSpec.model_validate(document)
    write(settings, leaking=False)
    path = settings.sql_folder / "parcels" / "depot_delays.sql"
    path.write_text(SCANS.format(bound=""), encoding="utf-8")
    fault, *_ = check_leaks(domain, settings=settings).faults
    assert "knows the future" in fault.what
    assert "parcels.hours" in fault.what
    ended = "AND parcels.known_at <= seen_at AND parcels.sent_at >= seen_at - INTERVAL 20 DAY"
    path.write_text(SCANS.format(bound=ended), encoding="utf-8")
    assert check_leaks(domain, settings=settings).faults == []


def untried(settings: Settings, domain: DomainSpec) -> str:
    write(settings, leaking=True)
    found = check_leaks(domain, settings=settings)
    assert found.faults == []
    (why,) = found.untried
    return why


def test_too_few_rows_are_not_tried(settings: Settings) -> None:
    allowed = {"column": "parcel", "value_set": ["a", "b", "c"]}
    domain = parcels("text", "month", contract=[{"type": "expect_column_values_to_be_in_set", "kwargs": allowed}])
    why = untried(settings, domain)
    assert why.startswith("feature table 'depot_delays': too few made-up rows of parcels are known")
    assert re.search(r"\([123] rows are left by its clean-up and its key\)", why)


def test_rows_that_fail_in_the_clean_up_are_not_tried(settings: Settings) -> None:
    steps = [{"derive": {"known_at": "delivered_at", "hours": "1.0"}}, {"python": "operator:index"}]
    assert "no made-up row of parcels passes its clean-up" in untried(settings, parcels("text", "month", cleanup=steps))


def test_a_table_whose_rows_are_known_too_late_to_be_tried_is_told(settings: Settings) -> None:
    write(settings, leaking=False)
    path = settings.sql_folder / "parcels" / "depot_delays.sql"
    late = path.read_text(encoding="utf-8").replace("day AS known_at", "$end - INTERVAL 1 SECOND AS known_at")
    path.write_text(late, encoding="utf-8")
    (why,) = check_leaks(parcels("text", "month"), settings=settings).untried
    assert "no row that it makes of made-up ones is known by an instant that is tried" in why


def test_the_command_says_what_was_not_tried(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (settings.sql_folder / "flights" / "carrier_delays.sql").write_text("SELECT", encoding="utf-8")
    (why,) = check_domain_leaks("flights", settings=settings)
    assert isinstance(why, NotTried)
    monkeypatch.setattr(command, "_rules", lambda *_, **__: iter([("leaks", "flights", lambda: [why])]))
    monkeypatch.setattr(command, "_console", Console(width=140))
    command.check(connections=False)
    told = capsys.readouterr().out
    assert "1 checks, 0 findings, 1 not tried" in told
    assert "not tried: a feature table is wrong" in told
    assert "right" not in told
    command.check(connections=False, as_json=True)
    assert orjson.loads(capsys.readouterr().out)["not_tried"][0]["why"] == why
