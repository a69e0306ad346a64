"""Does a feature know the future? Transformations are run over made-up rows, and again with the future changed.

For some instants everything that was not known by then is changed: late columns of rows whose outcome came later, and
whole rows that came later where a source has no late columns. A feature row that could be used by that instant must not
change. The same way it is found out whether rows before the declared look-back matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.errors import FeatureError
from millrace.features.base import KNOWN_AT
from millrace.features.clock import clocks_in_python, clocks_in_sql
from millrace.features.difference import ROWS
from millrace.features.future import WHOLE_ROW, change_future, known_column
from millrace.features.probe import SEED, Cleaner, Probe, Rows, probes
from millrace.features.transformation import Transformation, read_transformation
from millrace.lake.duck import connect
from millrace.spec import DomainSpec, SourceSpec

Late = Mapping[str, list[str]]
"""Source → what is known late of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probed:
    """What trying a domain's feature tables on made-up rows came to.

    Attributes:
        faults: what is wrong in time; empty where nothing was found.
        untried: of which feature tables that says little or nothing, and why, a sentence each.
    """

    faults: list[FeatureError]
    untried: list[str]


def probe_domain(domain: DomainSpec, folder: Path, clean: Cleaner) -> Probed:
    """Try a domain's feature tables on made-up rows.

    Args:
        domain: the domain; its transformations must compile.
        folder: folder of the domains' YAML.
        clean: runs a source's clean-up over raw rows.
    """
    faults: list[FeatureError] = []
    untried: list[str] = []
    connection = connect(threads=1, external=False)
    try:
        for probe, names in probes(connection, domain, clean):
            for name in names:
                made_by = read_transformation(domain, name, folder)
                try:
                    found = probe_table(name, made_by, probe)
                    blind = [] if found else _blind(made_by, probe)
                except FeatureError as error:
                    made_up = error.__cause__ is not None  # made-up values may be ones that real rows never have
                    found, blind = ([], [f"it fails on made-up rows: {error.what}"]) if made_up else ([error], [])
                faults += found
                untried += [f"feature table {name!r}: {why}" for why in blind]
    finally:
        connection.close()
    return Probed(faults=faults, untried=untried)


def probe_table(name: str, made_by: Transformation, probe: Probe) -> list[FeatureError]:
    """What is wrong in time with one feature table.

    Raises:
        FeatureError: the transformation fails on the made-up rows.
    """
    sources = made_by.sources(probe.domain)
    function = (made_by.table.function or "").partition(":")[2]
    if clocks := clocks_in_python(made_by.text, function) if function else clocks_in_sql(made_by.text):
        return [_moving(name, made_by, clocks)]
    rows = probe.reached(sources, made_by.table.look_back_days)
    base = probe.run(made_by, rows)
    if changed := probe.differing(made_by, base, probe.run(made_by, rows)):
        return [_unrepeatable(name, made_by, changed, "when it is run a second time")]
    found = [_leak(name, made_by, probe, rows, base), _short(name, made_by, probe, base)]
    faults = [fault for fault in found if fault]
    if faults and (changed := probe.differing(made_by, base, probe.run(made_by, _reversed(rows)))):
        return [_unrepeatable(name, made_by, changed, "when its rows come in another order")]
    return faults


def _leak(name: str, made_by: Transformation, probe: Probe, rows: Rows, base: pa.Table) -> FeatureError | None:
    late = {source: _late(probe.domain.sources[source], table) for source, table in rows.items()}
    leaked: set[str] = set()
    guilty: set[str] = set()
    for number, instant in enumerate(probe.instants):

        def changed_by(columns: Late, at: datetime = instant, seed: int = SEED + number) -> list[str]:
            changed = {
                source: change_future(probe.domain.sources[source], table, columns.get(source, []), at, seed)
                for source, table in rows.items()
            }
            return probe.differing(made_by, base, probe.run(made_by, changed), at)

        if not (found := changed_by(late)):
            continue
        leaked |= set(found)
        for source, column in [(source, column) for source, columns in late.items() for column in columns]:
            cause = f"rows of {source}" if column == WHOLE_ROW else f"{source}.{column}"
            if cause not in guilty and changed_by({source: [column]}):
                guilty.add(cause)
    ordered = [feature for feature in [ROWS, *made_by.table.features] if feature in leaked]
    return _leak_error(name, made_by, ordered, sorted(guilty)) if leaked else None


def _blind(made_by: Transformation, probe: Probe) -> list[str]:
    """Why a leak of a feature table in which none was found could not have been seen."""
    if made_by.table.static:
        return []
    rows = probe.reached(made_by.sources(probe.domain), made_by.table.look_back_days)
    if blind := [why for source, table in rows.items() if (why := probe.blind(source, table))]:
        return blind
    known = probe.run(made_by, rows)[KNOWN_AT]
    if pc.any(pc.less_equal(known, pa.scalar(max(probe.instants), known.type))).as_py():
        return []
    return ["no row that it makes of made-up ones is known by an instant that is tried"]


def _leak_error(name: str, made_by: Transformation, leaked: list[str], guilty: list[str]) -> FeatureError:
    causes = " and ".join(guilty) or "columns that are known late, together"
    return FeatureError(
        f"feature table {name!r} knows the future: {_named(leaked)} follow from {causes} before these are known",
        where=made_by.table.origin,
        remedy="use a row's late columns only where its known_at is not after the known_at of the feature row, "
        "or give the feature row a later known_at",
    )


def _short(name: str, made_by: Transformation, probe: Probe, base: pa.Table) -> FeatureError | None:
    if made_by.table.static:
        return None
    more = probe.run(made_by, probe.reached(made_by.sources(probe.domain), None))
    if not (changed := probe.differing(made_by, base, more)):
        return None
    return FeatureError(
        f"feature table {name!r} looks back further than {made_by.table.look_back_days} days: {_named(changed)} "
        "follow from older rows too",
        where=f"{made_by.table.origin}: look_back_days",
        remedy="declare the longest window, and what passes until its rows are known, or bound the rows it reads",
    )


def _unrepeatable(name: str, made_by: Transformation, changed: list[str], when: str) -> FeatureError:
    return FeatureError(
        f"feature table {name!r} does not repeat: {_named(changed)} come out differently {when}",
        where=made_by.table.origin,
        remedy="leave out clocks and chance, and order windows by columns that decide between rows",
    )


def _moving(name: str, made_by: Transformation, clocks: list[str]) -> FeatureError:
    return FeatureError(
        f"feature table {name!r} does not repeat: it calls {', '.join(clocks)}, which gives another value at every run",
        where=made_by.table.origin,
        remedy="take times from the rows, or from the partition's bounds",
    )


def _named(features: list[str]) -> str:
    shown = ", ".join("which rows there are" if name == ROWS else name for name in features[:4])
    return shown if len(features) <= 4 else f"{shown} and {len(features) - 4} more"


def _late(source: SourceSpec, rows: pa.Table) -> list[str]:
    """What of a source's rows may be known later: columns, or the rows as such."""
    if known_column(source, rows.schema) is None:
        return []
    return [name for name in source.known_late if name in rows.column_names] or [WHOLE_ROW]


def _reversed(rows: Rows) -> dict[str, pa.Table]:
    return {source: table.take(pa.array(np.arange(table.num_rows)[::-1])) for source, table in rows.items()}
