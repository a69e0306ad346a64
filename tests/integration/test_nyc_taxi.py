"""A contract suggested from a year of real trips, edited in a few lines, judges the two years after it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
import yaml

from millrace.lake import Table, duck
from millrace.lake.schema import arrow_schema
from millrace.settings import Settings
from millrace.spec import DomainSpec, load_domain
from millrace.step.contract import suggest_contract
from millrace.step.ingestion import ingest_partition
from millrace.step.validation import validate_partition
from millrace.validation.base import ValidationReport

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
HERE = Path(__file__).parent / "nyc_taxi"
ROOT = Path(__file__).resolve().parents[2]
SOURCE = "trips"
LEARNT = [f"2018-{month:02d}" for month in range(1, 13)]
JUDGED = [f"{year}-{month:02d}" for year in (2019, 2020) for month in range(1, 13)]
MOST_EDITS = 10
RULES = {
    "pickup month is not the file's": "strftime(picked_up, '%Y-%m') <> partition",
    "fare <= 0": "fare_amount <= 0",
    "total < 0": "total_amount < 0",
    "distance <= 0": "trip_distance <= 0",
    "distance > 100": "trip_distance > 100",
    "duration <= 0": "minutes <= 0",
    "duration > 180 min": "minutes > 180",
    "no passenger": "passenger_count = 0",
    "rate code 99": "rate_code_id = 99",
    "no vendor": "vendor_id IS NULL",
}
"""What the data's README calls dirty, as SQL over trips."""
ANY = " OR ".join(f"coalesce({rule}, false)" for rule in RULES.values())
KNOWN = [10, 985, 832, 4205, 2, 445, 778, 7111, 16, 8244, 20847]
"""Rows of each rule, and of any, in all 36 files, as the README counts them."""


@dataclass(kw_only=True)
class Outcome:
    """What the two years came to.

    Attributes:
        suggestion: as `contract suggest` wrote it.
        edited: after the edits.
        reports: partition → report.
        known: rows of each rule in all partitions, then of any of them.
        dirty: rows of each rule in the judged partitions, then of any of them.
        missed: those of them that were published.
        rows: rows judged.
        quarantined: rows set aside.
        by_reason: expectation → rows it set aside, and those of them that break no rule.
    """

    suggestion: str = ""
    edited: str = ""
    reports: dict[str, ValidationReport] = field(default_factory=dict)
    known: list[int] = field(default_factory=list)
    dirty: list[int] = field(default_factory=list)
    missed: list[int] = field(default_factory=list)
    rows: int = 0
    quarantined: int = 0
    by_reason: list[tuple[str, int, int]] = field(default_factory=list)

    @property
    def false_share(self) -> float:
        """Share of the rows that break no rule and were set aside."""
        return (self.quarantined - (self.dirty[-1] - self.missed[-1])) / (self.rows - self.dirty[-1])

    def table(self) -> str:
        """Recall rule by rule, and the share of the good rows that each expectation set aside."""
        lines = [f"{'rule':32}{'rows':>8}{'caught':>8}{'recall':>9}"]
        for name, dirty, missed in zip([*RULES, "any of these"], self.dirty, self.missed, strict=True):
            lines.append(f"{name:32}{dirty:8,}{dirty - missed:8,}{1 - missed / dirty:9.2%}")
        good = self.rows - self.dirty[-1]
        told = [*self.by_reason, ("any of these", self.quarantined, round(self.false_share * good))]
        lines += ["", f"{'expectation':76}{'set aside':>10}{'good':>6}{'false':>9}"]
        lines += [f"{name:76}{rows:10,}{wrong:6,}{wrong / good:9.3%}" for name, rows, wrong in told]
        return "\n".join(lines)


@pytest.fixture(scope="module")
def data() -> Path:
    shared = Path(os.environ.get("MILLRACE_SHARED_DATA") or ROOT.parent / "shared" / "data")
    if not (shared / "nyc_taxi" / "monthly_csv_gz").is_dir():
        pytest.skip(f"no nyc_taxi data in {shared}; MILLRACE_SHARED_DATA names the folder that holds it")
    return shared / "nyc_taxi"


@pytest.fixture(scope="module")
def installation(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("taxi")
    (folder / "dags" / "domains").mkdir(parents=True)
    return Settings.load(
        {"MILLRACE_ROOT": str(data), "MILLRACE_VAR": str(folder / "var"), "MILLRACE_DAGS": str(folder / "dags")}
    )


@pytest.fixture(scope="module")
def outcome(installation: Settings) -> Outcome:
    found = Outcome()
    bare = (HERE / "taxi.yaml").read_text(encoding="utf-8")
    domain = declared(installation, bare)
    for key in LEARNT:
        ingest_partition(domain, SOURCE, key, settings=installation)
        validate_partition(domain, SOURCE, key, settings=installation)
    suggestion = suggest_contract(domain, SOURCE, settings=installation, first=LEARNT[0], last=LEARNT[-1])
    found.suggestion = suggestion.to_yaml()
    found.edited = patched(found.suggestion, (HERE / "edits.diff").read_text(encoding="utf-8"))
    domain = declared(installation, bare + found.edited)
    for key in JUDGED:
        ingest_partition(domain, SOURCE, key, settings=installation)
        found.reports[key] = validate_partition(domain, SOURCE, key, settings=installation)
    found.known = counted(domain.raw_table(SOURCE), [*LEARNT, *JUDGED], installation)
    found.dirty = counted(domain.raw_table(SOURCE), JUDGED, installation)
    found.missed = counted(domain.clean_table(SOURCE), JUDGED, installation)
    found.rows = sum(report.rows_in for report in found.reports.values())
    found.quarantined = sum(report.rows_quarantined for report in found.reports.values())
    found.by_reason = reasons_counted(domain, installation)
    return found


def declared(installation: Settings, text: str) -> DomainSpec:
    (installation.dags / "domains" / "taxi.yaml").write_text(text, encoding="utf-8")
    return load_domain(installation.dags, "taxi")


def patched(text: str, diff: str) -> str:
    """The text after a unified diff whose every hunk stands in it exactly once."""
    hunks: list[tuple[list[str], list[str]]] = []
    for line in diff.splitlines(keepends=True):
        if line.startswith("@@"):
            hunks.append(([], []))
        elif not line.startswith(("--- ", "+++ ")):
            old, new = hunks[-1]
            old += [line[1:]] if line[0] in " -" else []
            new += [line[1:]] if line[0] in " +" else []
    for old, new in hunks:
        assert text.count("".join(old)) == 1, f"the suggestion does not hold once: {''.join(old)}"
        text = text.replace("".join(old), "".join(new))
    return text


def changed_lines(diff: str) -> list[str]:
    return [line for line in diff.splitlines() if line[:1] in ("+", "-") and line[:4] not in ("--- ", "+++ ")]


def counted(table: str, partitions: list[str], installation: Settings) -> list[int]:
    """Rows of each rule, then of any."""
    rows = Table(installation.lake, table).read(partitions=partitions)
    return asked(rows, ", ".join(f"count(*) FILTER (WHERE {rule})" for rule in [*RULES.values(), ANY]))[0]


def reasons_counted(domain: DomainSpec, installation: Settings) -> list[tuple[str, int, int]]:
    """Expectation, rows it set aside, those of them that break no rule; the most frequent first."""
    schema = arrow_schema(domain.sources[SOURCE].columns).append(pa.field("partition", pa.string()))
    entries = Table(installation.lake, domain.quarantine_table(SOURCE)).read(partitions=JUDGED).to_pylist()
    rows = [{**orjson.loads(entry["raw"]), "partition": entry["partition"]} for entry in entries]
    for row in rows:
        for name in ("pickup_datetime", "dropoff_datetime"):
            row[name] = datetime.fromisoformat(row[name])
    dirty = asked(pa.Table.from_pylist(rows, schema=schema), f"coalesce({ANY}, false)")
    every: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for entry, (breaks,) in zip(entries, dirty, strict=True):
        names = {reason["expectation"] for reason in orjson.loads(entry["reasons"])}
        every.update(names)
        wrong.update(names if not breaks else ())
    return [(name, count, wrong[name]) for name, count in every.most_common()]


def asked(rows: pa.Table, expressions: str) -> list[list[Any]]:
    """The values of SQL expressions over trips, in the order of the rows."""
    connection = duck.connect(threads=1)
    connection.register("rows", rows)
    found = connection.execute(f"""
        SELECT {expressions} FROM (
            SELECT *, timezone('UTC', pickup_datetime) AS picked_up,
                   epoch(dropoff_datetime - pickup_datetime) / 60 AS minutes
            FROM rows)
    """).fetchall()
    connection.close()
    return [list(row) for row in found]


def test_the_rows_are_those_the_readme_counts(outcome: Outcome) -> None:
    assert outcome.known == KNOWN
    assert outcome.rows == 240_000


def test_a_person_changes_at_most_ten_lines_of_the_suggestion(outcome: Outcome) -> None:
    diff = (HERE / "edits.diff").read_text(encoding="utf-8")
    assert 0 < len(changed_lines(diff)) <= MOST_EDITS
    assert outcome.edited != outcome.suggestion
    kept: Mapping[str, Any] = yaml.safe_load((HERE / "contract.yaml").read_text(encoding="utf-8"))
    assert yaml.safe_load(outcome.edited) == kept


def test_dirty_rows_are_caught_and_good_ones_left_alone(outcome: Outcome, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\n{(HERE / 'edits.diff').read_text(encoding='utf-8')}\n{outcome.table()}")
    assert 1 - outcome.missed[-1] / outcome.dirty[-1] >= 0.9
    assert outcome.false_share <= 0.005
    for report in outcome.reports.values():
        assert report.rows_in == report.rows_clean + report.rows_quarantined


def test_a_column_that_begins_to_be_filled_is_told_as_a_change_of_its_null_share(outcome: Outcome) -> None:
    for key, share in (("2019-01", "0.63"), ("2019-02", "0.00")):
        told = outcome.reports[key].verdict.reasons
        assert any(f"null share of congestion_surcharge {share}, was 1.00 in" in reason for reason in told), told
    assert not any("congestion_surcharge" in reason for reason in outcome.reports["2019-06"].verdict.reasons)
