"""One partition of one source: its tables, its rows in DuckDB, and where quarantined rows lie among them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from millrace.artifact import DatasetRef
from millrace.errors import LakeError
from millrace.ingestion import UNASSIGNED
from millrace.lake import Table, duck
from millrace.lake.commits import PARTITION
from millrace.lake.duck import quoted, text
from millrace.lake.schema import arrow_schema
from millrace.settings import Settings
from millrace.spec import DomainSpec, SourceSpec
from millrace.step.ingestion import WHOLE
from millrace.step.source import source_of
from millrace.validation.base import ROW
from millrace.validation.naming import LATE, locate, rows_among
from millrace.validation.quarantine import identify_records
from millrace.validation.settlement import decided
from millrace.validation.standing import Standing, find_standing


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One partition of one source, and its tables.

    Attributes:
        domain: the domain.
        source: name of the source.
        key: key of the partition, "" for a static source.
        settings: the installation.
    """

    domain: DomainSpec
    source: str
    key: str
    settings: Settings

    @property
    def spec(self) -> SourceSpec:
        """The source."""
        return source_of(self.domain, self.source)

    @property
    def name(self) -> str:
        """Name of the raw table, which ids of rows are made with."""
        return self.domain.raw_table(self.source)

    @property
    def where(self) -> str:
        """The partition in messages."""
        return f"{self.name}, partition {self.key or '(whole)'}"

    @property
    def raw(self) -> Table:
        """Rows as ingested."""
        return Table(self.settings.lake, self.name)

    @property
    def rejected(self) -> Table:
        """Records set aside before they became rows."""
        return Table(self.settings.lake, self.domain.rejected_table(self.source))

    @property
    def quarantine(self) -> Table:
        """Rows and records set aside."""
        return Table(self.settings.lake, self.domain.quarantine_table(self.source))

    @property
    def clean(self) -> Table:
        """Rows that keep the contract."""
        return Table(self.settings.lake, self.domain.clean_table(self.source))


def list_places(
    domain: DomainSpec, source: str, *, settings: Settings, partitions: Sequence[str] | None = None
) -> list[Place]:
    """The partitions of a source that have something in quarantine, in the order of their keys.

    Raises:
        SpecError: there is no such source, or a key is none of the domain's grain.
    """
    spec = source_of(domain, source)
    for key in partitions or ():
        if key not in ("", UNASSIGNED):
            domain.partition(key)
    place = Place(domain=domain, source=source, key="", settings=settings)
    wanted = {""} if spec.static and partitions else partitions
    keys = [key for key in sorted(place.quarantine.newest()) if wanted is None or key in wanted]
    return [Place(domain=domain, source=source, key=key, settings=settings) for key in keys]


@contextmanager
def open_raw(place: Place, raw: DatasetRef, folder: Path) -> Iterator[Any]:
    """A DuckDB connection whose view `raw` has the rows of a raw snapshot and their positions, `row#`.

    Its SQL can read and write nothing but the files of the snapshot and `folder`.
    """
    spec = place.spec
    fetched = folder / "raw"
    fetched.mkdir(exist_ok=True)
    files = place.raw.fetch(fetched, version=raw.version, partitions=[place.key] if place.key else None)
    files = [file.resolve() for file in files]
    folders = [folder, *dict.fromkeys(file.parent for file in files)]
    connection = duck.connect(memory_limit=spec.memory_limit, external=False, folders=folders, spill=folder / "spill")
    try:
        connection.execute(f"CREATE VIEW raw AS {_raw_query(connection, spec, files)}")
        yield connection
    finally:
        connection.close()


def read_records(place: Place, rejected: DatasetRef | None) -> pa.Table | None:
    """The records of a partition that never became rows, in a snapshot of them."""
    if rejected is None:
        return None
    key = place.key or WHOLE
    return place.rejected.read(version=rejected.version, partitions=[key]).drop_columns([PARTITION])


def snapshots(
    place: Place, quarantine: Mapping[str, str], clean: Mapping[str, str]
) -> tuple[DatasetRef, DatasetRef | None]:
    """The raw snapshot the partition was last validated on, and that of the records set aside with it.

    Rows ingested since were not judged yet, so nothing may be built from them. Equal content is committed once, so
    of quarantine and clean rows only one may know the newer snapshot.

    Args:
        place: the partition.
        quarantine: notes on the newest write of the quarantine.
        clean: notes on the newest clean write.

    Raises:
        LakeError: the partition was not ingested.
    """
    newest = place.raw.note(place.key)
    if newest is None:
        raise LakeError(
            "no raw rows are there",
            where=place.where,
            remedy="ingest and validate the partition first",
        )
    noted = [notes for notes in (quarantine, clean) if notes.get("raw")]
    notes = max(noted, key=lambda each: int(each["raw"])) if noted else {"raw": str(newest[0].version), **newest[1]}
    raw = DatasetRef(table=place.name, version=int(notes["raw"]), partition=place.key)
    if not notes.get("rejected"):
        return raw, None
    key = place.key or WHOLE
    return raw, DatasetRef(table=place.rejected.name, version=int(notes["rejected"]), partition=key)


def record_ids(place: Place, entries: pa.Table, rejected: DatasetRef | None) -> set[str]:
    """Ids of the records that are there and never became rows; only looked up where one is late or decided on."""
    late = pc.and_(pc.equal(entries["kind"], "record"), pc.match_substring(entries["reasons"], f'"{LATE}"'))
    if not (pc.any(late).as_py() or pc.any(pc.equal(decided(entries)["kind"], "record")).as_py()):
        return set()
    records = read_records(place, rejected)
    return set() if records is None else set(identify_records(records, source=place.name)[1])


def stand(place: Place, connection: Any, entries: pa.Table, records: Collection[str]) -> Standing:
    """`find_standing` of a partition."""
    return find_standing(connection, entries, records, source=place.name)


def locate_rows(place: Place, connection: Any, entries: pa.Table) -> dict[str, int]:
    """Id → position of the entries that are rows of the raw partition."""
    return locate(connection, rows_among(connection, entries), source=place.name)


def positions(found: Mapping[str, int]) -> npt.NDArray[np.int64]:
    """Positions, sorted."""
    return np.unique(np.array(list(found.values()), np.int64))


def _raw_query(connection: Any, spec: SourceSpec, files: list[Path]) -> str:
    """SQL of the declared columns of Parquet files, one after the other, with positions counted over all of them."""
    parts, first = [], 0
    for file in files:
        there = set(connection.sql(f"SELECT * FROM read_parquet({text(str(file))}) LIMIT 0").columns)
        columns = [
            quoted(name) if name in there else f"CAST(NULL AS {_sql_type(connection, kind)}) AS {quoted(name)}"
            for name, kind in ((field.name, field.type) for field in arrow_schema(spec.raw_columns))
        ]
        source = f"read_parquet({text(str(file))}, file_row_number = true, hive_partitioning = false)"
        parts.append(f"SELECT {', '.join(columns)}, {first} + file_row_number AS {quoted(ROW)} FROM {source}")
        rows = connection.execute(f"SELECT num_rows FROM parquet_file_metadata({text(str(file))})").fetchall()
        first += int(rows[0][0])
    if parts:
        return " UNION ALL ".join(parts)
    empty = arrow_schema(spec.raw_columns).append(pa.field(ROW, pa.int64())).empty_table()
    connection.register("no_raw_row", empty)
    return "SELECT * FROM no_raw_row"


def _sql_type(connection: Any, kind: pa.DataType) -> str:
    connection.register("of_kind", pa.table({"x": pa.nulls(0, kind)}))
    found = str(connection.table("of_kind").types[0])
    connection.unregister("of_kind")
    return found
