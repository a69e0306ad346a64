"""A released model is trained again after code and lock moved on; two versions of one library train in one run."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.environments import OLD_XGBOOST, STORE, prepared
from tests.unit.features import clean
from tests.unit.training.synthetic import make_domain, make_job, make_use_case, write_training_set

from millrace.artifact import DatasetRef
from millrace.errors import RebuildError
from millrace.governance.recipe import Recipe, find_recipes
from millrace.governance.release import Release, Releases
from millrace.governance.state import writing
from millrace.package import Package
from millrace.settings import Settings
from millrace.spec import CandidateSpec, UseCaseSpec, load_domain, load_use_case
from millrace.step.candidate import train_candidate
from millrace.step.features import build_features
from millrace.step.rebuild import rebuild_release
from millrace.step.recipe import origin_of, record_recipe
from millrace.step.training import build_training_set
from millrace.training import LooseRun, TrainingJob
from millrace.training.data.training_set import open_training_set
from millrace.training.isolation.environment import Environment, environment_digest
from millrace.training.isolation.isolated import work
from millrace.training.isolation.software import NO_DISTRIBUTION
from millrace.training.isolation.worker_process import Place, own_code

pytestmark = [pytest.mark.integration, pytest.mark.full, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = ["2020-01", "2020-02", "2020-03"]
SPEC = {"rounds": 30, "max_depth": 4, "subsample": 0.8}
TUNING = {"space": {"gamma": {"type": "float", "low": 0.0, "high": 5.0}}, "trials": 3, "folds": 1}


def git(root: Path, *argv: str) -> str:
    """Run it in a checkout, also where a hook of another one runs the tests."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", *identity, "-C", str(root), *argv], check=True, capture_output=True, text=True, env=environ
    ).stdout.strip()


def commit(root: Path, message: str) -> str:
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", message)
    return git(root, "rev-parse", "HEAD")


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@dataclass(frozen=True)
class Installation:
    """A checkout under git with an installation of its own, a use case, and rows to train it on."""

    settings: Settings
    use_case: UseCaseSpec
    training_set: DatasetRef

    @property
    def root(self) -> Path:
        return self.settings.root

    @property
    def job(self) -> TrainingJob:
        return make_job(self.use_case, "boosted", holdout=PARTITIONS[-1])

    def train(self, environment: Environment) -> Package:
        """Train with the code of the checkout, as its own interpreter would."""
        code, folder = self.root / "include" / "millrace", self.settings.var / "training"
        place = Place(python=environment.python, code=code, folder=folder, store=self.settings.packages)
        rows = open_training_set(
            self.use_case,
            self.training_set,
            lake=self.settings.lake,
            through=PARTITIONS[-2],
            known_until=self.job.known_until,
        )
        digest, _ = work(self.job.to_bytes(), rows, place, run=LooseRun(folder=folder))
        return Package.open(self.settings.packages / digest, digest)

    def release(self, package: Package, version: int = 1) -> Release:
        """Put a package in force, as the steps of a training run do once all was proven."""
        release = Release(
            use_case=self.use_case.name,
            version=version,
            package=package.digest,
            candidate="boosted",
            trainer="xgboost",
            trained_through=PARTITIONS[-2],
            holdout=PARTITIONS[-1],
            effective_at="2020-04-01T00:00:00Z",
            evidence="e" * 64,
            policy="p" * 64,
            feature_service=self.use_case.features.name,
            threshold=0.5,
            reference="r" * 64,
        )
        with writing(self.settings) as connection:
            Releases(self.settings).add(release, actor="t", note={}, connection=connection)
        return release

    def cli(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        named = {"ROOT": self.root, "VAR": self.settings.var, "DAGS": self.settings.dags}
        environ = {**os.environ, **{f"MILLRACE_{name}": str(path) for name, path in named.items()}}
        argv = [sys.executable, "-m", "millrace.cli.main", "rebuild", self.use_case.name, *arguments]
        return subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    root = tmp_path / "a checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "include" / "millrace", root / "include" / "millrace", ignore=ignored)
    shutil.copytree(ROOT / "dags", root / "dags", ignore=ignored)
    (root / ".gitignore").write_text("var/\n__pycache__/\n")
    (root / "constraints.txt").write_text(OLD_XGBOOST.read_text(encoding="utf-8"))
    # What golden rows say tells whose code trained: no other commit, and not the code under test, says it so.
    edit(root / "include/millrace/training/golden.py", '_UNSEEN = "never seen in training"', '_UNSEEN = "unseen then"')
    git(root.parent, "init", "-q", str(root))
    commit(root, "as v1 was trained")
    settings = Settings.load({"MILLRACE_ROOT": str(root), "MILLRACE_VAR": str(root / "var")})
    (settings.var / "mlflow").mkdir(parents=True)
    (settings.var / "environments").symlink_to(STORE.absolute())
    use_case = make_use_case("binary", boosted={"trainer": "xgboost", "params": SPEC})
    return Installation(
        settings=settings, use_case=use_case, training_set=write_training_set(use_case, settings.lake, PARTITIONS)
    )


def record(installation: Installation, package: Package, environment: Environment) -> Recipe:
    return record_recipe(
        installation.job,
        package,
        installation.training_set,
        origin=origin_of(installation.settings),
        settings=installation.settings,
        libraries=environment.libraries,
    )


def test_v1_is_rebuilt_to_the_byte_after_two_commits_and_another_lock(installation: Installation) -> None:
    then = prepared(OLD_XGBOOST)
    package = installation.train(then)
    assert package.manifest.library.version == "2.1.4"
    assert b"unseen then" in package.content["golden.json"]
    recipe = record(installation, package, then)
    assert (recipe.tree, recipe.libraries["xgboost-cpu"]) == ("clean", "2.1.4")
    installation.release(package)
    first = git(installation.root, "rev-parse", "HEAD")

    edit(installation.root / "include/millrace/training/golden.py", "unseen then", "unseen now")
    commit(installation.root, "other golden rows")
    edit(installation.root / "constraints.txt", "xgboost-cpu==2.1.4", "xgboost-cpu==3.2.0")
    commit(installation.root, "another xgboost")
    write_training_set(installation.use_case, installation.settings.lake, PARTITIONS, count=300)
    shutil.rmtree(installation.settings.packages)

    done = installation.cli("--version", "1", "--verify", "--json")
    assert done.returncode == 0, done.stderr
    told = orjson.loads(done.stdout.splitlines()[-1])
    assert (told["comparison"]["level"], told["verified"], told["package"]) == ("bytes", True, package.digest)
    assert (told["commit"], told["libraries"]) == (first, then.digest)
    assert Package.open(installation.settings.packages / package.digest, package.digest).golden == package.golden
    assert git(installation.root, "worktree", "list").count("\n") == 0
    assert git(installation.root, "status", "--porcelain") == ""
    assert not list((installation.settings.var / "worktrees").iterdir())


def test_a_dirty_tree_is_named_and_what_was_lost_with_it_fails_the_check(installation: Installation) -> None:
    here = Environment(python=Path(sys.executable))
    edit(installation.root / "include/millrace/training/golden.py", "unseen then", "unseen and never committed")
    package = installation.train(here)
    recipe = record(installation, package, here)
    assert (recipe.tree, recipe.changed) == ("dirty", ["include/millrace/training/golden.py"])
    installation.release(package)
    git(installation.root, "checkout", "--", ".")

    found = rebuild_release(installation.use_case.name, 1, settings=installation.settings)
    assert found.libraries == "this environment"
    assert found.comparison is not None
    assert (found.comparison.level, found.comparison.prediction_gap) == ("predictions", 0.0)
    assert found.comparison.differing == ["golden.json"]
    assert "include/millrace/training/golden.py" in found.notes[0]


def test_what_is_not_the_same_exits_with_one_and_says_so(installation: Installation) -> None:
    here = Environment(python=Path(sys.executable))
    package = installation.train(here)
    record(installation, package, here)
    installation.release(package)
    recipe = find_recipes(package.digest, installation.settings)[0]
    # A recipe of another job stands for whatever else went wrong since.
    others = make_use_case("binary", boosted={"trainer": "baseline"})
    record_recipe(
        make_job(others, "boosted", holdout=PARTITIONS[-1]),
        package,
        installation.training_set,
        origin=origin_of(installation.settings),
        settings=installation.settings,
        libraries=recipe.libraries,
    )
    done = installation.cli("--version", "1", "--verify")
    assert done.returncode == 1
    assert "not the same" in done.stdout
    assert "auc" in done.stdout


def test_a_rebuild_without_recipe_or_commit_is_refused_in_words(installation: Installation) -> None:
    package = installation.train(Environment(python=Path(sys.executable)))
    installation.release(package)
    with pytest.raises(RebuildError, match="no recipe"):
        rebuild_release(installation.use_case.name, 1, settings=installation.settings)
    record(installation, package, Environment(python=Path(sys.executable)))
    shutil.rmtree(installation.root / ".git")
    git(installation.root.parent, "init", "-q", str(installation.root))
    commit(installation.root, "another history")
    with pytest.raises(RebuildError, match="git cannot check the commit out"):
        rebuild_release(installation.use_case.name, 1, settings=installation.settings)


def test_a_trainer_that_no_distribution_brought_is_refused_before_rows_are_read(installation: Installation) -> None:
    here = Environment(python=Path(sys.executable))
    package = installation.train(here)
    installation.release(package)
    record(installation, package, dataclasses.replace(here, libraries={"shop_models": NO_DISTRIBUTION}))
    shutil.rmtree(installation.settings.lake)
    with pytest.raises(RebuildError, match="shop_models was not installed as a distribution"):
        rebuild_release(installation.use_case.name, 1, settings=installation.settings)


def test_one_run_trains_candidates_on_two_versions_of_one_library(installation: Installation) -> None:
    prepared(OLD_XGBOOST)
    settings = installation.settings
    (settings.dags / "environments").mkdir()
    shutil.copy(OLD_XGBOOST, settings.dags / "environments" / "xgboost_2.txt")
    spec = {"trainer": "xgboost", "params": SPEC}
    use_case = make_use_case(
        "binary", old={**spec, "tuning": TUNING, "environment": {"lock": "environments/xgboost_2.txt"}}, installed=spec
    )
    models = {
        name: train_candidate(use_case, make_domain(), name, installation.training_set, settings=settings, run_key="r1")
        for name in ("old", "installed")
    }
    packages = {name: Package.open(settings.packages / ref.digest, ref.digest) for name, ref in models.items()}
    assert {name: package.manifest.library.version for name, package in packages.items()} == {
        "old": "2.1.4",
        "installed": "3.2.0",
    }
    assert packages["old"].content["requirements.lock"] == OLD_XGBOOST.read_bytes()
    assert "requirements.lock" not in packages["installed"].content
    for package in packages.values():
        assert package.probe() <= 1e-6
    recipe = find_recipes(models["old"].digest, settings)[0]
    assert (recipe.isolated, recipe.libraries["xgboost-cpu"]) == (True, "2.1.4")
    assert recipe.tuning is not None
    assert recipe.tuning.trials == {"complete": 3}
    assert packages["old"].manifest.params["gamma"] == recipe.tuning.params.get("gamma", 0.0)
    dataclasses.replace(installation, use_case=use_case).release(packages["old"])
    found = rebuild_release(use_case.name, 1, settings=settings)
    assert found.comparison is not None
    assert (found.comparison.level, found.comparison.differing) == ("predictions", ["golden.json"])
    assert found.libraries == environment_digest(OLD_XGBOOST.read_text(encoding="utf-8"))
    again = train_candidate(use_case, make_domain(), "old", installation.training_set, settings=settings, run_key="r2")
    assert again.digest == models["old"].digest


def test_every_trainer_is_rebuilt_from_a_real_chain_and_the_recipe_trains_on_newer_data(
    installation: Installation,
) -> None:
    settings = installation.settings
    domain, use_case = load_domain(settings.dags, "flights"), load_use_case(settings.dags, "flight_delay")
    trainers: dict[str, dict[str, Any]] = {
        "xgboost": {"params": {"rounds": 10, "subsample": 0.8}},
        "lightgbm": {"params": {"rounds": 10, "feature_fraction": 0.8}},
        "torch": {"params": {"epochs": 2, "hidden": [8]}},
        "sklearn": {"params": {"estimator": "linear_model.LogisticRegression"}},
    }
    candidates = {name: CandidateSpec.model_validate({"trainer": name, **spec}) for name, spec in trainers.items()}
    use_case = use_case.model_copy(update={"candidates": candidates})
    clean.write_clean(domain, settings.lake, clean.raw_all())
    for partition in clean.PARTITIONS:
        build_features(domain, partition, settings=settings)
    through_march = build_training_set(use_case, domain, "2013-03", settings=settings)
    named = dataclasses.replace(installation, use_case=use_case)
    for version, name in enumerate(trainers, start=1):
        model = train_candidate(use_case, domain, name, through_march, settings=settings)
        named.release(Package.open(settings.packages / model.digest, model.digest), version)
        recipe = find_recipes(model.digest, settings)[0]
        assert set(recipe.sources) >= {"flights/clean/flights", domain.feature_table("carrier_delays")}
        found = rebuild_release(use_case.name, version, settings=settings)
        # The checkout's own golden rows differ from those of the code under test, and nothing else does.
        assert found.comparison is not None
        assert (found.comparison.level, found.comparison.prediction_gap) == ("predictions", 0.0), name
        assert found.comparison.differing == ["golden.json"], name

    newer = rebuild_release(use_case.name, 1, settings=settings, on="2013-04")
    assert (newer.holdout, newer.comparison) == ("2013-04", None)
    package = Package.open(settings.packages / newer.package, newer.package)
    assert package.manifest.training.trained_through == "2013-03"
    assert package.manifest.params == Package.open(settings.packages / newer.recorded).manifest.params
    assert {name: 0.4 < value < 1 for name, value in newer.metrics.items()} == {"rebuilt": True, "released": True}


def test_the_code_that_runs_is_the_code_of_the_checkout() -> None:
    assert own_code() == ROOT / "include" / "millrace"
