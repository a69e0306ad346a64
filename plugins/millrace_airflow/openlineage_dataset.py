"""A noted dataset in the classes of OpenLineage's client."""

from __future__ import annotations

from typing import Any

import attr
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    DatasetFacet,
    data_quality_assertions_dataset,
    dataset_type_dataset,
    dataset_version_dataset,
    input_statistics_input_dataset,
    output_statistics_output_dataset,
    schema_dataset,
    storage_dataset,
    symlinks_dataset,
)
from openlineage.client.generated import base_subset_dataset

from millrace_airflow.lineage import TABLE, NotedDataset

MODEL_FACET = "millrace_model"


@attr.define
class ModelDatasetFacet(DatasetFacet):
    """What a model is: the digest of its package, and what it was released or registered on."""

    facts: dict[str, Any] = attr.field(factory=dict)


def input_dataset(noted: NotedDataset) -> InputDataset:
    """What was read; how many rows, of which partition, and how they met their expectations, are facets of the run."""
    facets: dict[str, Any] = {}
    if noted.rows is not None:
        facets["inputStatistics"] = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=noted.rows)
    if noted.partition:
        facets["subset"] = base_subset_dataset.InputSubsetInputDatasetFacet(inputCondition=_partition(noted))
    if noted.assertions:
        facets["dataQualityAssertions"] = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
            assertions=[data_quality_assertions_dataset.Assertion(**item) for item in noted.assertions]
        )
    return InputDataset(namespace=noted.namespace, name=noted.name, facets=_facets(noted), inputFacets=facets)


def output_dataset(noted: NotedDataset) -> OutputDataset:
    """What was written; how many rows, and of which partition, are facets of the run."""
    facets: dict[str, Any] = {}
    if noted.rows is not None:
        facets["outputStatistics"] = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
            rowCount=noted.rows
        )
    if noted.partition:
        facets["subset"] = base_subset_dataset.OutputSubsetOutputDatasetFacet(outputCondition=_partition(noted))
    return OutputDataset(namespace=noted.namespace, name=noted.name, facets=_facets(noted), outputFacets=facets)


def _facets(noted: NotedDataset) -> dict[str, Any]:
    facets: dict[str, Any] = {"datasetType": dataset_type_dataset.DatasetTypeDatasetFacet(datasetType=noted.kind)}
    if noted.version:
        facets["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=noted.version)
    if noted.columns:
        fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in noted.columns.items()]
        facets["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    if noted.uri and noted.kind == TABLE:
        facets["storage"] = storage_dataset.StorageDatasetFacet(storageLayer="delta", fileFormat="parquet")
        facets["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(identifiers=[_location(noted.uri)])
    if noted.facts:
        facets[MODEL_FACET] = ModelDatasetFacet(facts=dict(noted.facts))
    return facets


def _partition(noted: NotedDataset) -> base_subset_dataset.PartitionSubsetCondition:
    named = base_subset_dataset.Partition(dimensions={"partition": noted.partition}, identifier=noted.partition)
    return base_subset_dataset.PartitionSubsetCondition(partitions=[named])


def _location(uri: str) -> symlinks_dataset.Identifier:
    """Where a table lies, in OpenLineage's own terms: bucket and key, or a path of the file system."""
    scheme, _, rest = uri.rpartition("://")
    bucket, _, key = rest.partition("/")
    if not scheme or scheme == "file":
        return symlinks_dataset.Identifier(namespace="file", name=rest, type="LOCATION")
    return symlinks_dataset.Identifier(namespace=f"{scheme}://{bucket}", name=key, type="LOCATION")
