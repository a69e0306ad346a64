"""A card that leaves out what it must say fails, section by section."""

from __future__ import annotations

from typing import Any

import pytest

from millrace.evaluation.card_section import card_sections
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.gates.model_card_complete import ModelCardComplete
from millrace.evaluation.model_card import render_card

EMPTIED: dict[str, dict[str, Any]] = {
    "purpose": {"description": " "},
    "people": {"owners": []},
    "data": {"time": {"training_partitions": []}},
    "quality": {"candidates": []},
    "champion": {"champion": {"metrics": {}}},
    "slices": {"slices": []},
    "explanation": {"explanation": {"features": []}},
    "stability": {"stability": []},
    "origin": {"origin": None},
}
NEVER_EMPTY = {"fairness", "footprint", "limits"}


def emptied(plain: dict[str, Any], key: str) -> Evidence:
    change = EMPTIED[key]
    if key == "quality":
        models = [{**item, "metrics": {**item["metrics"], "auc": {}}} for item in plain["candidates"]]
        change = {"candidates": models}
    merged = {name: {**plain[name], **value} if isinstance(value, dict) else value for name, value in change.items()}
    return Evidence.model_validate({**plain, **merged})


def test_every_required_section_is_one_that_can_be_empty_or_always_says_something(evidence: Evidence) -> None:
    sections = card_sections(evidence)
    assert {item.key for item in sections if item.required} == set(EMPTIED) | NEVER_EMPTY
    assert all(item.filled for item in sections)
    assert ModelCardComplete().answer(evidence).outcome == "pass"


@pytest.mark.parametrize("key", sorted(EMPTIED))
def test_a_card_without_a_required_section_is_not_complete(plain: dict[str, Any], key: str) -> None:
    found = emptied(plain, key)
    title = next(item.title for item in card_sections(found) if item.key == key)
    answer = ModelCardComplete().answer(found)
    assert answer.outcome == "fail"
    assert answer.sentence == f"Sections of the model card are empty: {title}."
    assert answer.numbers["empty"] == 1
    card = render_card(found, "d", [])
    assert card.html.count("This section is empty") == card.markdown.count("This section is empty") == 1
