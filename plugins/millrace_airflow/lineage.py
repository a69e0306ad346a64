"""OpenLineage datasets of a task, noted by its operator while it works.

What a lake holds is read while the task runs: the provider makes the event in a forked child, in which the lake's
runtime may not be used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.artifact import DatasetRef, ModelRef
from millrace.errors import MillraceError
from millrace.spec.address import public_address

log = logging.getLogger(__name__)
TABLE, FILE, MODEL, DOCUMENT, STREAM = "TABLE", "FILE", "MODEL", "DOCUMENT", "STREAM"


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedDataset:
    """A dataset that a task read or wrote.

    Attributes:
        namespace: where its name is one: the lake, or a kind of thing of ours (`package`, `mlflow`, `evidence`).
        name: its name there.
        kind: `TABLE`, `FILE`, `MODEL`, `DOCUMENT` or `STREAM`.
        version: version of a table or model, digest of a package or document; "" where it has none.
        partition: key of the partition that was read or written; "" for all of it.
        rows: rows that were; None where nobody counted.
        columns: column → type.
        uri: where it lies; "" where the name says it.
        assertions: expectations, or gates, that it was held against, as OpenLineage has them.
        facts: more of a model: digest of its package, candidate, evidence.
    """

    namespace: str
    name: str
    kind: str = TABLE
    version: str = ""
    partition: str = ""
    rows: int | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    uri: str = ""
    assertions: Sequence[Mapping[str, Any]] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Lineage:
    """What a task read and wrote."""

    inputs: list[NotedDataset] = field(default_factory=list)
    outputs: list[NotedDataset] = field(default_factory=list)

    def read(self, lake: str, *refs: DatasetRef, assertions: Sequence[Mapping[str, Any]] = ()) -> None:
        """Note snapshots that were read, with the expectations that they were held against."""
        self.inputs += [_snapshot(lake, ref, assertions) for ref in refs]

    def wrote(self, lake: str, *refs: DatasetRef) -> None:
        """Note snapshots that were written."""
        self.outputs += [_snapshot(lake, ref) for ref in refs]

    def read_tables(self, lake: str, names: Iterable[str], partition: str = "") -> None:
        """Note tables that were read as they are now: one partition of them, or all; one that is missing is not."""
        self.inputs += [noted for name in names if (noted := _table(lake, name, partition)) is not None]

    def write_tables(self, lake: str, name: str, partitions: Iterable[str]) -> None:
        """Note the newest writes of partitions of a table."""
        found = (_table(lake, name, partition) for partition in partitions)
        self.outputs += [noted for noted in found if noted is not None]

    def to_openlineage(self) -> Any:
        """The provider's form, with versions, columns, counts and verdicts as facets."""
        from airflow.providers.openlineage.extractors import OperatorLineage

        from millrace_airflow.openlineage_dataset import input_dataset, output_dataset

        return OperatorLineage(
            inputs=[input_dataset(item) for item in _once(self.inputs)],
            outputs=[output_dataset(item) for item in _once(self.outputs)],
        )


def place(uri: str) -> NotedDataset:
    """What rows were read from: a file or address without secrets, else a table of a connection or a function."""
    uri = public_address(uri)
    if "://" in uri:
        scheme, _, rest = uri.partition("://")
        authority, _, path = rest.partition("/")
        if scheme != "file":
            return NotedDataset(namespace=f"{scheme}://{authority}", name=path or "/", kind=FILE)
        return NotedDataset(namespace="file", name=f"/{path}", kind=FILE)
    kind, _, name = uri.partition(":")
    if kind in {"sql", "python"} and name:
        return NotedDataset(namespace=kind, name=name, kind=TABLE if kind == "sql" else STREAM)
    return NotedDataset(namespace="file", name=uri, kind=FILE)


def package(model: ModelRef, *, assertions: Sequence[Mapping[str, Any]] = ()) -> NotedDataset:
    """A sealed package, with the gates that it was held against."""
    names = ("use_case", "candidate", "trainer", "trained_through", "holdout", "run_id")
    facts = {"package": model.digest, **{name: getattr(model, name) for name in names}}
    name = f"{model.use_case}/{model.candidate}"
    return NotedDataset(
        namespace="package", name=name, kind=MODEL, version=model.digest, facts=facts, assertions=tuple(assertions)
    )


def registered_model(use_case: str, version: int, facts: Mapping[str, Any]) -> NotedDataset:
    """A version of a model in MLflow."""
    return NotedDataset(namespace="mlflow", name=f"models/{use_case}", kind=MODEL, version=str(version), facts=facts)


def aliases_of(use_case: str) -> NotedDataset:
    """The registered model of a use case as a whole, aliases and all."""
    return NotedDataset(namespace="mlflow", name=f"models/{use_case}", kind=MODEL)


def release_of(release: Mapping[str, Any]) -> NotedDataset:
    """A release, as `Release.to_dict` gives it."""
    names = ("package", "candidate", "evidence", "policy", "feature_service", "reference", "registry_version")
    facts = {name: release[name] for name in names if name in release}
    version = str(release["version"])
    return NotedDataset(namespace="release", name=release["use_case"], kind=MODEL, version=version, facts=facts)


def served_model(use_case: str, release: int | str = "") -> NotedDataset:
    """What the online service serves; "" where it is not said which release."""
    return NotedDataset(namespace="online_service", name=f"models/{use_case}", kind=MODEL, version=str(release))


def document(kind: str, name: str, digest: str = "") -> NotedDataset:
    """A document of ours: evidence, an entry of the ledger, a report."""
    return NotedDataset(namespace=kind, name=name, kind=DOCUMENT, version=digest)


def online_view(domain: str, view: str, *, rows: int | None = None, version: str = "") -> NotedDataset:
    """A view of the online store; its version is the instant as of which it answers."""
    return NotedDataset(namespace="online_store", name=f"{domain}/{view}", rows=rows, version=version)


def asset(name: str, partition: str = "") -> NotedDataset:
    """An asset of Airflow's: what tells the next DAG to start."""
    return NotedDataset(namespace="asset", name=name, kind=STREAM, partition=partition)


def _snapshot(lake: str, ref: DatasetRef, assertions: Sequence[Mapping[str, Any]] = ()) -> NotedDataset:
    from millrace.lake import Table

    table = Table(lake, ref.table)
    return NotedDataset(
        namespace=_namespace(lake),
        name=ref.table,
        version=str(ref.version),
        partition=ref.partition,
        rows=ref.rows if ref.digest else None,
        columns=_columns(table, ref.version),
        uri=table.uri,
        assertions=tuple(assertions),
    )


def _table(lake: str, name: str, partition: str) -> NotedDataset | None:
    from millrace.lake import Table

    try:
        table = Table(lake, name)
        if partition and (found := table.note(partition) or table.note()) is not None:
            return _snapshot(lake, found[0])
        if not table.exists():
            return None
        version = table.version()
    except MillraceError as error:
        log.info("not in the lineage: %s", error.what)
        return None
    columns = _columns(table, version)
    return NotedDataset(namespace=_namespace(lake), name=name, version=str(version), columns=columns, uri=table.uri)


def _columns(table: Any, version: int) -> dict[str, str]:
    try:
        columns: dict[str, str] = table.columns(version)
    except MillraceError as error:
        log.info("no columns in the lineage: %s", error.what)
        return {}
    return columns


def _namespace(lake: str) -> str:
    """The lake's address, as OpenLineage names places."""
    return lake.rstrip("/") if "://" in lake else f"file://{lake.rstrip('/')}"


def _once(items: Sequence[NotedDataset]) -> list[NotedDataset]:
    """Each dataset once for each partition and version; the last word counts."""
    return list({(item.namespace, item.name, item.version, item.partition): item for item in items}.values())
