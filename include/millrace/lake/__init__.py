"""Delta tables: partitions, snapshots, atomic replace."""

from millrace.lake.table import Table

__all__ = ["Table"]
