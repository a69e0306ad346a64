from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.airflow_users import Users, serve

ActAs = Callable[[str], None]


@pytest.fixture(scope="session")
def users(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    """Airflow's own login, with three people."""
    with serve(tmp_path_factory.mktemp("users")) as started:
        yield started


@pytest.fixture
def act_as(users: Users, monkeypatch: pytest.MonkeyPatch) -> ActAs:
    """Let commands act as one of them."""

    def become(user: str) -> None:
        for name, value in users.environ(user).items():
            monkeypatch.setenv(name, value)

    return become
