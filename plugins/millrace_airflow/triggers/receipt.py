"""Receipts: the arrivals DAG tells its trigger which events came through, since an event can be lost on the way.

Airflow drops the events of a DAG that is paused, and those that a triggerer had not stored when it was killed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from airflow.sdk.exceptions import AirflowRuntimeError

log = logging.getLogger(__name__)

_KEY = "receipts"
_KEPT = 200


def give_receipts(store: Any, events: Mapping[Any, Sequence[str]]) -> None:
    """Note in the store of each asset that its events came through. One writer at a time: the DAG runs one by one."""
    for asset, numbers in events.items():
        store[asset].set(_KEY, [*store[asset].get(_KEY, []), *numbers][-_KEPT:])


async def read_receipts(store: Any) -> set[str]:
    """The events of the trigger's asset that came through lately; none where the store does not answer."""
    try:
        return set(await store.aget(_KEY, []))
    except AirflowRuntimeError as error:
        log.warning("receipts cannot be read: %s", error)
        return set()
