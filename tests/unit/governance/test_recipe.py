from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.governance.test_git_tree import git

from millrace.document import store_document
from millrace.errors import DocumentError, RebuildError, ReleaseRefusedError
from millrace.governance.approval import check_tree
from millrace.governance.recipe import (
    Recipe,
    find_recipes,
    find_tuning,
    load_text,
    recipe_folder,
    require_recipe,
    store_recipe,
    store_text,
)
from millrace.governance.tuning_record import TrialPoint, TuningRecord
from millrace.governance.waiver import record_waiver
from millrace.settings import Settings
from millrace.spec import load_policy, load_use_case

PACKAGE = hashlib.sha256(b"a package").hexdigest()


def recipe(**changes: object) -> Recipe:
    plain = Recipe(
        package=PACKAGE,
        use_case="flight_delay",
        candidate="xgboost",
        trainer="xgboost",
        seed=7,
        threads=2,
        params={"rounds": 20, "learning_rate": 0.1},
        job="j" * 64,
        training_set={"table": "flight_delay/training_set/v1", "version": 3, "digest": "d" * 64},
        sources={"flights/clean/flights": {"version": 4, "digest": "c" * 64}},
        feature_service="v1",
        python="3.11.7",
        platform="linux-x86_64",
        libraries={"numpy": "2.4.6"},
        commit="a" * 40,
        tree="clean",
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_a_recipe_is_found_by_its_package_and_named_by_its_bytes(settings: Settings) -> None:
    kept = store_recipe(recipe(), settings)
    assert kept == recipe().digest
    assert store_recipe(recipe(), settings) == kept
    assert require_recipe(PACKAGE, settings) == recipe()
    path = recipe_folder(settings) / PACKAGE / f"{kept}.json"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == kept
    path.write_bytes(path.read_bytes().replace(b'"seed":7', b'"seed":8'))
    with pytest.raises(DocumentError):
        require_recipe(PACKAGE, settings)


def test_a_clean_tree_comes_before_a_dirty_one_and_the_newer_of_two_first(settings: Settings) -> None:
    digests = [
        store_recipe(recipe(commit=commit * 40, tree=tree), settings)
        for commit, tree in (("1", "clean"), ("2", "clean"), ("3", "dirty"))
    ]
    for age, digest in enumerate(reversed(digests)):
        os.utime(recipe_folder(settings) / PACKAGE / f"{digest}.json", (1000 - age, 1000 - age))
    assert [found.commit[0] for found in find_recipes(PACKAGE, settings)] == ["2", "1", "3"]


def search(value: float = 0.7) -> TuningRecord:
    return TuningRecord(
        metric="auc",
        folds=["2013-02"],
        trials={"complete": 1, "pruned": 1},
        value=value,
        params={"learning_rate": 0.1},
        importance={"learning_rate": 1.0},
        history=[
            TrialPoint(number=0, value=value, state="complete"),
            TrialPoint(number=1, value=None, state="pruned"),
        ],
    )


def test_a_recipe_without_a_search_has_the_bytes_it_always_had(settings: Settings) -> None:
    assert "tuning" not in recipe().to_dict()
    # As stored before there was a word on searches.
    assert recipe().digest == "5f7ea497a2a7a8ae5c41c17f0a951d748855e3c71e1d8116a4e264810908bc89"
    older = store_document(recipe_folder(settings) / PACKAGE, recipe().to_dict())
    assert require_recipe(PACKAGE, settings).digest == older
    assert require_recipe(PACKAGE, settings).tuning is None


def test_a_search_is_found_by_the_candidates_own_recipe(settings: Settings) -> None:
    assert find_tuning("flight_delay", "xgboost", PACKAGE, settings) is None
    store_recipe(recipe(), settings)
    store_recipe(recipe(candidate="twin", tuning=search(0.6)), settings)
    assert find_tuning("flight_delay", "xgboost", PACKAGE, settings) is None
    kept = store_recipe(recipe(tuning=search()), settings)
    assert find_tuning("flight_delay", "xgboost", PACKAGE, settings) == search()
    assert find_tuning("another", "xgboost", PACKAGE, settings) is None
    assert kept in {found.digest for found in find_recipes(PACKAGE, settings)}


def test_a_package_without_a_recipe_is_told(settings: Settings) -> None:
    assert find_recipes(PACKAGE, settings) == []
    with pytest.raises(RebuildError, match="no recipe"):
        require_recipe(PACKAGE, settings)


def test_texts_are_kept_by_digest(settings: Settings) -> None:
    digest = store_text("numpy==2.4.6\n# ü\n", settings)
    assert load_text(digest, settings) == "numpy==2.4.6\n# ü\n"
    assert store_text("", settings) == ""
    assert load_text("", settings) == ""
    with pytest.raises(DocumentError):
        load_text("0" * 64, settings)


def test_a_model_of_a_dirty_tree_needs_a_waiver_though_the_tree_is_clean_by_now(
    settings: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "checkout"
    (root / "dags").mkdir(parents=True)
    (root / "dags" / "a.py").write_text("")
    git(tmp_path, "init", "-q", str(root))
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    settings = replace(settings, root=root)
    use_case = load_use_case(settings.dags, "flight_delay")
    strict, lenient = (load_policy(settings.dags, tier) for tier in ("medium", "low"))

    assert check_tree(settings, use_case, strict, PACKAGE).state == "clean"
    store_recipe(recipe(tree="dirty", changed=["dags/a.py"]), settings)
    with pytest.raises(ReleaseRefusedError, match=r"trained from a working tree that was dirty \(dags/a.py\)"):
        check_tree(settings, use_case, strict, PACKAGE)
    assert check_tree(settings, use_case, lenient, PACKAGE).state == "clean"
    record_waiver(use_case, "dirty_tree", PACKAGE, "looked at", holdout="2013-03", actor="olive", settings=settings)
    assert check_tree(settings, use_case, strict, PACKAGE).state == "clean"

    other = hashlib.sha256(b"another package").hexdigest()
    store_recipe(recipe(package=other, tree="dirty"), settings)
    store_recipe(recipe(package=other), settings)
    assert check_tree(settings, use_case, strict, other).state == "clean"
