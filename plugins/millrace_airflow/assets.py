"""The assets that DAGs wait for, by the names the specs give them."""

from __future__ import annotations

from airflow.sdk import Asset, AssetAlias

from millrace.spec import DomainSpec, UseCaseSpec


def features_of(domain: DomainSpec) -> Asset:
    """Tells that a partition's features are there."""
    return Asset(name=domain.asset, extra={"domain": domain.name})


def predictions_of(use_case: UseCaseSpec) -> Asset:
    """Tells that a partition was scored."""
    return Asset(name=use_case.predictions_asset, extra={"use_case": use_case.name})


def retrain_request_of(use_case: UseCaseSpec) -> Asset:
    """Asks for a training run."""
    return Asset(name=use_case.retrain_asset, extra={"use_case": use_case.name})


def on_condition(asset: Asset) -> AssetAlias:
    """An outlet that emits `asset` only where the task adds it: nothing was scored, nothing is announced."""
    return AssetAlias(name=f"{asset.name}/when_there_is_one")
