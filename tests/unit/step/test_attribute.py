"""Columns that no model sees, for exactly the rows of the holdout."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.unit.training.synthetic import QUICK, make_domain, make_use_case, write_training_set

from millrace.artifact import DatasetRef, ModelRef
from millrace.errors import EvaluationError, SpecError
from millrace.evaluation.evidence import load_evidence
from millrace.evaluation.slice import OTHERS
from millrace.lake import Table
from millrace.settings import Settings
from millrace.spec import DomainSpec, GateSpec, UseCaseSpec, load_policy
from millrace.step.attribute import read_attributes
from millrace.step.candidate import open_job
from millrace.step.evaluation import evaluate_candidates
from millrace.training import train_package
from millrace.training.data.training_set import load_training_set

MONTHS = ["2020-01", "2020-02", "2020-03"]
HOLDOUT = MONTHS[-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class House:
    """A training set, and the clean rows it is of."""

    settings: Settings
    domain: DomainSpec
    use_case: UseCaseSpec
    training_set: DatasetRef

    def rows(self) -> pa.Table:
        return load_training_set(self.use_case, self.training_set, lake=self.settings.lake, partitions=[HOLDOUT])

    def write(self, rows: pa.Table) -> DatasetRef:
        return self.clean.replace(rows, partition=HOLDOUT)

    @property
    def clean(self) -> Table:
        return Table(self.settings.lake, self.domain.clean_table("sales"))

    def read(self) -> pa.Table | None:
        return read_attributes(
            self.use_case, self.domain, self.rows(), [HOLDOUT], self.training_set, settings=self.settings
        )


def clean_rows(rows: pa.Table) -> pa.Table:
    """Clean rows that a training set may have come from: in another order, and more than were labelled."""
    size = rows.num_rows
    table = pa.table(
        {
            "sale_id": rows.column("key"),
            "sold_at": rows.column("event_timestamp"),
            "town": pa.array(["Ürgüp"] * size),
            "sex": pa.array([("f", "m", None)[number % 3] for number in range(size)], pa.string()),
            "born": pa.array([1950 + number % 50 for number in range(size)], pa.int64()),
        }
    )
    more = table.slice(0, 1).set_column(0, "sale_id", pa.array(["nobody"]))
    return pa.concat_tables([table.take(pa.array(range(size - 1, -1, -1))), more])


@pytest.fixture
def house(settings: Settings) -> House:
    plain = make_use_case(lightgbm={"trainer": "lightgbm", "params": QUICK["lightgbm"]})
    evaluation = plain.evaluation.model_copy(update={"slices": ["kind", ["sex", "kind"]], "sensitive": ["sex", "born"]})
    use_case = plain.model_copy(update={"evaluation": evaluation})
    domain = make_domain()
    source = domain.sources["sales"]
    source = source.model_copy(update={"columns": {**source.columns, "sex": "string", "born": "int64"}})
    domain = domain.model_copy(update={"sources": {**domain.sources, "sales": source}})
    ref = write_training_set(use_case, settings.lake, MONTHS, 300)
    return House(settings=settings, domain=domain, use_case=use_case, training_set=ref)


def test_columns_that_are_no_features_come_for_exactly_these_rows_in_their_order(house: House) -> None:
    rows = house.rows()
    house.write(clean_rows(rows))
    found = house.read()
    assert found is not None
    assert found.column_names == ["sex", "born"]
    assert found.column("born").to_pylist() == [1950 + number % 50 for number in range(rows.num_rows)]
    assert found.column("sex").to_pylist()[:3] == ["f", "m", None]


def test_of_several_partitions_each_row_finds_its_own_clean_row_in_the_version_its_partition_was_made_of(
    house: House,
) -> None:
    held = MONTHS[1:]
    of = load_training_set(house.use_case, house.training_set, lake=house.settings.lake, partitions=held)
    months = [of.filter(pc.equal(of.column("partition"), key)) for key in held]
    for key, rows in zip(held, months, strict=True):
        house.clean.replace(clean_rows(rows), partition=key)
    of = of.take(pa.array(range(of.num_rows - 1, -1, -1)))
    found = read_attributes(house.use_case, house.domain, of, held, house.training_set, settings=house.settings)
    assert found is not None
    born = [1950 + number % 50 for rows in months for number in range(rows.num_rows)]
    assert found.column("born").to_pylist() == born[::-1]


def test_nothing_is_read_where_all_columns_are_features(house: House) -> None:
    evaluation = house.use_case.evaluation.model_copy(update={"slices": ["kind"], "sensitive": []})
    use_case = house.use_case.model_copy(update={"evaluation": evaluation})
    assert dataclasses.replace(house, use_case=use_case).read() is None


def test_rows_that_left_moved_in_time_or_stand_twice_are_counted_and_the_remedy_is_told(house: House) -> None:
    rows = clean_rows(house.rows())
    moved = pc.add(rows.column("sold_at"), pa.scalar(timedelta(minutes=1)))
    for spoilt, says in (
        (rows.slice(7), "7 of 300 rows are not among the clean rows"),
        (rows.set_column(1, "sold_at", moved), "300 of 300 rows are not"),
        (pa.concat_tables([rows, rows.slice(20, 3)]), "3 rows stand there more than once"),
    ):
        house.write(spoilt)
        with pytest.raises(EvaluationError, match=says) as caught:
            house.read()
        assert "run training again" in caught.value.remedy


def test_the_clean_rows_are_those_the_training_set_was_made_of_even_after_a_correction(house: House) -> None:
    rows = house.rows()
    first = house.write(clean_rows(rows))
    ref = Table(house.settings.lake, house.training_set.table).replace(
        rows.drop_columns(["partition"]), partition=HOLDOUT, digest="again", note={"clean": str(first.version)}
    )
    noted = dataclasses.replace(house, training_set=dataclasses.replace(house.training_set, version=ref.version))
    house.write(clean_rows(rows).slice(100))
    assert noted.read() is not None
    with pytest.raises(EvaluationError, match="100 of 300"):
        house.read()


def test_a_column_that_is_none_or_not_in_the_lake_yet_is_named(house: House) -> None:
    house.write(clean_rows(house.rows()).drop_columns(["born"]))
    with pytest.raises(SpecError, match="no column born yet") as caught:
        house.read()
    assert "validate 'sales' for 2020-03 again" in caught.value.remedy
    evaluation = house.use_case.evaluation.model_copy(update={"sensitive": ["sexx"]})
    odd = dataclasses.replace(house, use_case=house.use_case.model_copy(update={"evaluation": evaluation}))
    with pytest.raises(SpecError, match="'sexx'") as caught:
        odd.read()
    assert "did you mean 'sex'" in str(caught.value)


def test_groups_and_crossings_are_measured_and_no_model_sees_their_columns(house: House) -> None:
    house.write(clean_rows(house.rows()))
    job, rows = open_job(house.use_case, house.domain, "lightgbm", house.training_set, settings=house.settings)
    package = train_package(job, rows, store=house.settings.packages).package
    assert not {"sex", "born"} & set(package.features.columns)
    model = ModelRef(
        use_case=house.use_case.name,
        candidate="lightgbm",
        trainer="lightgbm",
        digest=package.digest,
        trained_through=package.manifest.training.trained_through,
        holdout=HOLDOUT,
    )
    fair = GateSpec(kind="fairness", args={"min_rows": 60, "min_of_each": 5})
    policy = load_policy(house.settings.dags, "low").model_copy(update={"gates": {"all": [fair]}, "min_candidates": 1})

    def evaluate() -> str:
        arguments = (house.use_case, house.domain, policy, house.training_set, [model])
        return evaluate_candidates(*arguments, settings=house.settings).evidence

    digest = evaluate()
    evidence = load_evidence(digest, house.settings)
    assert evaluate() == digest
    assert [item.column for item in evidence.fairness] == ["sex", "born"]
    sex, born = evidence.fairness
    assert {group.value: group.rows for group in sex.groups} == {"(missing)": 100, "f": 100, "m": 100}
    assert (sex.min_rows, sex.compared, sex.demographic_parity.value is not None) == (60, 3, True)
    assert all(group.value == OTHERS or len(group.value) == 4 for group in born.groups)
    assert sum(group.rows for group in born.groups) == 300
    crossed = [item for item in evidence.slices if item.column == "sex × kind"]
    assert sum(item.rows for item in crossed) == 300
    assert {item.value.split(" × ")[0] for item in crossed} == {"(missing)", "f", "m"}
