"""A real PostgreSQL for the tests of this folder."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from tests.postgres_server import NoServerError, serve


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """SQLAlchemy URL of a database that tests may fill; the server is theirs unless the environment names one."""
    try:
        with serve() as url:
            yield url
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def postgres_schema_url(postgres_url: str) -> Iterator[str]:
    """The same database with an empty schema of the test's own, dropped afterwards."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    engine = create_engine(postgres_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    yield f"{postgres_url}{'&' if '?' in postgres_url else '?'}options=-csearch_path%3D{schema}"
    with engine.begin() as connection:
        connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
