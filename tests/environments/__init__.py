"""Isolated environments that tests train in; `make test-environments` builds them while there is a network."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from millrace.training.isolation.environment import Environment, build_environment, environment_digest, is_whole

FOLDER = Path(__file__).resolve().parent
STORE = Path(os.environ.get("MILLRACE_TEST_VAR", FOLDER.parents[1] / "var" / "test")) / "environments"
OLD_XGBOOST = FOLDER / "xgboost_2.txt"


def prepared(lock: Path) -> Environment:
    """The environment of a lock; the test is skipped where it was not built."""
    text = lock.read_text(encoding="utf-8")
    if not is_whole(STORE.absolute() / environment_digest(text)):
        pytest.skip(f"the environment of {lock.name} is not built: run `make test-environments` with a network")
    return build_environment(text, store=STORE)
