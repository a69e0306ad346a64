"""The job of a retrieval: it runs when its result is asked for, in memory or piece by piece into a saved dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pandas as pd
import pyarrow as pa
from feast import OnDemandFeatureView
from feast.infra.offline_stores.file_source import SavedDatasetFileStorage
from feast.infra.offline_stores.offline_store import RetrievalJob, RetrievalMetadata
from feast.repo_config import RepoConfig
from feast.saved_dataset import SavedDatasetStorage

from millrace.errors import FeatureError
from millrace.features.feast_write import save


class LakeRetrievalJob(RetrievalJob):
    """A retrieval that runs when its result is asked for.

    Args:
        evaluate: the result in pieces, at least one; called anew each time.
        config: Feast's configuration.
        full_feature_names: whether features carry their view's name in front.
        on_demand_feature_views: views computed of the result.
        metadata: tells what was asked; None for reads that Feast makes for itself.
    """

    def __init__(
        self,
        evaluate: Callable[[], Iterator[pa.Table]],
        *,
        config: RepoConfig,
        full_feature_names: bool = False,
        on_demand_feature_views: list[OnDemandFeatureView] | None = None,
        metadata: Callable[[], RetrievalMetadata] | None = None,
    ) -> None:
        self._evaluate = evaluate
        self._config = config
        self._full_feature_names = full_feature_names
        self._on_demand_feature_views = on_demand_feature_views or []
        self._tell_metadata = metadata
        self._metadata: RetrievalMetadata | None = None

    @property
    def full_feature_names(self) -> bool:
        """Whether features carry their view's name in front."""
        return self._full_feature_names

    @property
    def on_demand_feature_views(self) -> list[OnDemandFeatureView]:
        """Views that are computed of the result."""
        return self._on_demand_feature_views

    @property
    def metadata(self) -> RetrievalMetadata | None:
        """What was asked."""
        if self._metadata is None and self._tell_metadata is not None:
            self._metadata = self._tell_metadata()
        return self._metadata

    def pieces(self) -> Iterator[pa.Table]:
        """The result piece by piece, in its order; one piece where on-demand views are computed of it.

        An on-demand view in pandas mode may look at several rows, so it gets all of them at once.
        """
        if self._on_demand_feature_views:
            yield self.to_arrow()
        else:
            yield from self._evaluate()

    def _to_arrow_internal(self, timeout: int | None = None) -> pa.Table:
        return pa.concat_tables(self._evaluate())

    def _to_df_internal(self, timeout: int | None = None) -> pd.DataFrame:
        return self._to_arrow_internal(timeout).to_pandas()

    def persist(self, storage: SavedDatasetStorage, allow_overwrite: bool = False, timeout: int | None = None) -> None:
        """Keep the result as Parquet or Delta, local or on S3 (`SavedDatasetFileStorage`), without holding all of it.

        Raises:
            FeatureError: another kind of storage, or something is there already.
        """
        if not isinstance(storage, SavedDatasetFileStorage):
            raise FeatureError(
                f"a result cannot be saved to a {type(storage).__name__}", remedy="use SavedDatasetFileStorage"
            )
        save(self.pieces(), storage.to_data_source(), self._config, allow_overwrite=allow_overwrite)
