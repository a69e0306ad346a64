"""The timetable of a data DAG that schedule, backfill and new files start alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.partition_mappers.temporal import StartOfDayMapper, StartOfMonthMapper
from airflow.serialization.decoders import decode_asset_like
from airflow.serialization.encoders import encode_asset_like, ensure_serialized_asset
from airflow.timetables.base import PartitionMapperInfo
from airflow.timetables.trigger import CronPartitionTimetable

from millrace.partition import Grain

_GRAINS: dict[Grain, tuple[str, str, Any]] = {
    "month": ("0 0 1 * *", "%Y-%m", StartOfMonthMapper),
    "day": ("0 0 * * *", "%Y-%m-%d", StartOfDayMapper),
}


class PartitionTimetable(CronPartitionTimetable):
    """A run when a partition is over, and one for each partition key that an asset names.

    Airflow's own timetables do the one or the other. What makes runs of asset events (and drops none of them) is its
    scheduler; this class only tells it the asset, and which partition date a key stands for.

    Args:
        grain: size of a partition.
        timezone: calendar of the partitions.
        asset: its events carry partition keys; each starts a run of that key.
    """

    def __init__(self, *, grain: Grain, timezone: str, asset: Any) -> None:
        cron, form, mapper = _GRAINS[grain]
        super().__init__(cron, timezone=timezone, run_offset=-1, key_format=form)
        self.grain = grain
        self.asset_condition = ensure_serialized_asset(asset)
        self._mapper = mapper(timezone=timezone, input_format=form, output_format=form)

    @property
    def summary(self) -> str:
        """What the list of DAGs shows."""
        return f"{self._expression} or new files"

    def get_partition_mapper(self, *, name: str = "", uri: str = "") -> Any:
        """A key stays as it is, and is told its date."""
        return self._mapper

    @property
    def partition_mapper_info(self) -> Sequence[PartitionMapperInfo]:
        """What the UI shows of the asset: no roll-up."""
        return [
            PartitionMapperInfo(name=key.name, uri=key.uri, is_rollup=False)
            for key, _ in self.asset_condition.iter_assets()
        ]

    def serialize(self) -> dict[str, Any]:
        """What the scheduler makes the timetable of."""
        return {
            "grain": self.grain,
            "timezone": self._timezone.name,
            "asset": encode_asset_like(self.asset_condition),
        }

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PartitionTimetable:
        """The timetable that `serialize` was called on."""
        return cls(grain=data["grain"], timezone=data["timezone"], asset=decode_asset_like(data["asset"]))
