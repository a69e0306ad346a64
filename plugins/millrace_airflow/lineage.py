"""OpenLineage datasets of a task, noted by its operator while it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from millrace.artifact import DatasetRef


@dataclass(slots=True)
class Lineage:
    """What a task read and wrote. Tables are (lake, name, version); models (registry, name, version)."""

    inputs: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)
    outputs: list[tuple[str, str, Mapping[str, Any]]] = field(default_factory=list)

    def read(self, namespace: str, *refs: DatasetRef) -> None:
        """Note snapshots that were read."""
        self.inputs += [(namespace, ref.table, _facts(ref)) for ref in refs]

    def wrote(self, namespace: str, *refs: DatasetRef) -> None:
        """Note snapshots that were written."""
        self.outputs += [(namespace, ref.table, _facts(ref)) for ref in refs]

    def to_openlineage(self) -> Any:
        """The provider's form; versions and row counts go along as facets."""
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage

        def datasets(items: Sequence[tuple[str, str, Mapping[str, Any]]]) -> list[Any]:
            return [Dataset(namespace=space, name=name, facets=_facets(facts)) for space, name, facts in items]

        return OperatorLineage(inputs=datasets(self.inputs), outputs=datasets(self.outputs))


def _facts(ref: DatasetRef) -> dict[str, Any]:
    return {"version": ref.version, "partition": ref.partition, "rows": ref.rows}


def _facets(facts: Mapping[str, Any]) -> dict[str, Any]:
    if "version" not in facts:
        return {}
    from openlineage.client.facet_v2 import dataset_version_dataset

    return {
        "version": dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(facts["version"])),
    }
