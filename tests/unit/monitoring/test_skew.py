from __future__ import annotations

from pathlib import Path

from millrace.monitoring.skew import (
    FeatureCount,
    FeatureSkew,
    SkewExample,
    SkewReport,
    rank_features,
    summarise_skew,
)
from millrace.monitoring.skew_page import write_page

EXAMPLE = SkewExample(key={"carrier": "<b>"}, as_of="2013-04-01T04:00:00Z", online=0.25, offline=None)


def counts(mismatches: dict[str, int], rows: int = 200) -> list[FeatureCount]:
    return [
        FeatureCount(name=name, view="v", rows=rows, mismatches=count, examples=[EXAMPLE] * min(count, 9))
        for name, count in mismatches.items()
    ]


def report(mismatches: dict[str, int], limit: float = 0.01) -> tuple[SkewReport, list[FeatureSkew]]:
    columns = rank_features(counts(mismatches))
    worst = max(mismatches.values())
    found = summarise_skew("u", "2013-04", columns, rows=200, mismatched=worst, releases=[2, 1, 2], limit=limit)
    return found, columns


def test_nothing_that_differs_says_nothing() -> None:
    found, _ = report({"a": 0, "b": 0})
    assert (found.share, found.skewed, found.reasons, found.alert) == (0.0, [], [], False)
    assert (found.features, found.releases) == (2, [1, 2])


def test_the_worst_features_come_first_with_their_shares() -> None:
    found, columns = report({"a": 1, "b": 0, "c": 10})
    assert [item.name for item in columns] == ["c", "a", "b"]
    assert found.shares == {"c": 0.05, "a": 0.005}
    assert found.share == 0.05
    assert found.alert
    (told,) = found.reasons
    assert told.startswith("Skew: 10 of 200 rows asked online had other features")
    assert "c 0.05, a 0.005" in told


def test_within_the_limit_it_is_told_and_no_alert() -> None:
    found, _ = report({"a": 2})
    assert not found.alert
    assert found.reasons[0].startswith("2 of 200 rows")


def test_the_report_fits_into_xcom_and_comes_back_equal() -> None:
    found, columns = report({f"feature_{number:03d}": number for number in range(100)})
    assert SkewReport.from_dict(found.to_dict()) == found
    assert len(str(found.to_dict())) < 4_000
    assert (len(found.skewed), found.skewed_features) == (10, 99)
    assert all(len(item.examples) <= 3 for item in columns)


def test_the_page_shows_key_and_both_values_and_is_the_same_again(tmp_path: Path) -> None:
    found, columns = report({"a": 3, "b": 0})
    path = tmp_path / "u" / "skew" / "2013-04.html"
    write_page(path, found, columns)
    first = path.read_bytes()
    write_page(path, found, columns)
    assert path.read_bytes() == first
    text = first.decode()
    assert "carrier=&lt;b&gt;" in text
    assert "online <code>0.25</code>, offline <code>None</code>" in text
    assert "1.5 %" in text


def test_rows_that_could_not_be_compared_are_told_without_an_alert(tmp_path: Path) -> None:
    found = summarise_skew("u", "2013-04", [], rows=0, mismatched=0, releases=[], limit=0.01, uncompared=3)
    assert (found.uncompared, found.alert) == (3, False)
    (told,) = found.reasons
    assert told.startswith("3 sampled rows could not be compared")
    write_page(tmp_path / "page.html", found, [])
    page = (tmp_path / "page.html").read_text()
    assert "3 sampled rows could not be compared" in page
    assert "Every feature" not in page
