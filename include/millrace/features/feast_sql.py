"""Entity frames given as SQL: DuckDB runs it in bounded memory and hands its rows over in pieces."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
from feast.repo_config import RepoConfig

from millrace.errors import FeatureError
from millrace.features.asof import duckdb_limit
from millrace.lake import Table
from millrace.lake.duck import arrow, connect


def open_query(query: str, config: RepoConfig) -> tuple[pa.Schema, Callable[[int], Iterator[pa.Table]]]:
    """Columns of a query, and a reader of its rows in pieces of about so many.

    Tables of the lake stand in it under their quoted names: `SELECT * FROM "flight_delay/entities"`.

    Raises:
        FeatureError: DuckDB refuses the query.
    """
    query = query.rstrip().rstrip(";")

    def read(rows: int) -> Iterator[pa.Table]:
        with _connection(query, config) as connection:
            for batch in connection.sql(query).to_arrow_reader(rows):
                yield pa.Table.from_batches([batch])

    with _connection(query, config) as connection:
        refuse_doubles(connection.sql(query).columns)
        return arrow(connection.sql(f"SELECT * FROM (\n{query}\n) LIMIT 0")).schema, read


def refuse_doubles(names: list[str]) -> None:
    """Refuse an entity frame with two columns of one name.

    Raises:
        FeatureError: there are such.
    """
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise FeatureError(
            f"the entity frame has column {', '.join(map(repr, doubled))} more than once",
            remedy="drop one of them, or give it another name",
        )


@contextmanager
def _connection(query: str, config: RepoConfig) -> Iterator[Any]:
    """A connection that knows the tables of the lake which the query names, and no variable of Python."""
    import duckdb

    connection = connect(memory_limit=duckdb_limit(config.offline_store.memory_limit))
    try:
        connection.execute("SET python_enable_replacements = false")
        for name in connection.get_table_names(query):
            table = Table(config.offline_store.resolve_lake(), name)
            if "://" not in name and not name.startswith("/") and table.exists():
                connection.register(name, table.open().to_pyarrow_dataset())
        yield connection
    except duckdb.Error as error:
        raise FeatureError(
            f"the query of the entity frame fails: {error}",
            remedy="correct the SQL; a single word is taken for the name of a table",
        ) from error
    finally:
        connection.close()
