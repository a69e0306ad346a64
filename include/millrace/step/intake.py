"""An ingestion on its way: what it works on, and what was read."""

from __future__ import annotations

from dataclasses import dataclass

from millrace.lake import Table
from millrace.lake.staging import StagedFile
from millrace.partition import Partition
from millrace.privacy import installation_key
from millrace.settings import Settings
from millrace.spec import DomainSpec, SourceSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class StagedReading:
    """A whole reading, on disk.

    Attributes:
        raw: the rows.
        rejected: records set aside, those of the partition and those of none; None where there are none.
        late: of the former, those that appeared after the partition was closed.
        notes: what people should know.
    """

    raw: StagedFile
    rejected: tuple[StagedFile, StagedFile] | None
    late: int
    notes: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestJob:
    """What one ingestion works on."""

    domain: DomainSpec
    name: str
    spec: SourceSpec
    partition: Partition
    settings: Settings

    @property
    def key(self) -> str:
        """Key of the partition, "" for a static source."""
        return "" if self.spec.static else self.partition.key

    @property
    def raw(self) -> Table:
        """Rows."""
        return Table(self.settings.lake, self.domain.raw_table(self.name))

    @property
    def rejected(self) -> Table:
        """Records set aside before they became rows."""
        return Table(self.settings.lake, self.domain.rejected_table(self.name))

    @property
    def clean(self) -> Table:
        """Rows that keep the contract."""
        return Table(self.settings.lake, self.domain.clean_table(self.name))

    @property
    def quarantine(self) -> Table:
        """Rows and records set aside."""
        return Table(self.settings.lake, self.domain.quarantine_table(self.name))

    @property
    def privacy_key(self) -> bytes | None:
        """The installation's key, where the source has personal columns."""
        return installation_key(self.settings) if self.spec.pii else None
