from __future__ import annotations

from datetime import UTC, datetime

from millrace.governance.materialization import Materialization, Materializations, store_digest
from millrace.settings import Settings

MARK = datetime(2013, 5, 1, 4, tzinfo=UTC)
DONE = Materialization(
    view="planes",
    domain="flights",
    complete=True,
    high_water_mark=MARK,
    newest_event=MARK.replace(microsecond=1),
    layout="ab",
    partitions={"2013-04": "cd"},
    rows=7,
)


def test_what_was_finished_is_found_and_what_was_begun_is_not_relied_on(settings: Settings) -> None:
    here = Materializations(settings, "online.db")
    assert here.get("planes") is None
    here.begin("planes", "flights")
    assert here.get("planes") == Materialization(view="planes", domain="flights")
    here.finish(DONE)
    assert here.get("planes") == DONE
    here.begin("planes", "flights")
    begun = here.get("planes")
    assert begun is not None
    assert (begun.complete, begun.high_water_mark, begun.partitions) == (False, MARK, DONE.partitions)
    here.begin("routes", "flights")
    assert list(here.all()) == ["planes", "routes"]
    assert Materializations(settings, "other.db").all() == {}


def test_a_store_is_the_same_with_another_password_and_another_at_another_place() -> None:
    assert store_digest("redis://ann:a@host:1/0") == store_digest("redis://ann:b@host:1/0")
    assert store_digest("redis://host:1/0") != store_digest("redis://host:1/1")
    assert store_digest("a.db") != store_digest("b.db")
