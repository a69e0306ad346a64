"""The assets that DAGs wait for, by the names the specs give them."""

from __future__ import annotations

from airflow.sdk import Asset, AssetAlias, AssetWatcher

from millrace.spec import DomainSpec, UseCaseSpec
from millrace.spec.source import FileSourceSpec


def features_of(domain: DomainSpec) -> Asset:
    """Tells that a partition's features are there."""
    return Asset(name=domain.asset, extra={"domain": domain.name})


def arrivals_of(domain: DomainSpec, source: str) -> Asset:
    """Tells that files of a source arrived; its watcher looks for them in the triggerer."""
    from millrace_airflow.triggers.arrival import FileArrivalTrigger

    spec = domain.sources[source]
    assert isinstance(spec, FileSourceSpec)
    trigger = FileArrivalTrigger(
        source=source,
        uri=spec.uri,
        connection=spec.connection,
        grain=domain.grain,
        poll_seconds=spec.poll_seconds,
        settle_seconds=spec.settle_seconds,
    )
    return Asset(
        name=f"{domain.name}/arrivals/{source}",
        extra={"domain": domain.name, "source": source},
        watchers=[AssetWatcher(name=f"{domain.name}_{source}", trigger=trigger)],
    )


def requests_of(domain: DomainSpec) -> Asset:
    """Asks for the data of a partition."""
    return Asset(name=f"{domain.name}/requested", extra={"domain": domain.name})


def predictions_of(use_case: UseCaseSpec) -> Asset:
    """Tells that a partition was scored."""
    return Asset(name=use_case.predictions_asset, extra={"use_case": use_case.name})


def retrain_request_of(use_case: UseCaseSpec) -> Asset:
    """Asks for a training run."""
    return Asset(name=use_case.retrain_asset, extra={"use_case": use_case.name})


def on_condition(asset: Asset) -> AssetAlias:
    """An outlet that emits `asset` only where the task adds it: nothing was scored, nothing is announced."""
    return AssetAlias(name=f"{asset.name}/when_there_is_one")
