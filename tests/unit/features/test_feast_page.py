"""Feast's page shows the registry and changes nothing in it."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
from feast import Entity, FeatureStore, RepoConfig

from millrace.features.feast_page import make_page


def test_the_page_lists_what_stands_in_the_registry_and_takes_no_change(tmp_path: Any) -> None:
    config = RepoConfig(
        project="shop",
        provider="local",
        registry={"registry_type": "sql", "path": f"sqlite:///{tmp_path / 'registry.db'}"},
        online_store={"type": "sqlite", "path": str(tmp_path / "online.db")},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    store.apply([Entity(name="buyer", join_keys=["buyer"])])
    page = make_page(store)

    async def ask(*calls: tuple[str, str]) -> list[httpx.Response]:
        transport = httpx.ASGITransport(app=page)
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            return [await client.request(*call) for call in calls]

    entity = "/api/v1/entities/buyer?project=shop"
    gone, made, there = asyncio.run(ask(("DELETE", entity), ("POST", "/api/v1/entities"), ("GET", entity)))
    assert (gone.status_code, made.status_code, there.status_code) == (403, 403, 200)
    assert "millrace features apply" in gone.json()["detail"]
    assert store.get_entity("buyer").join_key == "buyer"
