"""DuckDB connections as Millrace wants them: UTC, offline, no extension ever loaded over the network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def connect(
    *,
    threads: int = 2,
    memory_limit: str = "2GB",
    external: bool = True,
    folders: Sequence[Path] = (),
    spill: Path | None = None,
) -> Any:
    """An in-memory `duckdb.DuckDBPyConnection`.

    Args:
        threads: cores it may use. Sums that must repeat bit for bit need an explicit order, or one thread.
        memory_limit: over it DuckDB spills to disk.
        external: whether SQL may read files; False where the SQL comes from a spec.
        folders: folders that SQL may read and write where `external` is False.
        spill: folder for what does not fit into memory; by default one in the working directory.
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
    connection.execute("SET enable_progress_bar = false")  # it is printed between what a program prints
    if spill is not None:
        connection.execute("SET temp_directory = $1", [str(spill)])
    if not external:
        connection.execute("SET allowed_directories = $1", [[f"{folder.resolve()}/" for folder in folders]])
        connection.execute("SET enable_external_access = false")
    return connection


def arrow(relation: Any) -> Any:
    """The rows of a DuckDB relation as an Arrow table."""
    return relation.to_arrow_table()


def quoted(name: str) -> str:
    """A name as SQL writes it."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """A text as SQL writes it."""
    return "'" + value.replace("'", "''") + "'"
