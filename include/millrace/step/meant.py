"""Which quarantined rows are meant: ids written in short, and reasons there may be."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from millrace.errors import SpecError
from millrace.ingestion.rejected import LATE
from millrace.spec import SourceSpec
from millrace.step.assessment import declared
from millrace.step.place import Place
from millrace.validation.content import reason_names
from millrace.validation.contract import DUPLICATE, SUPERSEDED
from millrace.validation.quarantine import read_quarantine

_ALWAYS = (DUPLICATE, SUPERSEDED, LATE, "parse", "encoding", "type", "oversized", "no_partition", "outside")
_CLEANUP = "cleanup."


def full_ids(places: Iterable[Place], ids: Collection[str]) -> list[str]:
    """The ids of rows of which the first signs may be given.

    Raises:
        SpecError: no row of the quarantine begins with one, or several do.
    """
    known: set[str] = set()
    for place in places if ids else ():
        known.update(read_quarantine(place.quarantine, place.key)[2]["row_id"].to_pylist())
    return [_full_id(given, known) for given in ids]


def require_reasons(specs: Iterable[SourceSpec], places: Iterable[Place], reasons: Sequence[str] | None) -> None:
    """Refuse a reason that no row is set aside for, and none can be.

    Raises:
        SpecError: names the reasons there are.
    """
    asked = {name for name in reasons or () if name not in _ALWAYS and not name.startswith(_CLEANUP)}
    if not asked:
        return
    seen = {
        name
        for place in places
        for text in set(read_quarantine(place.quarantine, place.key)[2]["reasons"].to_pylist())
        for name in reason_names(text)
    }
    if asked <= seen or not (unknown := asked - seen - {item.name for spec in specs for item in declared(spec)}):
        return
    raise SpecError(
        f"no row is set aside for {min(unknown)!r}",
        where="reason",
        remedy=f"rows are set aside for: {', '.join(sorted(seen))}" if seen else "the quarantine is empty",
    )


def _full_id(given: str, known: Collection[str]) -> str:
    found = [given] if given in known else [row_id for row_id in known if given and row_id.startswith(given)]
    if len(found) == 1:
        return found[0]
    raise SpecError(
        f"{len(found)} rows begin with {given!r}" if found else f"no quarantined row {given!r}",
        where="ids",
        remedy="give more signs of its id" if found else "see `millrace quarantine list … --ids`",
    )
