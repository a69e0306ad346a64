from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.unit.training.synthetic import make_domain, make_rows, make_use_case, write_training_set

from millrace.artifact import iso
from millrace.errors import TrainingError
from millrace.lake import Table
from millrace.spec import UseCaseSpec
from millrace.training import assemble_training_set, find_holdout, load_training_set

DOMAIN = make_domain()
MONTHS = ["2020-01", "2020-02", "2020-03"]


class Features:
    """Rows of a partition, and which partitions were asked for."""

    def __init__(self, use_case: UseCaseSpec) -> None:
        self.use_case, self.asked = use_case, list[str]()

    def __call__(self, partition: str) -> pa.Table:
        self.asked.append(partition)
        return make_rows(self.use_case, partition, 50)


@pytest.fixture
def use_case() -> UseCaseSpec:
    return make_use_case()


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """Clean rows and features of three months, whose content here is a number."""
    for month in MONTHS:
        Table(str(tmp_path), "shops/clean/sales").replace(pa.table({"x": [int(month[-1])]}), partition=month)
        Table(str(tmp_path), "shops/features/town_weather").replace(pa.table({"x": [1]}), partition=month)
    return str(tmp_path)


def test_building_again_computes_nothing_and_gives_the_same_reference(use_case: UseCaseSpec, lake: str) -> None:
    features = Features(use_case)
    first = assemble_training_set(use_case, DOMAIN, "2020-03", lake=lake, rows_of=features)
    again = assemble_training_set(use_case, DOMAIN, "2020-03", lake=lake, rows_of=features)
    assert features.asked == MONTHS
    assert (first.changed, again.changed) == (True, False)
    assert (first.version, first.digest, first.rows) == (again.version, again.digest, again.rows)
    assert first.rows == 150
    assert first.known_until == "2020-04-01T00:00:00Z"


def test_another_service_stands_beside_and_one_changed_in_place_begins_anew_and_comes_back(
    use_case: UseCaseSpec, lake: str
) -> None:
    features = Features(use_case)
    first = assemble_training_set(use_case, DOMAIN, "2020-02", lake=lake, rows_of=features)
    assert first.table == f"{use_case.name}/training_set/{use_case.features.name}"
    beside = use_case.model_copy(update={"features": use_case.features.model_copy(update={"name": "next_v2"})})
    assert assemble_training_set(beside, DOMAIN, "2020-02", lake=lake, rows_of=features).table.endswith("/next_v2")
    fewer = dict(list(use_case.features.row.items())[1:])
    gone = {*use_case.features.row} - {*fewer}
    kept = [name for name in use_case.features.categorical if name not in gone]
    in_place = use_case.features.model_copy(update={"row": fewer, "categorical": kept})
    changed = use_case.model_copy(update={"features": in_place})
    second = assemble_training_set(changed, DOMAIN, "2020-01", lake=lake, rows_of=features)
    assert second.rows == load_training_set(changed, second, lake=lake).num_rows == 50
    assert Table(lake, second.table).partitions() == ["2020-01"]
    third = assemble_training_set(use_case, DOMAIN, "2020-02", lake=lake, rows_of=features)
    assert (third.digest, third.rows) == (first.digest, first.rows)
    assert load_training_set(use_case, third, lake=lake).equals(load_training_set(use_case, first, lake=lake))


def test_a_later_holdout_computes_the_new_partition_alone_and_leaves_the_earlier_reference(
    use_case: UseCaseSpec, lake: str
) -> None:
    features = Features(use_case)
    early = assemble_training_set(use_case, DOMAIN, "2020-02", lake=lake, rows_of=features)
    late = assemble_training_set(use_case, DOMAIN, "2020-03", lake=lake, rows_of=features)
    assert features.asked == MONTHS
    assert late.version > early.version
    assert assemble_training_set(use_case, DOMAIN, "2020-02", lake=lake, rows_of=features).version == early.version


@pytest.mark.parametrize(
    ("table", "month", "computed"),
    [
        ("shops/clean/sales", "2020-02", ["2020-02"]),
        ("shops/features/town_weather", "2020-02", ["2020-02", "2020-03"]),
        ("shops/features/town_weather", "2020-04", []),
    ],
)
def test_changed_inputs_compute_the_partitions_that_rest_on_them(
    use_case: UseCaseSpec, lake: str, table: str, month: str, computed: list[str]
) -> None:
    features = Features(use_case)
    assemble_training_set(use_case, DOMAIN, "2020-03", lake=lake, rows_of=features)
    features.asked.clear()
    Table(lake, table).replace(pa.table({"x": [99]}), partition=month)
    assemble_training_set(use_case, DOMAIN, "2020-03", lake=lake, rows_of=features)
    assert features.asked == computed


def test_a_changed_label_or_feature_service_computes_all_again(use_case: UseCaseSpec, lake: str) -> None:
    features = Features(use_case)
    assemble_training_set(use_case, DOMAIN, "2020-03", lake=lake, rows_of=features)
    label = use_case.label.model_copy(update={"expression": "NOT sold"})
    assemble_training_set(use_case.model_copy(update={"label": label}), DOMAIN, "2020-03", lake=lake, rows_of=features)
    assert features.asked == MONTHS * 2


def test_a_partition_that_was_never_validated_is_named(use_case: UseCaseSpec, lake: str) -> None:
    with pytest.raises(TrainingError, match="2020-04") as raised:
        assemble_training_set(use_case, DOMAIN, "2020-04", lake=lake, rows_of=Features(use_case))
    assert "shops_data for 2020-04" in raised.value.remedy
    with pytest.raises(TrainingError, match="before the domain's first"):
        assemble_training_set(use_case, DOMAIN, "2019-12", lake=lake, rows_of=Features(use_case))


def test_rows_without_a_label_are_left_out_and_features_that_lack_are_named(use_case: UseCaseSpec, lake: str) -> None:
    def unlabelled(partition: str) -> pa.Table:
        rows = make_rows(use_case, partition, 50)
        label = pc.if_else(pc.equal(rows.column("kind"), "lamp"), pa.scalar(None, pa.float64()), rows.column("label"))
        return rows.set_column(rows.column_names.index("label"), "label", label)

    ref = assemble_training_set(use_case, DOMAIN, "2020-01", lake=lake, rows_of=unlabelled)
    rows = load_training_set(use_case, ref, lake=lake, known_until="2020-03-01T00:00:00Z")
    assert 0 < ref.rows < 50
    assert rows.column("label").null_count == 0
    without: Callable[[str], pa.Table] = lambda key: make_rows(use_case, key, 50).drop_columns(["sky"])  # noqa: E731
    with pytest.raises(TrainingError, match="sky"):
        assemble_training_set(use_case, DOMAIN, "2020-02", lake=lake, rows_of=without)


def test_loading_keeps_labels_that_were_known_in_time_and_the_order_of_time(
    use_case: UseCaseSpec, tmp_path: Path
) -> None:
    ref = write_training_set(use_case, str(tmp_path), ["2020-02", "2020-01", "2020-03"])
    rows = load_training_set(use_case, ref, lake=str(tmp_path))
    known = rows.column("label_known_at").to_pylist()
    assert max(known) <= datetime(2020, 4, 1, tzinfo=UTC)
    keys = list(zip(rows.column("event_timestamp").to_pylist(), rows.column("key").to_pylist(), strict=True))
    assert keys == sorted(keys)
    early = load_training_set(use_case, ref, lake=str(tmp_path), through="2020-02", known_until="2020-03-01T00:00:00Z")
    assert set(early.column("partition").to_pylist()) == {"2020-01", "2020-02"}
    assert max(early.column("label_known_at").to_pylist()) <= datetime(2020, 3, 1, tzinfo=UTC)
    assert 0 < early.num_rows < 800
    one = load_training_set(use_case, ref, lake=str(tmp_path), partitions=["2020-02"])
    assert set(one.column("partition").to_pylist()) == {"2020-02"}


def test_a_later_instant_than_the_reference_says_is_not_given(use_case: UseCaseSpec, tmp_path: Path) -> None:
    ref = write_training_set(use_case, str(tmp_path), ["2020-01"])
    later = iso(datetime.fromisoformat(ref.known_until) + timedelta(days=90))
    assert load_training_set(use_case, ref, lake=str(tmp_path), known_until=later).equals(
        load_training_set(use_case, ref, lake=str(tmp_path))
    )


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
@pytest.mark.parametrize(("grain", "key"), [("month", "2020-12"), ("day", "2020-03-08")])
def test_the_holdout_is_found_from_the_end_of_its_labels(zone: str, grain: str, key: str, tmp_path: Path) -> None:
    first = "2020-01" if grain == "month" else "2020-01-01"
    domain = DOMAIN.model_copy(update={"timezone": zone, "grain": grain, "first": first})
    ref = write_training_set(make_use_case(), str(tmp_path), ["2020-01"], 10)
    known_until = iso(domain.partition(key).end)
    assert find_holdout(domain, type(ref)(table=ref.table, version=0, known_until=known_until)).key == key
