"""Arrivals: which partitions' data new files ask for, and the asking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace_airflow.assets import requests_of
from millrace_airflow.connections import airflow_connections
from millrace_airflow.lineage import asset, place
from millrace_airflow.operators.base import DomainOperator, tell_verdict
from millrace_airflow.triggers.receipt import give_receipts


class FindArrivalsOperator(DomainOperator):
    """Tell for which partitions the files that arrived bring something new.

    A file names its partition where the source's URI has a `{partition}`. Others stand for the partitions that are over
    and not closed yet. What the lake holds already is left out, so that telling a file twice does no harm. Triggered by
    hand, it looks at all files of all watched sources.
    """

    def execute(self, context: Any) -> list[str]:
        """Return the partitions, in order.

        Raises:
            AirflowSkipException: nothing is new.
        """
        from millrace.step.arrival import find_arrivals

        payloads = _payloads(context)
        domain = self.domain_spec()
        report = find_arrivals(
            domain,
            _named([payload for told in payloads.values() for payload in told]),
            settings=self.settings,
            connections=airflow_connections,
            now=datetime.now(UTC),
        )
        self.lineage.inputs += [
            place(source.origin) for source in domain.sources.values() if getattr(source, "watch", False)
        ]
        self.lineage.outputs += [asset(requests_of(domain).name, key) for key in report.partitions]
        tell_verdict(context, report.line)
        numbers = {asset: [payload["number"] for payload in told] for asset, told in payloads.items()}
        give_receipts(context["asset_state_store"], numbers)
        if not report.partitions:
            raise AirflowSkipException(report.line)
        return report.partitions


class RequestPartitionOperator(DomainOperator):
    """Ask for a run of the data DAG for one partition."""

    def execute(self, context: Any) -> str:
        """Return the partition.

        Raises:
            AirflowFailException: the data DAG is paused, and Airflow would forget what is asked for now.
        """
        domain, key = self.domain_spec(), self.partition_key()
        data = f"{domain.name}_data"
        if context["ti"].get_dag(data).is_paused:
            raise AirflowFailException(f"{data} is paused and would not run {key}: unpause it, then clear this task")
        context["outlet_events"][requests_of(domain)].add_partitions(key)
        self.lineage.outputs.append(asset(requests_of(domain).name, key))
        return key


def _payloads(context: Mapping[str, Any]) -> dict[Any, list[Mapping[str, Any]]]:
    """Asset → what its events say, of those that started the run; empty where a person did."""
    events = context.get("triggering_asset_events") or {}
    return {asset: [event.extra["payload"] for event in events[asset]] for asset in events}


def _named(payloads: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Source → the keys that its files name, each once."""
    found: dict[str, dict[str, None]] = {}
    for payload in payloads:
        found.setdefault(payload["source"], {}).update(dict.fromkeys(payload["partitions"]))
    return {source: list(keys) for source, keys in found.items()}
