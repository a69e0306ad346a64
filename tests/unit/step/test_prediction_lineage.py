from __future__ import annotations

import dataclasses
import hashlib
import io
from pathlib import Path

import pytest
from rich.console import Console
from tests.unit.package.onnx_models import linear
from tests.unit.step import store as stores
from tests.unit.step.foreign import Elsewhere, signature
from tests.unit.step.store import Store
from tests.unit.step.test_logged_prediction import score

from millrace.cli.lineage_view import show_prediction
from millrace.settings import Settings
from millrace.step.prediction_lineage import trace_prediction


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    made = stores.make(tmp_path / "store", settings)
    made.clean()
    return made


def test_a_prediction_of_no_release_says_so_and_goes_no_further(store: Store) -> None:
    score(store.settings, "P1", 4, use_case="again")
    found = trace_prediction("P1", settings=store.settings)
    assert found.breaks == ["'again' has no release 4"]
    assert (found.release, found.evidence, found.sources) == ({}, {}, [])


def test_every_missing_link_is_named_and_what_is_there_is_told_beside(store: Store) -> None:
    score(store.settings, "P1", 1, use_case="again")
    score(store.settings, "P1", 1, role="shadow", use_case="again")
    store.release(package="a" * 64)
    found = trace_prediction("again/1/P1", settings=store.settings)
    told = "; ".join(found.breaks)
    for link in (
        "the log names package 000000000000, release 1 is of package aaaaaaaaaaaa",
        "nobody approved package aaaaaaaaaaaa on evidence eeeeeeeeeeee",
        "no passing verdict on evidence eeeeeeeeeeee",
        f"evidence eeeeeeeeeeee: no document '{'e' * 64}'",
        "package aaaaaaaaaaaa: ",
        "the features that were scored are not in again/scored_features/again_v1",
    ):
        assert link in told
    assert (found.release["version"], found.release["entry"], found.release["actor"]) == (1, 1, "admin")
    assert found.others == ["again/1/P1 (shadow)"]


def test_a_release_that_is_not_the_one_its_entry_made_is_named(store: Store) -> None:
    import sqlalchemy

    store.release()
    score(store.settings, "P1", 1, use_case="again")
    engine = sqlalchemy.create_engine(store.settings.state_url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE release SET threshold = 0.9"))
    engine.dispose()
    found = trace_prediction("P1", settings=store.settings)
    assert "release 1 is not the one that ledger entry 1 made" in found.breaks
    assert dataclasses.asdict(found.prediction)["release"] == 1


@pytest.mark.parametrize("through", ["2020-02", None])
def test_a_model_from_elsewhere_is_told_by_what_was_declared_of_it(
    store: Store, tmp_path: Path, through: str | None
) -> None:
    (tmp_path / "model.onnx").write_bytes(linear([[-0.4] * 6, [0.8] * 6], [0, 0]))
    done = Elsewhere(store.settings).take(tmp_path / "model.onnx", signature(trained_through=through))
    store.release(package=done.model.digest)
    score(store.settings, "P1", 1, use_case="again")
    found = trace_prediction("P1", settings=store.settings)
    assert not [fault for fault in found.breaks if "recipe" in fault]
    digest = hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest()
    known = {"source": "risk team, build 7", "format": "onnx", "sha256": digest, "trained_through": through or ""}
    assert found.training["imported"] == known
    console = Console(width=80, record=True, file=io.StringIO())
    show_prediction(console, found)
    text = console.export_text()
    assert "trained elsewhere: risk team, build 7" in text
    assert ("through 2020-02, by declaration" if through else "nobody declared") in text
