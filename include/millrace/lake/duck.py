"""DuckDB connections as Millrace wants them: UTC, offline, no extension ever loaded over the network."""

from __future__ import annotations

from typing import Any


def connect(*, threads: int = 2, memory_limit: str = "2GB") -> Any:
    """An in-memory `duckdb.DuckDBPyConnection`.

    Args:
        threads: cores it may use. Sums that must repeat bit for bit need an explicit order, or one thread.
        memory_limit: over it DuckDB spills to disk.
    """
    import duckdb

    connection = duckdb.connect(
        ":memory:",
        config={
            "threads": threads,
            "memory_limit": memory_limit,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def arrow(relation: Any) -> Any:
    """The rows of a DuckDB relation as an Arrow table."""
    return relation.to_arrow_table()
