"""The trigger's own loop: what it tells, when, and what it does while a storage is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.triggers.base import TriggerEvent

from millrace.ingestion.arrival import FoundFile
from millrace_airflow.triggers import arrival
from millrace_airflow.triggers.arrival import FileArrivalTrigger
from millrace_airflow.triggers.receipt import give_receipts

_SOON = 120.0


class Store(dict[str, Any]):
    """A state store of one asset, as tasks (`get`, `set`) and triggers (`aget`) see it."""

    async def aget(self, key: str, default: Any = None) -> Any:
        return self.get(key, default)

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class Clock:
    """Seconds of the trigger that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


class Watched(FileArrivalTrigger):
    """Counts its listings."""

    listed = 0

    async def _list(self) -> dict[str, FoundFile]:
        try:
            return await super()._list()
        finally:
            self.listed += 1

    async def looked(self) -> None:
        """Wait until a listing that began from now on has been dealt with."""
        enough = self.listed + 3
        while self.listed < enough:
            await asyncio.sleep(0.005)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(arrival, "time", made)
    return made


def _trigger(folder: Path, **changes: Any) -> Watched:
    given = {
        "source": "readings",
        "uri": f"{folder}/{{partition}}.csv",
        "connection": None,
        "grain": "month",
        "poll_seconds": 0.02,
        "settle_seconds": 0.1,
    }
    return Watched(**{**given, **changes})


def _run(scenario: Callable[[AsyncIterator[TriggerEvent]], Awaitable[None]], trigger: FileArrivalTrigger) -> None:
    async def main() -> None:
        events = trigger.run()
        try:
            await scenario(events)
        finally:
            await events.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


async def _next(events: AsyncIterator[TriggerEvent]) -> dict[str, Any]:
    event = await asyncio.wait_for(anext(events), _SOON)
    return dict(event.payload)


async def _nothing(events: AsyncIterator[TriggerEvent], trigger: Watched) -> asyncio.Task[TriggerEvent]:
    """Nothing is told at the next look; gives back the wait that goes on: to cancel it would end the generator."""
    waiting = asyncio.ensure_future(anext(events))
    await trigger.looked()
    assert not waiting.done()
    return waiting


def test_it_is_made_again_from_what_it_serialises(tmp_path: Path) -> None:
    path, given = _trigger(tmp_path, connection="lake").serialize()
    module, _, name = path.rpartition(".")
    assert (module, name) == (FileArrivalTrigger.__module__, FileArrivalTrigger.__name__)
    assert FileArrivalTrigger(**given).serialize() == (path, given)


def test_files_that_are_there_are_told_in_one_flat_event(tmp_path: Path) -> None:
    for key in ("2024-02", "2024-01"):
        (tmp_path / f"{key}.csv").write_text("a\n")

    async def scenario(events: AsyncIterator[TriggerEvent]) -> None:
        payload = await _next(events)
        assert payload["source"] == "readings"
        assert payload["partitions"] == ["2024-01", "2024-02"]
        assert [Path(name).name for name in payload["files"]] == ["2024-01.csv", "2024-02.csv"]
        assert payload["count"] == 2

    _run(scenario, _trigger(tmp_path))


def test_a_growing_file_is_told_when_it_stands_still_and_again_when_it_changes(tmp_path: Path, clock: Clock) -> None:
    path, trigger = tmp_path / "2024-01.csv", _trigger(tmp_path, settle_seconds=10)

    async def scenario(events: AsyncIterator[TriggerEvent]) -> None:
        waiting = await _nothing(events, trigger)
        for size in range(1, 8):
            path.write_text("a" * size)
            await trigger.looked()
            clock.now += 9
            await trigger.looked()
            assert not waiting.done()
        clock.now += 1
        assert (await asyncio.wait_for(waiting, _SOON)).payload["partitions"] == ["2024-01"]
        clock.now += 1000
        waiting = await _nothing(events, trigger)
        path.write_text("another content")
        await trigger.looked()
        clock.now += 10
        assert (await asyncio.wait_for(waiting, _SOON)).payload["count"] == 1

    _run(scenario, trigger)


def test_the_loop_goes_on_while_a_storage_is_away(tmp_path: Path) -> None:
    trigger = _trigger(tmp_path, uri="gopher://host/{partition}.csv")

    async def scenario(events: AsyncIterator[TriggerEvent]) -> None:
        waiting = await _nothing(events, trigger)
        trigger.uri = f"{tmp_path}/{{partition}}.csv"
        (tmp_path / "2024-01.csv").write_text("a\n")
        assert (await asyncio.wait_for(waiting, _SOON)).payload["partitions"] == ["2024-01"]

    _run(scenario, trigger)


def test_an_event_without_a_receipt_is_told_again_and_one_with_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(arrival, "_PATIENCE_S", 100.0)
    (tmp_path / "2024-01.csv").write_text("a\n")
    trigger, store = _trigger(tmp_path, settle_seconds=0), Store()
    trigger.asset_state_store = store

    async def scenario(events: AsyncIterator[TriggerEvent]) -> None:
        first = await _next(events)
        clock.now += 100
        again = await _next(events)
        assert again["files"] == first["files"]
        assert again["number"] != first["number"]
        give_receipts({"asset": store}, {"asset": [again["number"]]})
        clock.now += 1_000_000
        waiting = await _nothing(events, trigger)
        waiting.cancel()
        await asyncio.wait([waiting])

    _run(scenario, trigger)


def test_receipts_are_kept_for_the_latest_events() -> None:
    store = Store()
    for number in range(250):
        give_receipts({"asset": store}, {"asset": [str(number)]})
    assert store["receipts"] == [str(number) for number in range(50, 250)]
