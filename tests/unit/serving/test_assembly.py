from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests import redis_server
from tests.unit.serving import sample
from tests.unit.serving.conftest import World

from millrace.online import open_reader
from millrace.serving.assembly import FeatureVector, assemble
from millrace.serving.base import InferenceRequest, RequestError


def ask(world: World, names: list[str], *, store: Path | str | None = None, **changes: Any) -> FeatureVector:
    columns = {name: world.rows.column(name).to_pylist() for name in names} | changes
    request = InferenceRequest(columns=columns, rows=world.rows.num_rows)
    return assemble(world.package.features, request, open_reader(store or world.online_store))


def test_a_full_vector_is_taken_as_it_is(world: World) -> None:
    vector = ask(world, world.package.features.columns)
    assert vector.source == "request"
    assert vector.parameters == {"feature_source": "request"}
    assert vector.columns["temp"] == world.rows.column("temp").to_pylist()


def test_keys_are_looked_up_view_by_view(world: World) -> None:
    vector = ask(world, sample.key_names(world.package))
    assert vector.source == "online"
    assert vector.parameters["high_water_mark"] == "2013-04-01T04:00:00Z"
    reader = open_reader(world.online_store)
    for view in world.package.features.views:
        keys = list(zip(*(world.rows.column(name).to_pylist() for name in view.entities), strict=True))
        expected = reader.read(view.view, keys, view.features)
        found = list(zip(*(vector.columns[name] for name in view.features), strict=True))
        assert found == [tuple(row) for row in expected]


def test_keys_are_looked_up_in_redis_alike(world: World) -> None:
    with redis_server.serve() as server:
        sample.fill_store(server.url, world.rows)
        names = sample.key_names(world.package)
        found, expected = ask(world, names, store=server.url), ask(world, names)
        assert found.columns == expected.columns
        assert found.parameters == expected.parameters
        server.stop()
        with pytest.raises(RequestError, match="does not answer") as caught:
            ask(world, names, store=server.url)
        assert caught.value.status == 503


def test_an_unknown_entity_is_missing_and_reported(world: World) -> None:
    tails = world.rows.column("tailnum").to_pylist()
    vector = ask(world, sample.key_names(world.package), tailnum=["N999", None, *tails[2:]])
    assert set(vector.unknown["planes"]) >= {0, 1}
    assert "planes: rows 0,1" in vector.parameters["unknown"]
    assert vector.columns["plane_year"][:2] == [None, None]


def test_a_request_in_between_is_refused_with_both_ways_named(world: World) -> None:
    features = world.package.features
    with pytest.raises(RequestError) as caught:
        ask(world, [name for name in features.columns if name != "temp"])
    told = str(caught.value)
    assert caught.value.status == 400
    assert "input missing: temp;" in told
    assert f"full vector ({len(features.columns)} inputs)" in told
    assert "tailnum" in told


def test_a_request_without_a_key_names_it(world: World) -> None:
    with pytest.raises(RequestError, match="by key, tailnum is missing"):
        ask(world, [name for name in sample.key_names(world.package) if name != "tailnum"])


def test_a_key_of_the_wrong_type_is_the_clients_fault(world: World) -> None:
    with pytest.raises(RequestError, match="tailnum") as caught:
        ask(world, sample.key_names(world.package), tailnum=[5] * world.rows.num_rows)
    assert caught.value.status == 400


def test_a_store_that_is_not_there_yet_is_the_services_fault(world: World, tmp_path: Path) -> None:
    with pytest.raises(RequestError) as caught:
        ask(world, sample.key_names(world.package), store=tmp_path / "none.db")
    assert caught.value.status == 503
    request = InferenceRequest(
        columns={name: world.rows.column(name).to_pylist() for name in sample.key_names(world.package)},
        rows=world.rows.num_rows,
    )
    with pytest.raises(RequestError, match="no online store"):
        assemble(world.package.features, request, None)


def test_a_damaged_store_is_the_services_fault(world: World, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.db"
    damaged.write_bytes(b"this is no database, whatever it is called" * 100)
    with pytest.raises(RequestError) as caught:
        ask(world, sample.key_names(world.package), store=damaged)
    assert caught.value.status == 503
