"""The drift reference of a release: what its training rows and its predictions on the holdout looked like.

A reference is one JSON document of histograms, and beside it a Parquet file of sampled rows for reports that want
rows. Both are named by the digest of the document, which holds the content digest of the sample.
"""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from millrace.document import load_document, store_document, write_atomically
from millrace.errors import DocumentError
from millrace.lake.digest import content_digest
from millrace.monitoring.histogram import Histogram, learn_histogram
from millrace.settings import Settings
from millrace.spec.use_case import UseCaseSpec

log = logging.getLogger(__name__)
PREDICTION = "prediction"


class Reference(BaseModel):
    """What new data is compared with; an unknown field is passed over, a new one needs a default.

    Attributes:
        use_case: its use case.
        rows: training rows the histograms are of.
        features: histogram of each feature on the training rows.
        prediction: histogram of the predictions on the holdout; of several classes, of the most probable one.
        probabilities: of several classes, the histogram of the probability of each, in their order.
        sample: content digest of the sampled rows.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: Literal[1] = 1
    use_case: str
    rows: int
    features: dict[str, Histogram]
    prediction: Histogram
    sample: str
    probabilities: list[Histogram] = []


def build_reference(
    use_case: UseCaseSpec, rows: pa.Table, predictions: NDArray[np.float64], *, settings: Settings
) -> str:
    """Store the reference of a model and give back its digest; equal rows give an equal digest.

    Args:
        use_case: names the features and their kinds.
        rows: the training rows.
        predictions: of the model on its holdout: (n,), or (n, classes) of several classes.
        settings: this installation.
    """
    names, categories = use_case.features.columns, set(use_case.features.categories)
    shown = shown_predictions(use_case, predictions)
    sample = _sample(rows.select(names), shown, use_case.monitoring.report_rows)
    reference = Reference(
        use_case=use_case.name,
        rows=rows.num_rows,
        features={
            name: learn_histogram(rows.column(name), "category" if name in categories else "number") for name in names
        },
        prediction=learn_histogram(shown, "category" if use_case.classes else "number"),
        sample=content_digest(sample),
        probabilities=[
            learn_histogram(pa.array(predictions[:, place]), "number") for place in range(len(use_case.classes))
        ],
    )
    digest = store_document(_folder(settings), _document(reference))
    path = _sample_path(digest, settings)
    if not path.is_file():
        sink = io.BytesIO()
        pq.write_table(sample, sink)
        write_atomically(path, sink.getvalue())
    return digest


def shown_predictions(use_case: UseCaseSpec, predictions: NDArray[np.float64]) -> pa.Array:
    """One value a row: the prediction, or the name of the most probable class."""
    if not use_case.classes:
        return pa.array(predictions, pa.float64())
    return pa.array(use_case.classes, pa.string()).take(pa.array(predictions.argmax(axis=1)))


def load_reference(digest: str, *, settings: Settings) -> Reference:
    """The reference of a digest.

    Raises:
        DocumentError: there is none, or its bytes were changed.
    """
    return Reference.model_validate(load_document(_folder(settings), digest))


def load_sample(digest: str, reference: Reference, *, settings: Settings) -> pa.Table:
    """The sampled training rows of a reference, each with a prediction of the holdout.

    The predictions are a sample of their own: read columns one at a time, not across.

    Raises:
        DocumentError: the sample is gone or was changed.
    """
    path = _sample_path(digest, settings)
    try:
        sample = pq.read_table(path)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise DocumentError(
            f"the sample of reference {digest!r} cannot be read",
            where=str(path),
            remedy="evaluate the candidates again",
        ) from error
    if content_digest(sample) != reference.sample:
        raise DocumentError(
            f"the sample of reference {digest!r} was changed", where=str(path), remedy="evaluate the candidates again"
        )
    return sample


def spread(count: int, wanted: int) -> NDArray[np.int64]:
    """At most `wanted` indices, evenly spread over `count` rows; the same for ever."""
    return np.arange(count) if count <= wanted else np.linspace(0, count - 1, wanted).astype(np.int64)


def _document(reference: Reference) -> dict[str, Any]:
    """JSON types, as stored; what came to the layout later stands there only where it says something."""
    plain = reference.model_dump(mode="json")
    return {name: value for name, value in plain.items() if value or name != "probabilities"}


def _sample(rows: pa.Table, predictions: pa.Array, wanted: int) -> pa.Table:
    taken = rows.take(pa.array(spread(rows.num_rows, wanted)))
    of_holdout = predictions.take(pa.array(np.resize(spread(len(predictions), wanted), taken.num_rows)))
    return taken.append_column(PREDICTION, of_holdout).combine_chunks()


def _folder(settings: Settings) -> Path:
    return settings.var / "references"


def _sample_path(digest: str, settings: Settings) -> Path:
    return _folder(settings) / f"{digest}.parquet"
