"""The drift report people look at, by Evidently. Importing this module costs seconds: import it where it is used."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa

os.environ.setdefault("DO_NOT_TRACK", "true")

from evidently import DataDefinition, Dataset, Report
from evidently.presets import DataDriftPreset

log = logging.getLogger(__name__)
_MARK = "<!-- millrace inputs {} -->"


def write_report(
    path: Path,
    reference: pa.Table,
    current: pa.Table,
    *,
    categories: list[str],
    limit: float,
    share: float,
    inputs: str,
) -> bool:
    """Write Evidently's data drift report as HTML, unless the file already is the report of these inputs.

    Args:
        path: the HTML file.
        reference: sampled rows of the release's training.
        current: sampled rows of the partition, the same columns.
        categories: columns that are categories.
        limit: PSI over which a column counts as drifted; the same figure that Millrace's own drift uses, on
            Evidently's own bins.
        share: share of drifted columns over which the report speaks of drift.
        inputs: digest of all that goes in; stands at the end of the file.

    Returns:
        Whether it was written.
    """
    mark = _MARK.format(inputs).encode()
    if path.is_file() and path.read_bytes()[-len(mark) :] == mark:
        return False
    usable = [name for name in current.column_names if _usable(reference.column(name), current.column(name))]
    definition = DataDefinition(
        numerical_columns=[name for name in usable if name not in categories],
        categorical_columns=[name for name in usable if name in categories],
    )
    frames = [
        Dataset.from_pandas(table.select(usable).to_pandas(), data_definition=definition)
        for table in (current, reference)
    ]
    snapshot: Any = Report([DataDriftPreset(method="psi", threshold=limit, drift_share=share)]).run(*frames)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    snapshot.save_html(str(draft))
    with draft.open("ab") as file:
        file.write(mark)
    draft.replace(path)
    log.info("report %s written: %d against %d rows", path, current.num_rows, reference.num_rows)
    return True


def _usable(reference: Any, current: Any) -> bool:
    """Evidently cannot compare a column without a single value."""
    return bool(reference.null_count < len(reference) and current.null_count < len(current))
