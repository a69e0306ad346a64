"""Feast's compute engine, replaced: `store.materialize` and `feast materialize` go columnar, without protobufs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from feast import Entity, FeatureView
from feast.infra.common.materialization_job import MaterializationJob, MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.base import ComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel

from millrace.errors import FeatureError
from millrace.features.feast_online_store import PackedOnlineStore, layout_of_view
from millrace.features.feast_source import LakeSource
from millrace.features.materialization import materialize_view
from millrace.lake import Table
from millrace.online.writer import OnlineWriter


class ColumnarEngineConfig(FeastConfigBaseModel):
    """Names the engine in `feature_store.yaml`."""

    type: Literal["millrace.features.feast_engine.ColumnarEngine"] = "millrace.features.feast_engine.ColumnarEngine"


class ColumnarEngine(ComputeEngine):
    """Materializes views on tables of the lake into the packed online store."""

    def update(
        self,
        project: str,
        views_to_delete: Sequence[FeatureView],
        views_to_keep: Sequence[FeatureView],
        entities_to_delete: Sequence[Entity],
        entities_to_keep: Sequence[Entity],
    ) -> None:
        """Nothing to prepare: the work is done in this process."""

    def teardown_infra(self, project: str, fvs: Sequence[FeatureView], entities: Sequence[Entity]) -> None:
        """Nothing to remove."""

    def _materialize_one(self, registry: BaseRegistry, task: MaterializationTask, **kwargs: Any) -> MaterializationJob:
        view = task.feature_view
        job_id = f"{view.name}-{task.start_time}-{task.end_time}"
        try:
            source = view.batch_source
            if not isinstance(source, LakeSource) or not isinstance(self.online_store, PackedOnlineStore):
                raise FeatureError(
                    f"view {view.name!r} is not one of a LakeSource in a PackedOnlineStore",
                    remedy="set `batch_engine: local` in feature_store.yaml for other sources and stores",
                )
            materialize_view(
                OnlineWriter(self.repo_config.online_store.resolve_path()),
                Table(self.repo_config.offline_store.resolve_lake(), source.table),
                view.name,
                layout_of_view(view),
                at=task.end_time,
                since=task.start_time,
            )
        except Exception as error:  # noqa: BLE001 - Feast asks the job for its error and raises it
            return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.ERROR, error=error)
        return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.SUCCEEDED)
