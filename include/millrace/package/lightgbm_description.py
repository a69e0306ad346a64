"""What a model file of lightgbm says of itself."""

from __future__ import annotations

import re

import lightgbm

from millrace.package.description import Description, unreadable

_MADE_UP = re.compile(r"^Column_\d+$")
_END = "end of trees"
_REFUSED = ("lambdarank", "rank_xendcg", "custom", "none")


def describe_model(content: bytes, *, wrapped: bool = False) -> Description:
    """Read a file, which is text.

    Raises:
        ModelImportError: lightgbm does not read it, or it answers with scores.
    """
    remedy = "save it again with Booster.save_model('model.txt'), and copy it whole"
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise unreadable("the file is no text, as a model of lightgbm is", remedy) from error
    if not text.startswith("tree\n") or _END not in text:
        raise unreadable("the file is no model of lightgbm, or is cut off", remedy)
    try:
        booster = lightgbm.Booster(model_str=text)
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        told = str(error).strip()[:200]
        raise unreadable(f"lightgbm {lightgbm.__version__} does not read the model: {told}", remedy) from error
    found = re.search(r"^objective=(\S+)", text, re.MULTILINE)
    objective = found[1] if found else "none"
    if objective in _REFUSED:
        raise unreadable(
            f"the model's objective {objective!r} gives no probabilities and no value",
            "train it with the objective binary, multiclass or a regression",
        )
    names = list(booster.feature_name())
    return Description(
        format="lightgbm",
        content=content,
        library="lightgbm",
        version=lightgbm.__version__,
        names=[] if all(_MADE_UP.match(name) for name in names) else names,
        width=booster.num_feature(),
        columns=booster.num_model_per_iteration(),
        facts={"objective": objective, "rounds": booster.current_iteration()},
    )
