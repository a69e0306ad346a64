"""Writing down how a model was trained, so that it can be trained again."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from typing import Any

from millrace.artifact import DatasetRef, digest_of
from millrace.governance.git_tree import git_tree
from millrace.governance.recipe import Recipe, store_recipe, store_text
from millrace.lake import Table
from millrace.package import Package
from millrace.settings import Settings
from millrace.training.job import TrainingJob
from millrace.training.software import installed_pins

log = logging.getLogger(__name__)


def record_recipe(
    job: TrainingJob,
    package: Package,
    training_set: DatasetRef,
    *,
    settings: Settings,
    libraries: Mapping[str, str] | None = None,
) -> Recipe:
    """Keep the recipe of a package that was just sealed; the same inputs give the same recipe.

    Args:
        job: what was trained.
        package: what came of it.
        training_set: the snapshot its rows were read from.
        settings: this installation.
        libraries: distribution → version of what trained it; by default those of this environment.
    """
    manifest, tree = package.manifest, git_tree(settings.root)
    trainer = [job.spec.trainer.partition(".")[0]] if ":" in job.spec.trainer else []
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
        lock=store_text(job.lock or _lock_of(settings), settings),
        isolated=bool(job.lock),
        commit=tree.commit,
        tree=tree.state,
        changed=tree.changed,
    )
    digest = store_recipe(recipe, settings)
    log.info("recipe %s of package %s kept, from a tree that is %s", digest[:12], package.digest[:12], tree.describe())
    return recipe


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
