"""Training sets and candidates on real tables, real Feast and a real MLflow."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.unit.features import clean
from tests.unit.training.synthetic import make_domain, make_rows, make_use_case, write_training_set

from millrace.artifact import DatasetRef
from millrace.errors import RegistryUnavailableError, TrainingError
from millrace.lake import Table
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import CandidateSpec, UseCaseSpec, load_domain, load_use_case
from millrace.step.candidate import train_candidate
from millrace.step.feature_registry import apply_features
from millrace.step.features import build_features
from millrace.step.training import build_training_set
from millrace.training.data.training_set import load_training_set

pytestmark = pytest.mark.integration
Change = Callable[[pa.Table], pa.Table]
MONTHS = ["2020-01", "2020-02", "2020-03"]


@functools.cache
def flight_delay(dags: Path) -> UseCaseSpec:
    quick = CandidateSpec(trainer="xgboost", params={"rounds": 10, "max_depth": 3})
    return load_use_case(dags, "flight_delay").model_copy(update={"candidates": {"xgboost": quick}})


def prepare(settings: Settings, change: Change = lambda rows: rows) -> DatasetRef:
    """Clean tables and features of four months, changed as asked, and the training set up to the last."""
    domain, use_case = load_domain(settings.dags, "flights"), flight_delay(settings.dags)
    raw = clean.raw_all()
    clean.write_clean(
        domain, settings.lake, {**raw, "flights": change(raw["flights"]), "weather": change(raw["weather"])}
    )
    for partition in clean.PARTITIONS:
        build_features(domain, partition, settings=settings)
    apply_features(domain, [use_case], settings=settings)
    return build_training_set(use_case, domain, clean.PARTITIONS[-1], settings=settings)


def other_april(rows: pa.Table) -> pa.Table:
    """Every measured value of April other than it was."""
    april = pc.equal(rows.column("month"), 4)
    for name in ("dep_delay", "arr_delay", "air_time", "temp", "wind_speed", "pressure", "visib"):
        if name in rows.column_names:
            old = rows.column(name)
            rows = rows.set_column(
                rows.column_names.index(name), name, pc.if_else(april, pc.add(pc.multiply(old, 0.5), 40.0), old)
            )
    return rows


def test_nothing_of_the_holdouts_time_moves_a_training_row_or_a_model(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = Settings.load(
        {
            "MILLRACE_ROOT": str(settings.root),
            "MILLRACE_VAR": str(tmp_path_factory.mktemp("other")),
            "MILLRACE_DAGS": str(settings.dags),
        }
    )
    refs = {settings: prepare(settings), other: prepare(other, other_april)}
    domain, use_case = load_domain(settings.dags, "flights"), flight_delay(settings.dags)
    read = {
        where: load_training_set(use_case, ref, lake=where.lake, through="2013-03", known_until="2013-04-01T04:00:00Z")
        for where, ref in refs.items()
    }
    assert read[settings].num_rows > 1500
    assert read[settings].equals(read[other])
    april = [load_training_set(use_case, ref, lake=where.lake, partitions=["2013-04"]) for where, ref in refs.items()]
    assert not april[0].equals(april[1])
    models = [train_candidate(use_case, domain, "xgboost", ref, settings=where) for where, ref in refs.items()]
    assert models[0].digest == models[1].digest
    assert (models[0].trained_through, models[0].holdout) == ("2013-03", "2013-04")
    again = build_training_set(use_case, domain, "2013-04", settings=settings)
    assert (again.changed, again.version, again.digest) == (False, refs[settings].version, refs[settings].digest)


def test_training_again_gives_the_same_package_and_the_same_run(settings: Settings) -> None:
    use_case, domain = make_use_case(), make_domain()
    ref = write_training_set(use_case, settings.lake, MONTHS)
    first = train_candidate(use_case, domain, "lightgbm", ref, settings=settings)
    assert train_candidate(use_case, domain, "lightgbm", ref, settings=settings) == first
    package = Package.open(settings.packages / first.digest, first.digest)
    assert package.manifest.training.partitions == ["2020-01", "2020-02"]
    assert package.manifest.training.known_until == "2020-03-01T00:00:00Z"
    assert first.run_id
    assert len(str(first.to_dict())) < 4096


def test_only_labels_known_when_the_holdout_began_are_used(settings: Settings) -> None:
    use_case, domain = make_use_case(), make_domain()
    ref = write_training_set(use_case, settings.lake, MONTHS)
    first = train_candidate(use_case, domain, "baseline", ref, settings=settings)
    february = make_rows(use_case, "2020-02")
    late = pc.greater(february.column("label_known_at"), pa.scalar(domain.partition("2020-03").start))
    assert 0 < pc.sum(late).as_py() < 100
    changed = pc.if_else(late, pc.subtract(1.0, february.column("label")), february.column("label"))
    Table(settings.lake, ref.table).replace(
        february.set_column(february.column_names.index("label"), "label", changed), partition="2020-02"
    )
    newer = DatasetRef(table=ref.table, version=ref.version + 1, known_until=ref.known_until)
    assert train_candidate(use_case, domain, "baseline", newer, settings=settings).digest == first.digest


def test_a_holdout_without_enough_before_it_is_refused(settings: Settings) -> None:
    use_case = make_use_case()
    ref = write_training_set(use_case, settings.lake, MONTHS[:2])
    with pytest.raises(TrainingError, match="needed are 2"):
        train_candidate(use_case, make_domain(), "baseline", ref, settings=settings)
    empty = write_training_set(use_case, settings.lake, MONTHS[:1])
    with pytest.raises(TrainingError, match="no rows"):
        train_candidate(use_case, make_domain(), "baseline", empty, settings=settings)


def test_a_tracking_server_that_is_away_is_said_and_a_retry_only_logs(settings: Settings) -> None:
    use_case = make_use_case()
    ref = write_training_set(use_case, settings.lake, MONTHS, 100)
    away = dataclasses.replace(settings, mlflow_url="http://127.0.0.1:9")
    with pytest.raises(RegistryUnavailableError):
        train_candidate(use_case, make_domain(), "baseline", ref, settings=away)
    sealed = [path.name for path in settings.packages.iterdir()]
    assert [train_candidate(use_case, make_domain(), "baseline", ref, settings=settings).digest] == sealed
