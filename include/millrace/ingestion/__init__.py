"""From a source to record batches of declared types: one protocol, one module a kind of source."""

from millrace.ingestion.base import UNASSIGNED, Connection, Connections, Reading, Source
from millrace.ingestion.report import IngestReport

__all__ = ["UNASSIGNED", "Connection", "Connections", "IngestReport", "Reading", "Source"]
