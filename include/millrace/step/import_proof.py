"""Whether a model from elsewhere answers: on rows of the use case, and on the examples that came with it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from millrace.errors import FeatureError, MillraceError, ModelImportError, TrainingError
from millrace.package import FeatureSpec, GoldenRows, Manifest, OnDemandFunctions, Predictor
from millrace.spec.signature import SignatureSpec
from millrace.training.check import check_predictions
from millrace.training.golden import GoldenSearch, choose_golden

_SETTLED = 1e-6
"""Greatest gap between two predictions of a row; ten times that of values, as a share of the greatest one above 1."""


def prove(
    search: GoldenSearch,
    features: FeatureSpec,
    functions: OnDemandFunctions,
    predictor: Predictor,
    manifest: Manifest,
) -> GoldenRows:
    """Golden rows of the use case with what the model answers to them, which must be predictions.

    Args:
        search: rows before the holdout.
        features: the package's feature spec.
        functions: its functions.
        predictor: reads the very bytes that are sealed.
        manifest: of the package.

    Raises:
        ModelImportError: it fails on a row, also on one with missing or unseen values, answers with no prediction, or
            otherwise a second time or beside other rows.
    """
    where = f"model {manifest.candidate!r} on rows of {manifest.use_case}"
    remedy = (
        "declare in the signature what stands for missing values and unseen categories (`missing`, `unseen`), the "
        "output of probabilities, and `output.link` where it answers with margins"
    )
    try:
        golden = choose_golden(search.rows, features, functions, predictor)
        check_predictions(golden, manifest.problem, classes=len(manifest.classes), where=where)
        _check_settled(golden, predictor, manifest.problem, where)
    except TrainingError as error:
        raise ModelImportError(
            f"{error.what}{_which(search, functions, predictor)}", where=where, remedy=remedy
        ) from error
    except MillraceError:
        raise
    except Exception as error:
        told = " ".join(str(error).split())[:300]
        raise ModelImportError(
            f"the model fails on rows with missing or unseen values{_which(search, functions, predictor)}: {told}",
            where=where,
            remedy=remedy,
        ) from error
    if manifest.problem == "multiclass":
        _check_sums(golden, where)
    return golden


def _check_settled(golden: GoldenRows, predictor: Predictor, problem: str, where: str) -> None:
    """A row's prediction is that row's alone: the same again, by itself, and among others in another order."""
    backwards = predictor.predict({name: values[::-1] for name, values in golden.columns.items()})[::-1]
    singly = [
        predictor.predict({name: [value] for name, value in golden.row(place).items()}) for place in range(len(golden))
    ]
    again: dict[str, NDArray[Any]] = {
        "a second time": predictor.predict(golden.columns),
        "in another order of the rows": backwards,
        "when each row comes alone": np.concatenate(singly),
    }
    let_pass = _SETTLED
    if problem == "regression":
        let_pass *= 10 * max(1.0, float(np.abs(np.asarray(golden.predictions, np.float64)).max(initial=0.0)))
    for how, predictions in again.items():
        if (gap := golden.difference(predictions)) > let_pass:
            raise ModelImportError(
                f"the model answers otherwise {how}: {gap:.3g} off",
                where=where,
                remedy="export it for inference, without random operators or statistics of the batch",
            )


def _which(search: GoldenSearch, functions: OnDemandFunctions, predictor: Predictor) -> str:
    """The inputs that the model cannot do without, tried one by one on the first row."""
    row = functions.add({name: [value] for name, value in search.rows[0].items()}, 1)
    faulty = []
    for name in predictor.columns:
        columns = {**row, name: [None]}
        try:
            right = bool(np.isfinite(predictor.predict(columns)).all())
        except Exception:  # noqa: BLE001 - whatever it raises, this is the input
            right = False
        if not right:
            faulty.append(name)
    return f" (a missing {', '.join(faulty)} is enough)" if faulty and len(faulty) < len(predictor.columns) else ""


def _check_sums(golden: GoldenRows, where: str) -> None:
    sums = np.asarray(golden.predictions, np.float64).sum(axis=1)
    if (np.abs(sums - 1.0) > 1e-3).any():
        raise ModelImportError(
            f"the probabilities of a row sum up to {sums[np.abs(sums - 1.0).argmax()]:.3g}",
            where=where,
            remedy="declare `output.link: softmax` where it answers with scores",
        )


def check_examples(signature: SignatureSpec, features: FeatureSpec, predictor: Predictor) -> float | None:
    """How far the predictions of the declared examples are off; None where none are declared.

    Raises:
        ModelImportError: further than is let pass.
    """
    examples = signature.examples
    if examples is None:
        return None
    where = f"signature of {signature.name!r}: examples"
    columns = {name: [row.get(name) for row in examples.rows] for name in features.columns}
    if unknown := sorted({name for row in examples.rows for name in row} - set(columns)):
        raise ModelImportError(f"{', '.join(unknown)} is no feature", where=where, remedy=f"name: {', '.join(columns)}")
    try:
        found, wanted = predictor.predict(columns), np.array(examples.predictions, np.float64)
    except (FeatureError, ValueError) as error:
        raise ModelImportError(f"the examples are no rows of features: {error}", where=where) from error
    if found.shape != wanted.shape:
        raise ModelImportError(
            f"the examples have predictions of shape {wanted.shape}, the model's are {found.shape}",
            where=where,
            remedy="give one number a row, or one a class",
        )
    gaps = np.abs(found - wanted).reshape(len(wanted), -1).max(axis=1)
    worst = int(gaps.argmax())
    if not gaps[worst] <= examples.tolerance:
        raise ModelImportError(
            f"row {worst} of the examples is predicted {found[worst]}, not {wanted[worst]}: {gaps[worst]:.3g} off",
            where=where,
            remedy="compare order of inputs, codes of categories and classes with those of the training",
        )
    return float(gaps[worst])
