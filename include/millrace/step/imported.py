"""What an evaluation can know of models that were trained elsewhere: what was declared, and nothing more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from millrace.artifact import DatasetRef, iso
from millrace.evaluation.finding import Origin, TimeOrder
from millrace.package import Manifest, Package, TrainingRecord
from millrace.package.layout import IMPORTED
from millrace.settings import Settings
from millrace.spec import DomainSpec, UseCaseSpec
from millrace.spec.holdout import held_out
from millrace.training.data.training_set import open_training_set


def compared_partitions(
    use_case: UseCaseSpec,
    domain: DomainSpec,
    training_set: DatasetRef,
    records: Sequence[TrainingRecord],
    holdout: str,
    *,
    settings: Settings,
) -> list[str]:
    """Partitions of the rows that the holdout is compared with: those trained on here.

    Where nothing was trained here they are all before the holdout: they tell what is usual, not what was learned from.
    """
    if trained := sorted({key for record in records for key in record.partitions}):
        return trained
    before = held_out(use_case, domain, holdout)[0].shift(-1).key
    return open_training_set(use_case, training_set, lake=settings.lake, through=before).partitions


def declared_time(domain: DomainSpec, time: TimeOrder, challenger: Manifest) -> TimeOrder:
    """The order in time of a challenger: of one from elsewhere by its declaration, or unknown without one.

    Args:
        domain: its domain.
        time: what was found of the rows that were trained on here.
        challenger: manifest of the challenger's package.
    """
    if challenger.trainer != IMPORTED:
        return time
    through = challenger.training.trained_through
    last = domain.partition(through).end - timedelta(microseconds=1) if through else None
    return time.model_copy(
        update={
            "training_partitions": [through] if last else [],
            "training_last_event": iso(last) if last else "",
            "training_label_known_at": "",
            "declared": True,
        }
    )


def declared_source(manifest: Manifest) -> dict[str, str]:
    """What is known of a model from elsewhere: source, format and sha256 of its file, and the last partition learned.

    That partition is "" where nobody declared it.
    """
    known = {name: str(manifest.params[name]) for name in ("source", "format", "sha256")}
    return {**known, "trained_through": manifest.training.trained_through}


def imported_origin(package: Package) -> Origin:
    """Where an imported package comes from, as was declared, with the file it was made of."""
    known = declared_source(package.manifest)
    source = f"{known['source']} ({known['format']} file, sha256 {known['sha256']})"
    return Origin(commit="", tree="none", lock="", recipe="", source=source)
