"""Materialization where the state database and the online store are a PostgreSQL."""

from __future__ import annotations

import dataclasses
import threading
from typing import Any

import pytest
from tests.unit.levels import PARTITIONS, answers, make_plant, write_facts

from millrace.governance.materialization import Materializations
from millrace.settings import Settings
from millrace.step.materialization import materialize_view

pytestmark = pytest.mark.integration


def test_runs_at_once_take_turns_and_end_as_a_run_alone_does(settings: Settings, postgres_schema_url: str) -> None:
    here = dataclasses.replace(
        settings,
        state_url=postgres_schema_url,
        online_store=postgres_schema_url.replace("postgresql+psycopg2", "postgresql"),
    )
    plant = make_plant(settings.sql_folder)
    for number, partition in enumerate(PARTITIONS):
        hour = 24 * number
        write_facts(here, plant, "long", partition, [(key, hour + 1, hour + 2, float(hour)) for key in "abc"[:number]])
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda key=key: found.append(materialize_view(plant, "long", key, settings=here)))
        for key in (*PARTITIONS, *PARTITIONS[:2])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == len(threads)
    materialize_view(plant, "long", PARTITIONS[-1], settings=settings)
    assert answers(here, "long") == answers(settings, "long")
    ours, alone = (Materializations(place, place.online_store).get("long") for place in (here, settings))
    assert ours == alone
