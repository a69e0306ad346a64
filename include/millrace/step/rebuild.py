"""Rebuilding a released model from its recipe: the code, the libraries, the rows and the parameters of then."""

from __future__ import annotations

import logging
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow as pa

from millrace.artifact import DatasetRef, PlainValue, iso
from millrace.errors import MillraceError, PackageError, RebuildError
from millrace.governance.recipe import Recipe, load_text, require_recipe
from millrace.governance.release import Releases
from millrace.governance.worktree import checked_out
from millrace.package import Package
from millrace.package.layout import IMPORTED
from millrace.settings import Settings
from millrace.spec import load_domain
from millrace.spec.holdout import held_out, span
from millrace.step.environment import environments_folder
from millrace.step.rebuild_comparison import Comparison, compare_packages, metric_of, predict_rows
from millrace.step.training import build_training_set
from millrace.training.data.rows import TrainingRows
from millrace.training.data.training_set import load_training_set, open_training_set
from millrace.training.isolation.environment import Environment, own_environment
from millrace.training.isolation.environment_store import hold_environment
from millrace.training.isolation.isolated import work
from millrace.training.isolation.software import lock_text, matches, require_pinned
from millrace.training.isolation.worker_process import Place, own_code
from millrace.training.job import TrainingJob
from millrace.training.run import LooseRun, go_on

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt(PlainValue):
    """What came of a rebuild.

    Attributes:
        use_case: its use case.
        version: the release that was rebuilt.
        candidate: name of the candidate in the spec of then.
        recorded: digest of the package that was released.
        package: digest of the package that came of the rebuild; it lies in the store of packages.
        recipe: digest of the recipe.
        commit: commit whose code trained ("" where the code that runs now did).
        libraries: `this environment` where it has the versions of then, else the digest of the one that was built.
        holdout: partition that was kept back, the last where there were several.
        comparison: which level held; None for newer data.
        metrics: on newer data, the metric of the rebuilt model and of the released one on the holdout.
        notes: what is not as it was, and may make a difference.
        seconds: time it took.
    """

    use_case: str
    version: int
    candidate: str
    recorded: str
    package: str
    recipe: str
    commit: str
    libraries: str
    holdout: str
    comparison: Comparison | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def verified(self) -> bool:
        """Whether some level held."""
        return self.comparison is not None and self.comparison.level != "none"


def rebuild_release(
    use_case: str, version: int, *, settings: Settings, on: str = "", stop: Callable[[], bool] = go_on
) -> Rebuilt:
    """Train a released model again by its recipe, and compare; or train the same recipe on newer data.

    Args:
        use_case: its use case.
        version: the release.
        settings: this installation.
        on: key of a later partition to keep back; rows are then those before it, and nothing is compared.
        stop: asked while it builds and trains; True ends it.

    Raises:
        ReleaseRefusedError: no such release.
        RebuildError: no recipe, no such commit, a library that nothing can install again, or the snapshot is not
            what it was.
        TrainingError: the environment cannot be built, or the training failed.
        StopFitError: `stop` said so.
    """
    started = time.monotonic()
    release = Releases(settings).get(use_case, version)
    recorded = _open(release.package, settings)
    _require_trained_here(recorded, f"release {version} of {use_case!r}")
    recipe = require_recipe(release.package, settings)
    require_pinned(recipe.libraries)
    text = load_text(recipe.job, settings).encode()
    job = TrainingJob.from_bytes(text, where=f"recipe {recipe.digest}")
    ref = DatasetRef.from_dict(recipe.training_set)
    if on:
        job, ref = _move(job, on, settings=settings)
        text = job.to_bytes()
    rows = _rows(job, ref, settings)
    if not on:
        _require_same_rows(rows, recorded, ref)
    with _environment(recipe, settings, stop) as environment:
        rebuilt = _train(text, rows, recipe, environment, settings=settings, stop=stop)
    log.info("release %d of %s rebuilt as package %s", version, use_case, rebuilt.digest)
    found = Rebuilt(
        use_case=use_case,
        version=version,
        candidate=release.candidate,
        recorded=release.package,
        package=rebuilt.digest,
        recipe=recipe.digest,
        commit=recipe.commit,
        libraries=environment.digest or "this environment",
        holdout=job.holdout,
        notes=_notes(recipe, recorded, workers=job.spec.workers),
    )
    held = [partition.key for partition in job.held_out]
    kept_back = load_training_set(job.use_case, ref, lake=settings.lake, partitions=held, hidden=job.features.hidden)
    if on:
        metrics, why = _metrics(job, rebuilt, recorded, kept_back)
        found = replace(found, metrics=metrics, notes=[*found.notes, *why])
    else:
        same = compare_packages(recorded, rebuilt, wanted=release.package, use_case=job.use_case, rows=kept_back)
        found = replace(found, comparison=same)
    return replace(found, seconds=round(time.monotonic() - started, 2))


def _require_trained_here(recorded: Package | None, which: str) -> None:
    if recorded is not None and recorded.manifest.trainer == IMPORTED:
        raise RebuildError(
            f"{which} was trained elsewhere: {recorded.manifest.params['source']}",
            where=f"package {recorded.digest[:12]}",
            remedy="import it again from there; here is nothing to train it by",
        )


def _train(
    job: bytes,
    rows: TrainingRows,
    recipe: Recipe,
    environment: Environment,
    *,
    settings: Settings,
    stop: Callable[[], bool],
) -> Package:
    """The package that the worker of the recorded commit seals."""
    folder = settings.var / "tmp"
    folder.mkdir(parents=True, exist_ok=True)
    with _code(recipe, settings) as code, tempfile.TemporaryDirectory(prefix="rebuild-", dir=folder) as name:
        place = Place(python=environment.python, code=code, folder=Path(name).resolve(), store=settings.packages)
        digest, _ = work(job, rows, place, run=LooseRun(folder=place.folder), stop=stop)
    return Package.open(settings.packages / digest, digest)


def _open(digest: str, settings: Settings) -> Package | None:
    """The released package; None where it is gone or damaged: a rebuild may bring it back."""
    try:
        return Package.open(settings.packages / digest, digest)
    except PackageError as error:
        log.warning("the released package cannot be read: %s", error)
        return None


def _move(job: TrainingJob, key: str, *, settings: Settings) -> tuple[TrainingJob, DatasetRef]:
    """The job with a later holdout, and the training set brought up to it."""
    domain = load_domain(settings.dags, job.domain.name)
    holdout = domain.partition(key)
    ref = build_training_set(job.use_case, domain, holdout.key, settings=settings)
    first = held_out(job.use_case, domain, holdout.key)[0]
    return replace(job, holdout=holdout.key, known_until=iso(first.start)), ref


def _rows(job: TrainingJob, ref: DatasetRef, settings: Settings) -> TrainingRows:
    before = job.held_out[0].shift(-1).key
    hidden = job.features.hidden
    return open_training_set(
        job.use_case, ref, lake=settings.lake, through=before, known_until=job.known_until, hidden=hidden
    )


def _require_same_rows(rows: TrainingRows, recorded: Package | None, ref: DatasetRef) -> None:
    if recorded is None or rows.digest == recorded.manifest.training.digest:
        return
    raise RebuildError(
        f"the rows of {ref.table} at version {ref.version} are not those of the training",
        where=f"digest {rows.digest[:12]}, the package names {recorded.manifest.training.digest[:12]}",
        remedy="restore the table from a backup: its history was rewritten",
    )


@contextmanager
def _environment(recipe: Recipe, settings: Settings, stop: Callable[[], bool]) -> Iterator[Environment]:
    """The recorded libraries: here, where this environment has the very same; else built from the recorded pins."""
    if matches(recipe.libraries) and platform.python_version() == recipe.python:
        yield own_environment()
        return
    lock = load_text(recipe.lock, settings) if recipe.isolated else lock_text(recipe.libraries)
    with hold_environment(lock, store=environments_folder(settings), stop=stop) as found:
        yield found


@contextmanager
def _code(recipe: Recipe, settings: Settings) -> Iterator[Path]:
    """The folder of the package `millrace` as it was at the recorded commit."""
    if not recipe.commit:
        yield own_code()
        return
    with checked_out(settings.root, recipe.commit, parent=settings.var / "worktrees") as tree:
        code = tree / "include" / "millrace"
        if not (code / "training" / "worker.py").is_file():
            raise RebuildError(
                f"commit {recipe.commit[:12]} has no include/millrace/training/worker.py",
                where=str(settings.root),
                remedy="set MILLRACE_ROOT to the checkout that the model was trained from",
            )
        yield code


def _metrics(
    job: TrainingJob, rebuilt: Package, released: Package | None, rows: pa.Table
) -> tuple[dict[str, float], list[str]]:
    """The metric of the use case on the newer holdout, of the rebuilt model and of the released one; and why not."""
    metrics, notes = {}, []
    for name, package in (("rebuilt", rebuilt), ("released", released)):
        if package is not None:
            try:
                metrics[name] = metric_of(job.use_case, rows, predict_rows(package, rows))
            except MillraceError as error:
                notes.append(f"no metric of the {name} model on {span(job.held_out)}: {error.what}")
    return metrics, notes


def _notes(recipe: Recipe, recorded: Package | None, *, workers: int) -> list[str]:
    notes = []
    if recipe.tree != "clean":
        notes.append(f"trained from a working tree that was {recipe.describe_tree()}: what is in no commit is lost")
    if recipe.python != platform.python_version():
        notes.append(f"trained on Python {recipe.python}, rebuilt on {platform.python_version()}")
    here = f"{platform.system()}-{platform.machine()}".lower()
    if recipe.platform != here:
        notes.append(f"trained on {recipe.platform}, rebuilt on {here}")
    if workers > 1:
        notes.append(f"trained by {workers} workers together, rebuilt by one process")
    if recorded is None:
        notes.append("the released package was gone from the store")
    return notes
