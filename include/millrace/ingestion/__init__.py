"""From a source to record batches of declared types: one protocol, one module a kind of source."""

from millrace.ingestion.base import Source
from millrace.ingestion.file_source import FileSource

__all__ = ["FileSource", "Source"]
