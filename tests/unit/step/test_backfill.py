"""Features of many partitions, and training sets on them, by the local engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from tests.unit import tolls

from millrace.engine.base import Piece, Result
from millrace.errors import FeatureError, SourceError, SpecError
from millrace.settings import Settings
from millrace.step.engine import for_workers
from millrace.step.features import backfill_features, build_features
from millrace.step.retrieval import entity_rows, historical_features
from millrace.step.retrieval_split import split_features
from millrace.step.training import build_training_set

pytestmark = pytest.mark.integration


class WideEngine:
    """Hands slices out as an engine with room for four would, and works on them backwards."""

    def __init__(self) -> None:
        self.pieces = 0

    @property
    def width(self) -> int:
        return 4

    def map(self, work: Callable[[Piece], Result], pieces: Sequence[Piece]) -> Iterator[Result]:
        self.pieces += len(pieces)
        return reversed([work(piece) for piece in reversed(pieces)])


@pytest.fixture
def other(settings: Settings, tmp_path: Path) -> Settings:
    """The same specs with a lake of its own."""
    return dataclasses.replace(settings, lake=str(tmp_path / "other"))


def test_a_backfill_gives_the_rows_of_one_partition_after_the_other(settings: Settings, other: Settings) -> None:
    domain = tolls.make_domain(settings)
    for installation in (settings, other):
        tolls.write_clean(domain, installation.lake, passes=200)
    refs = backfill_features(domain, tolls.MONTHS, settings=settings)
    assert [(ref.table.rpartition("/")[2], ref.partition) for ref in refs] == [
        *((name, month) for month in tolls.MONTHS[:-1] for name in ("gate_load", "gate_heaviest")),
        *((name, tolls.MONTHS[-1]) for name in ("gate_load", "gate_heaviest")),
        ("gate_place", ""),
    ]
    for month in reversed(tolls.MONTHS):
        build_features(domain, month, settings=other)
    found = tolls.feature_contents(domain, settings.lake)
    assert found == tolls.feature_contents(domain, other.lake)
    assert [list(found[name]) for name in ("gate_load", "gate_place")] == [tolls.MONTHS, [""]]
    again = backfill_features(domain, [*reversed(tolls.MONTHS), "2021-02"], settings=settings)
    assert again == [dataclasses.replace(ref, changed=False) for ref in refs]


def test_a_key_that_is_none_of_the_domains_is_refused_before_any_work(settings: Settings) -> None:
    domain = tolls.make_domain(settings)
    tolls.write_clean(domain, settings.lake, passes=20)
    for wrong in ("2020-12", "2021-05", "2021", "2021-01-01"):
        with pytest.raises(SpecError):
            backfill_features(domain, ["2021-01", wrong], settings=settings)
    assert not Path(settings.lake, "tolls/features").exists()


def test_clean_rows_that_are_missing_are_said_before_any_work(settings: Settings) -> None:
    domain = tolls.make_domain(settings).model_copy(update={"last": None})
    tolls.write_clean(domain, settings.lake, passes=20)
    with pytest.raises(FeatureError, match="no clean rows of 2021-05"):
        backfill_features(domain, ["2021-04", "2021-05"], settings=settings)
    assert not Path(settings.lake, "tolls/features").exists()


def test_a_connection_that_is_not_there_is_said(settings: Settings) -> None:
    domain = tolls.make_domain(settings, engine="ray", connection="no_such_cluster")
    tolls.write_clean(domain, settings.lake, passes=20)
    with pytest.raises(SourceError, match="no_such_cluster"):
        backfill_features(domain, tolls.MONTHS, settings=settings)


def test_no_secret_travels_with_a_piece_of_work(settings: Settings) -> None:
    settings = dataclasses.replace(settings, serving_token="7d4e99", privacy_key="7d4e99")
    assert "7d4e99" not in str(dataclasses.asdict(for_workers(settings)))


def test_a_frame_split_by_time_gives_what_it_gives_whole(settings: Settings) -> None:
    domain, use_case = tolls.make_domain(settings), tolls.make_use_case()
    tolls.write_clean(domain, settings.lake, passes=150)
    backfill_features(domain, tolls.MONTHS[:2], settings=settings)
    rows = entity_rows(use_case, domain, "2021-02", settings)
    rows = rows.take([(number * 37) % rows.num_rows for number in range(rows.num_rows)] + [3, 3])
    engine = WideEngine()
    whole = historical_features(use_case, domain, rows, settings=settings)
    split = split_features(use_case, domain, rows, settings=settings, engine=engine, slice_rows=60)
    assert engine.pieces == 3
    assert split.combine_chunks().equals(whole.combine_chunks())
    assert split_features(use_case, domain, rows, settings=settings, engine=engine).equals(whole)
    assert engine.pieces == 3


def test_a_training_set_computes_only_partitions_whose_inputs_changed(settings: Settings) -> None:
    domain, use_case = tolls.make_domain(settings), tolls.make_use_case()
    tolls.write_clean(domain, settings.lake, passes=100)
    backfill_features(domain, tolls.MONTHS, settings=settings)
    first = build_training_set(use_case, domain, "2021-03", settings=settings)
    assert (first.rows, first.changed) == (300, True)
    again = build_training_set(use_case, domain, "2021-03", settings=settings)
    assert again == dataclasses.replace(first, changed=False)
    longer = build_training_set(use_case, domain, "2021-04", settings=settings)
    assert (longer.rows, longer.version) == (400, first.version + 1)
