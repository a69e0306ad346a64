"""The snapshot a candidate was trained on, as MLflow shows it: name, digest, place, version and columns."""

from __future__ import annotations

from typing import Any

import orjson

from millrace.registry.base import TrainingInput

_DIGEST_LENGTH = 36
"""MLflow keeps no longer digests; the whole one stands in the profile."""


def dataset_input(snapshot: TrainingInput) -> Any:
    """The snapshot as a `DatasetInput` of MLflow, with the context `training`."""
    from mlflow.data.delta_dataset_source import DeltaDatasetSource
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.entities import Dataset, DatasetInput, InputTag
    from mlflow.types import ColSpec, Schema

    ref = snapshot.ref
    named = MetaDataset(
        DeltaDatasetSource(path=snapshot.uri, delta_table_version=ref.version),
        name=ref.table,
        digest=ref.digest[:_DIGEST_LENGTH] or None,
        schema=Schema([ColSpec(kind, name) for name, kind in snapshot.columns.items()]),
    ).to_dict()
    profile = {
        "rows": snapshot.rows,
        "partitions": list(snapshot.partitions),
        "known_until": ref.known_until,
        "digest": ref.digest,
    }
    dataset = Dataset(**named, profile=orjson.dumps(profile).decode())
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
