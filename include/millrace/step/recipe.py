"""Writing down how a model was trained, so that it can be trained again."""

from __future__ import annotations

import itertools
import logging
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from millrace.artifact import DatasetRef, digest_of
from millrace.evaluation.metric import direction_of
from millrace.governance.git_tree import GitTree, git_tree
from millrace.governance.recipe import Recipe, store_recipe, store_text
from millrace.governance.tuning_record import TrialPoint, TuningRecord
from millrace.lake import Table
from millrace.package import Package
from millrace.settings import Settings
from millrace.training.isolation.software import installed_pins
from millrace.training.isolation.source import package_of
from millrace.training.job import TrainingJob

if TYPE_CHECKING:
    from millrace.training.tuning.tune import Tuned

log = logging.getLogger(__name__)
LONGEST_HISTORY = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a training began on, since a checkout may move on while it runs.

    Attributes:
        tree: state of the checkout.
        lock: text of the lock file.
    """

    tree: GitTree
    lock: str


def origin_of(settings: Settings) -> Origin:
    """The checkout and its lock as they are now."""
    return Origin(tree=git_tree(settings.root), lock=_lock_of(settings))


def record_recipe(
    job: TrainingJob,
    package: Package,
    training_set: DatasetRef,
    *,
    origin: Origin,
    settings: Settings,
    libraries: Mapping[str, str] | None = None,
    tuned: Tuned | None = None,
) -> Recipe:
    """Keep the recipe of a package that was just sealed; the same inputs give the same recipe.

    Args:
        job: what was trained.
        package: what came of it.
        training_set: the snapshot its rows were read from.
        origin: what the training began on; where the tree is another by now, it counts as dirty.
        settings: this installation.
        libraries: distribution → version of what trained it; by default those of this environment.
        tuned: the search that gave its parameters.
    """
    manifest, tree = package.manifest, _settled(origin.tree, git_tree(settings.root))
    trainer = [owner] if (owner := package_of(job.spec.trainer)) else []
    libraries = libraries or installed_pins(manifest.library.name, *trainer)
    recipe = Recipe(
        package=package.digest,
        use_case=job.use_case.name,
        candidate=job.candidate,
        trainer=manifest.trainer,
        seed=manifest.seed,
        threads=int(manifest.params.get("threads", 1)),
        params=dict(manifest.params),
        job=store_text(job.to_bytes().decode(), settings),
        training_set={**training_set.to_dict(), "changed": False},
        sources=_sources(job, manifest.training.partitions, settings),
        feature_service=job.use_case.features.name,
        python=platform.python_version(),
        platform=f"{platform.system()}-{platform.machine()}".lower(),
        libraries=dict(libraries),
        lock=store_text(job.lock or origin.lock, settings),
        isolated=bool(job.lock),
        commit=tree.commit,
        tree=tree.state,
        changed=tree.changed,
        tuning=sum_up(tuned) if tuned else None,
    )
    digest = store_recipe(recipe, settings)
    log.info("recipe %s of package %s kept, from a tree that is %s", digest[:12], package.digest[:12], tree.describe())
    return recipe


def sum_up(tuned: Tuned) -> TuningRecord:
    """A search in brief: no times and no curves, so that equal trials give an equal record."""
    best = tuned.best
    states = [trial.state for trial in tuned.trials]
    points = [TrialPoint(number=item.number, value=item.value, state=item.state) for item in tuned.trials]
    return TuningRecord(
        metric=tuned.metric,
        folds=sorted({fold.validated for fold in tuned.folds}),
        trials={state: states.count(state) for state in sorted(set(states))},
        value=tuned.value,
        untuned=tuned.untuned,
        params={} if best.untuned else dict(best.params),
        importance=dict(tuned.importance),
        history=_shorten(points, way=direction_of(tuned.metric)),
    )


def _shorten(points: list[TrialPoint], *, way: int) -> list[TrialPoint]:
    """The best point of each of at most `LONGEST_HISTORY` stretches of about equal length; all, where they are few."""
    count = len(points)
    bounds = [place * count // LONGEST_HISTORY for place in range(LONGEST_HISTORY + 1)]
    if count <= LONGEST_HISTORY:
        return points
    return [
        min(points[begin:end], key=lambda item: (item.value is None, -way * (item.value or 0.0), item.number))
        for begin, end in itertools.pairwise(bounds)
    ]


def _settled(before: GitTree, after: GitTree) -> GitTree:
    """The tree of a training: which code was read, nobody can say of a tree that changed in between."""
    if before == after:
        return before
    moved = [] if before.commit == after.commit else [f"commit {after.commit[:12]} came while it trained"]
    changed = sorted({*before.changed, *after.changed, *moved})
    return replace(before, state="dirty", changed=changed or ["the tree changed while it trained"])


def _lock_of(settings: Settings) -> str:
    return settings.lock.read_text(encoding="utf-8") if settings.lock.is_file() else ""


def _sources(job: TrainingJob, partitions: list[str], settings: Settings) -> dict[str, dict[str, Any]]:
    """Clean and feature tables with the newest write of the partitions that the training rows rest on.

    A feature as known at an instant may stand in any earlier partition; static tables have the key "".
    """
    domain, through = job.domain, max(partitions, default="")
    names = [domain.clean_table(job.use_case.entity.source)]
    names += [domain.feature_table(view.view) for view in job.features.lookups]
    found: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(names):
        writes = {key: ref for key, ref in Table(settings.lake, name).newest().items() if key <= through}
        if writes:
            found[name] = {
                "version": max(ref.version for ref in writes.values()),
                "digest": digest_of({key: ref.digest for key, ref in writes.items()}),
            }
    return found
