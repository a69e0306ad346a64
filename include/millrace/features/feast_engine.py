"""Feast's compute engine, replaced: `store.materialize` and `feast materialize` go columnar, without protobufs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, Literal

from feast import Entity, FeatureView
from feast.feature_view import DUMMY_ENTITY_ID, DUMMY_ENTITY_VAL
from feast.infra.common.materialization_job import MaterializationJob, MaterializationJobStatus, MaterializationTask
from feast.infra.compute_engines.base import ComputeEngine
from feast.infra.compute_engines.local.job import LocalMaterializationJob
from feast.infra.registry.base_registry import BaseRegistry
from feast.repo_config import FeastConfigBaseModel

from millrace.errors import FeatureError
from millrace.features.feast_online_store import PackedOnlineStore
from millrace.features.feast_protobuf import layout_of_view
from millrace.features.feast_source import LakeSource, open_source
from millrace.features.materialization import instant, write_newest
from millrace.features.newest import Facts, Window
from millrace.online.address import open_writer


class ColumnarEngineConfig(FeastConfigBaseModel):
    """Names the engine in `feature_store.yaml`."""

    type: Literal["millrace.features.feast_engine.ColumnarEngine"] = "millrace.features.feast_engine.ColumnarEngine"


class ColumnarEngine(ComputeEngine):
    """Materializes views on tables of the lake, and on Parquet and Delta files, into the packed online store.

    For each key the newest fact of the range is written that was known at its end. What the lake's own
    materialization noted of a view stays as it is: it finds the store further than it left it, and goes on from there.
    """

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
            self._write(task)
        except Exception as error:  # noqa: BLE001 - Feast asks the job for its error and raises it
            return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.ERROR, error=error)
        return LocalMaterializationJob(job_id=job_id, status=MaterializationJobStatus.SUCCEEDED)

    def _write(self, task: MaterializationTask) -> None:
        view = task.feature_view
        if not isinstance(self.online_store, PackedOnlineStore):
            raise FeatureError(
                f"view {view.name!r} is not in a PackedOnlineStore",
                remedy="set `batch_engine: local` in feature_store.yaml for other online stores",
            )
        mark, layout = instant(task.end_time), layout_of_view(view)
        earliest = instant(task.start_time)
        if layout.ttl_us:
            earliest = max(earliest, mark - layout.ttl_us)
        facts = facts_of_source(view.batch_source, self.repo_config, view=view.name)
        address = self.repo_config.online_store.resolve_url()
        with contextlib.closing(open_writer(address)) as writer:
            write_newest(writer, facts, view.name, layout, window=Window(mark=mark, earliest=earliest))


def facts_of_source(source: Any, config: Any, *, view: str) -> Facts:
    """The facts of a Feast source at its current snapshot.

    Raises:
        FeatureError: there is no such table, or the kind of source is not one we read.
    """
    return Facts(
        dataset=open_source(source, config, view=view),
        event=source.timestamp_field,
        known=source.created_timestamp_column or None,
        bounds_use=isinstance(source, LakeSource),
        renamed={name: column for column, name in (source.field_mapping or {}).items()},
        constant={DUMMY_ENTITY_ID: DUMMY_ENTITY_VAL},
    )
