"""Training rows to what trainers take: an encoder learned on them, a float32 matrix, labels, weights.

Rows come in batches. The matrix lies in memory, or, where that would take more than the candidate's
`resources.memory`, in a file without a name that is mapped; what comes out is the same bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from millrace.errors import TrainingError
from millrace.package import Encoder
from millrace.package.learning import Vocabularies, with_scaling
from millrace.training.base import Trainer, TrainingData
from millrace.training.check import check_early_stopping, check_variety, checked_target
from millrace.training.data.matrix import MappedMatrix, Matrix, exceeds
from millrace.training.data.rows import LABEL, WEIGHT, TrainingRows
from millrace.training.data.weight import row_weights
from millrace.training.job import TrainingJob

Observer = Callable[[pa.RecordBatch], None]
_DIRECTIONS = {"increasing": 1, "decreasing": -1}


def encode_rows(
    job: TrainingJob,
    rows: TrainingRows,
    trainer: Trainer,
    *,
    folder: Path,
    observers: Sequence[Observer] = (),
    columns: Sequence[str] | None = None,
) -> TrainingData:
    """Learn the encoder on rows and encode them, in two passes: one over the categories, one over all.

    Args:
        job: names features, label and weights.
        rows: the training rows, and no other.
        trainer: what they are encoded for.
        folder: for the file of a matrix that is too large for memory.
        observers: called with each batch of the second pass.
        columns: what observers want to see; by default what is encoded.

    Raises:
        TrainingError: labels or weights cannot be trained on, or the disk is full.
        FeatureError: a feature holds what its kind cannot be.
    """
    vocabularies = Vocabularies({column.name: column.kind for column in job.features.model})
    if vocabularies.categories:
        for batch in rows.batches(vocabularies.categories, coded=True):
            vocabularies.look(_by_name(batch))
    encoder = vocabularies.encoder(scaled=trainer.scaled)
    blocks = "blocks" in trainer.params.abilities
    found = _encode(job, rows, encoder, folder=folder, observers=observers, columns=columns, blocks=blocks)
    if trainer.scaled:
        encoder = with_scaling(encoder, found.matrix)
    use_case, partitions = job.use_case, rows.partitions
    check_variety(found.target, use_case.problem, classes=use_case.classes, where=job.table)
    if getattr(trainer.params, "early_stopping", 0):
        check_early_stopping(
            found.target,
            found.recent,
            partitions,
            use_case.problem,
            kept=use_case.evaluation.validated,
            classes=use_case.classes,
            where=job.table,
        )
    return TrainingData(
        matrix=found.matrix,
        target=found.target,
        weight=found.weight,
        recent=found.recent,
        encoder=encoder,
        problem=use_case.problem,
        classes={"binary": 2, "regression": 0}.get(use_case.problem, len(use_case.classes)),
        monotone=tuple(_DIRECTIONS.get(job.spec.monotone.get(name, ""), 0) for name in encoder.names),
        block_rows=found.block_rows,
    )


def encode_more(
    job: TrainingJob, rows: TrainingRows, encoder: Encoder, *, folder: Path | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32] | None]:
    """Matrix, labels and weights of rows that an encoder was not learned on, such as those of a later partition.

    Args:
        job: names features, label and weights.
        rows: to encode.
        encoder: of other rows.
        folder: for the file of a matrix that is too large for memory; None keeps it there all the same.

    Raises:
        TrainingError: labels or weights are none, or the disk is full.
        FeatureError: a feature holds what its kind cannot be.
    """
    found = _encode(job, rows, encoder, folder=folder)
    return found.matrix, found.target, found.weight


@dataclass(frozen=True, slots=True, kw_only=True)
class _Encoded:
    matrix: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32] | None
    recent: NDArray[np.bool_]
    block_rows: int


def _encode(
    job: TrainingJob,
    rows: TrainingRows,
    encoder: Encoder,
    *,
    folder: Path | None,
    observers: Sequence[Observer] = (),
    columns: Sequence[str] | None = None,
    blocks: bool = True,
) -> _Encoded:
    use_case, count = job.use_case, rows.num_rows
    weighted = bool(use_case.label.weight)
    labels, own = np.empty(count), np.empty(count) if weighted else None
    width, budget = len(encoder.columns), job.spec.resources.memory_bytes
    folded = folder is not None and exceeds(count, width, budget)
    if folded and not blocks:
        raise TrainingError(
            f"{count} rows of {width} features are more than half of {job.spec.resources.memory}, and trainer "
            f"{job.spec.trainer!r} cannot train out of core",
            where=f"{job.where}.resources.memory",
            remedy="raise it, or choose a trainer that can: xgboost, lightgbm, torch",
        )
    matrix = MappedMatrix(count, width, folder=folder, budget=budget) if folder and folded else Matrix(count, width)
    wanted = [*encoder.names, LABEL, *([WEIGHT] if weighted else [])]
    done = 0
    for batch in rows.batches(list(dict.fromkeys([*wanted, *(columns or ())])), coded=True):
        end = done + batch.num_rows
        encoder.encode_into(_by_name(batch), matrix.window(done, end))
        labels[done:end] = batch.column(LABEL).to_numpy(zero_copy_only=False)
        if own is not None:
            own[done:end] = batch.column(WEIGHT).to_numpy(zero_copy_only=False)
        if observers:
            plain = _plain(batch, rows.schema)
            for observe in observers:
                observe(plain)
        done = end
    pa.default_memory_pool().release_unused()
    target = checked_target(labels, use_case.problem, classes=use_case.classes, where=job.table)
    return _Encoded(
        matrix=matrix.whole(),
        target=target,
        weight=row_weights(use_case, job.spec, target, own, where=job.table),
        recent=np.arange(count) >= count - sum(list(rows.sizes.values())[-use_case.evaluation.validated :]),
        block_rows=matrix.block_rows,
    )


def _plain(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """A batch with its text as text, where it came as codes."""
    return batch.cast(pa.schema([schema.field(name) for name in batch.schema.names]))


def _by_name(batch: pa.RecordBatch) -> dict[str, pa.Array]:
    return dict(zip(batch.schema.names, batch.columns, strict=True))
