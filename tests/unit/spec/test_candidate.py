from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from millrace.spec import CandidateSpec
from millrace.spec.candidate import FloatRange


def test_a_range_or_a_weight_without_end_is_refused() -> None:
    with pytest.raises(ValidationError):
        FloatRange(type="float", low=0.0, high=math.inf)
    with pytest.raises(ValidationError):
        CandidateSpec(trainer="xgboost", class_weight={"1": math.inf})
