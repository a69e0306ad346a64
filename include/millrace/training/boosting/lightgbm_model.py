"""Joining the segments of a lightgbm model by its C interface, which its Python package does not name."""

from __future__ import annotations

import lightgbm
from lightgbm.basic import _LIB, _safe_call


def join_models(before: lightgbm.Booster, after: lightgbm.Booster) -> None:
    """Put the trees of one model before those of another, which was trained on what the first left to be learned."""
    _safe_call(_LIB.LGBM_BoosterMerge(after._handle, before._handle))
