"""Whether the online path and the offline path gave the same features: exact comparison, feature by feature.

Values are copied on their way to the online store, never computed again, so nothing but equality will do. A missing
value equals a missing value: null, NaN and what is not finite are one to the model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One feature of one row that is not the same on both paths.

    Attributes:
        feature: its name.
        view: the feature view, or the function, that it is of.
        row: place of the row.
        online: value that the online path gave.
        offline: value that the feature table gives as of the same instant.
    """

    feature: str
    view: str
    row: int
    online: Any
    offline: Any


def plain(value: Any) -> Any:
    """A value as both paths write it: None where it is missing, instants as microseconds since 1970."""
    if isinstance(value, datetime):
        moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        return (moment - _EPOCH) // timedelta(microseconds=1)
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def differing_rows(online: Mapping[str, Sequence[Any]], offline: Mapping[str, Sequence[Any]]) -> dict[int, list[str]]:
    """Row → names of its features that are not the same; rows that agree are not named.

    Args:
        online: feature → values of the online path.
        offline: the same features of the other path, row for row.
    """
    found: dict[int, list[str]] = {}
    for name, values in online.items():
        for row, (here, there) in enumerate(zip(values, offline[name], strict=True)):
            if plain(here) != plain(there):
                found.setdefault(row, []).append(name)
    return found
