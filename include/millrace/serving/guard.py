"""What the online service must never import, and how that is held."""

from __future__ import annotations

import sys

from millrace.errors import ServiceError

BLOCKED = ("mlflow", "pandas", "feast", "sklearn", "great_expectations", "evidently", "sqlalchemy", "deltalake")
"""Top-level names. Python refuses what is None in `sys.modules`: optional imports fall away, required ones fail."""


def block_modules() -> None:
    """Make every later import of a blocked library an ImportError. Call it first in the process.

    Raises:
        ServiceError: one of them was imported before.
    """
    if early := [name for name in BLOCKED if sys.modules.get(name) is not None]:
        raise ServiceError(
            f"{', '.join(early)} already imported",
            where="the online service",
            remedy="start it by `python -m millrace.serving`, in a process of its own",
        )
    for name in BLOCKED:
        sys.modules[name] = None  # type: ignore[assignment]
