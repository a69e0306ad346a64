"""What a model file of xgboost says of itself."""

from __future__ import annotations

import re

import orjson
import xgboost

from millrace.package.description import Description, unreadable

_FORMATS = "ubj or json"
_WHOLE = "save it again with Booster.save_model('model.ubj'), and copy it whole"


def describe_model(content: bytes, *, wrapped: bool = False) -> Description:
    """Read a file; a model saved by the wrapper for scikit-learn keeps only the rounds that the wrapper predicts with.

    Raises:
        ModelImportError: xgboost does not read it, or it answers with margins or labels.
    """
    booster = xgboost.Booster(params={"nthread": 1, "verbosity": 0})
    try:
        booster.load_model(bytearray(content))
        config = orjson.loads(booster.save_config())["learner"]
    except (xgboost.core.XGBoostError, orjson.JSONDecodeError, KeyError) as error:
        told = f"xgboost {xgboost.__version__} does not read the model ({_FORMATS}): {_told(error)}"
        raise unreadable(told, _WHOLE) from error
    objective = str(config["objective"]["name"])
    if objective in {"multi:softmax", "binary:hinge"} or objective.startswith(("rank:", "survival:")):
        raise unreadable(
            f"the model's objective {objective!r} gives no probabilities and no value",
            "train it with binary:logistic, multi:softprob or a regression",
        )
    rounds, best = booster.num_boosted_rounds(), booster.attr("best_iteration")
    if wrapped and best is not None and int(best) + 1 < rounds:
        booster = booster[: int(best) + 1]
        content, rounds = bytes(booster.save_raw("ubj")), int(best) + 1
    classes = int(config["learner_model_param"]["num_class"])
    return Description(
        format="xgboost",
        content=content,
        library="xgboost",
        version=xgboost.__version__,
        names=list(booster.feature_names or []),
        width=booster.num_features(),
        columns=classes or 1,
        facts={"objective": objective, "rounds": rounds},
    )


def _told(error: Exception) -> str:
    """What xgboost says, without the time, the place in its own source, and the stack."""
    first = next(iter(str(error).strip().splitlines()), "")
    return re.sub(r"^(\[[\d:]+\] )?(\S+:\d+: )?", "", first)[:200] or "not a model"
