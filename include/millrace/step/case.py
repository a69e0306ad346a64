"""A partition about to be judged: snapshots, contract with the bounds of today, and how the quarantine stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pyarrow as pa

from millrace.artifact import DatasetRef, digest_of
from millrace.errors import LakeError
from millrace.spec import ExpectationSpec, SourceSpec
from millrace.step.assessment import declared
from millrace.step.ingestion import WHOLE
from millrace.step.place import Place
from millrace.validation.data_docs import DocsSite
from millrace.validation.history import earlier_partitions, history_expectations
from millrace.validation.parameter import bind
from millrace.validation.profile import PartitionProfile, load_profiles
from millrace.validation.quarantine import read_quarantine

_JUDGED_BY = 1
"""Raise it when the same rows and contract get another verdict than before: stored verdicts are void then."""
_LATER = ("ambiguous", "dropped")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is judged, by what, and how the quarantine stands before.

    Attributes:
        place: the partition.
        raw: its raw snapshot.
        rejected: the snapshot of records set aside at ingest that belongs to it.
        base: newest write of the quarantine.
        entries: what the quarantine holds.
        contract: expectations, those on history with the bounds of today.
        profiles: statistics of the partitions that history looks back on.
        notes: which measures cannot be compared, and why.
        now: when rows are set aside, or closed.
        published: newest clean write.
        digest: of all that the verdict rests on.
    """

    place: Place
    raw: DatasetRef
    rejected: DatasetRef | None
    base: DatasetRef | None
    entries: pa.Table
    contract: Sequence[ExpectationSpec]
    profiles: Sequence[PartitionProfile]
    notes: Sequence[str]
    now: datetime
    published: DatasetRef | None
    digest: str

    @property
    def site(self) -> DocsSite:
        """Where results and pages lie."""
        return DocsSite(reports=self.place.settings.reports, domain=self.place.domain.name)


def open_case(place: Place, now: datetime) -> Case:
    """Read all that a verdict rests on but the rows themselves.

    Raises:
        LakeError: the partition was not ingested.
        SpecError: the contract names a parameter that there is not, or its Python suite cannot be had.
    """
    spec = place.spec
    found = place.raw.note(place.key)
    if found is None:
        raise LakeError(
            f"no raw rows of source {place.source!r}, partition {place.key or '(whole)'}",
            where=place.raw.uri,
            remedy="ingest the partition first",
        )
    raw, ingested = found
    rejected = _rejected(place, ingested.get("rejected"))
    base, _, entries = read_quarantine(place.quarantine, place.key)
    profiles = load_profiles(
        place.settings, place.domain, place.source, before=place.key, last=earlier_partitions(spec.history)
    )
    partition = place.domain.partition(place.key) if place.key else None
    history, notes = history_expectations(spec.history, profiles, partition)
    contract = [*bind(declared(spec), partition), *history]
    digest = digest_of(
        [
            _JUDGED_BY,
            raw.digest,
            raw.version,
            None if rejected is None else rejected.version,
            None if base is None else base.version,
            declared_keys(spec),
            [item.model_dump(mode="json") for item in contract],
            notes,
        ]
    )
    published = place.clean.note(place.key)
    return Case(
        place=place,
        raw=raw,
        rejected=rejected,
        base=base,
        entries=entries,
        contract=contract,
        profiles=profiles,
        notes=notes,
        now=now,
        published=None if published is None else published[0],
        digest=digest,
    )


def declared_keys(spec: SourceSpec) -> dict[str, Any]:
    """What the source declares; keys that verdicts of before did not know are left out where they are not set."""
    fields = type(spec).model_fields
    unset = {name for name in _LATER if getattr(spec, name) == fields[name].default}
    return spec.model_dump(mode="json", exclude=unset)


def _rejected(place: Place, version: str | None) -> DatasetRef | None:
    """The snapshot of records set aside at ingest, where its version was noted."""
    if not version:
        return None
    return DatasetRef(table=place.rejected.name, version=int(version), partition=place.key or WHOLE)
