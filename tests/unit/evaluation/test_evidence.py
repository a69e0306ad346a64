"""The bundle, its address, the card made of it, and what it measures of leaks and explanations."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from millrace.artifact import digest_of
from millrace.document import store_document
from millrace.errors import DocumentError
from millrace.evaluation.evidence import Evidence, evidence_folder, load_evidence, store_evidence
from millrace.evaluation.explanation import explain_contributions, explain_permutation, sample_rows
from millrace.evaluation.model_card import render_card, store_card
from millrace.evaluation.sufficiency import measure_sufficiency
from millrace.evaluation.verdict import answer_gates
from millrace.settings import Settings
from millrace.spec import PolicySpec, UseCaseSpec


def test_a_bundle_is_found_by_its_digest_and_a_changed_byte_is_noticed(evidence: Evidence, settings: Settings) -> None:
    digest = store_evidence(evidence, settings)
    assert digest == evidence.digest == store_evidence(evidence, settings)
    assert load_evidence(digest, settings) == evidence
    path = evidence_folder(settings) / f"{digest}.json"
    path.write_bytes(path.read_bytes().replace(b"0.72", b"0.92"))
    with pytest.raises(DocumentError, match="have the digest"):
        load_evidence(digest, settings)
    with pytest.raises(DocumentError, match="no document"):
        load_evidence("0" * 64, settings)


def test_a_bundle_of_an_older_layout_can_be_read_and_one_with_a_hole_is_named(
    plain: dict[str, Any], settings: Settings
) -> None:
    older = store_document(evidence_folder(settings), {**plain, "gone_since": 1})
    assert load_evidence(older, settings).challenger == "xgboost"
    hollow = store_document(evidence_folder(settings), {name: plain[name] for name in plain if name != "slices"})
    with pytest.raises(DocumentError, match="slices"):
        load_evidence(hollow, settings)


def tuned(plain: dict[str, Any], **more: Any) -> Evidence:
    """The evidence with a search for the challenger's parameters."""
    values = [0.70, None, 0.72, None, 0.715]
    states = ["complete", "pruned", "complete", "failed", "complete"]
    search = {
        "metric": "auc",
        "folds": ["2013-01", "2013-02"],
        "trials": {"complete": 3, "failed": 1, "pruned": 1},
        "value": 0.72,
        "untuned": 0.70,
        "params": {"learning_rate": 0.0712345678, "layers": ["<b>", "a|b"]},
        "importance": {"learning_rate": 0.8, "layers": 0.2},
        "history": [
            {"number": number, "value": value, "state": state}
            for number, (value, state) in enumerate(zip(values, states, strict=True))
        ],
        **more,
    }
    return Evidence.model_validate({**plain, "tuning": {"xgboost": search}})


def test_a_search_stands_in_the_bundle_and_an_untuned_bundle_has_no_word_on_it(
    evidence: Evidence, plain: dict[str, Any], settings: Settings
) -> None:
    assert "tuning" not in evidence.document()
    searched = tuned(plain)
    assert load_evidence(store_evidence(searched, settings), settings) == searched
    without = {name: value for name, value in searched.document().items() if name != "tuning"}
    assert digest_of(without) == evidence.digest != searched.digest
    assert searched.document()["tuning"]["xgboost"]["history"][1] == {"number": 1, "value": None, "state": "pruned"}


def test_a_card_tells_how_the_challengers_parameters_were_found(evidence: Evidence, plain: dict[str, Any]) -> None:
    heading = "How its parameters were found"
    card = render_card(tuned(plain), "d", [])
    page = _Balance()
    page.feed(card.html)
    assert page.open == []
    section = card.html.split(heading)[1].split("</section>")[0]
    assert section.count("<circle") == 5
    assert "<b>" not in section
    assert "&lt;b&gt;" in section
    assert section.count('class="bar"') == 2
    words = (
        "5 trials (3 came to an end, 1 given up as they fell behind, 1 failed), each judged on 2013-01 and 2013-02",
        "The best has AUC 0.7200, the spec's own parameters have 0.7000.",
    )
    assert all(text in card.markdown for text in words)
    assert "| learning_rate | 0.0712346 | 80.0 % |" in card.markdown
    assert "a\\|b" in card.markdown
    bare = render_card(evidence, "d", [])
    assert heading not in bare.html + bare.markdown


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"params": {}, "value": 0.7}, "None was better than the spec's own parameters (AUC 0.7000)"),
        ({"untuned": None}, "the trial of the spec's own parameters did not come to an end"),
        ({"params": {}, "importance": {}, "history": [], "trials": {"complete": 1}}, "1 trial (1 came to an end)"),
    ],
)
def test_a_card_of_a_search_that_found_little_says_so(plain: dict[str, Any], more: dict[str, Any], words: str) -> None:
    assert words in render_card(tuned(plain, **more), "d", []).markdown


class _Balance(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closes itself."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_card_says_everything_needs_nothing_from_outside_and_escapes_what_it_is_given(
    evidence: Evidence, plain: dict[str, Any], policy: PolicySpec, use_case: UseCaseSpec, settings: Settings
) -> None:
    answers = answer_gates(policy, use_case, evidence)
    evil = Evidence.model_validate({**plain, "description": "<script>alert(1)</script> `x < y`"})
    card = render_card(evil, evil.digest, answers)
    page = _Balance()
    page.feed(card.html)
    assert page.open == []
    assert page.addresses == []
    assert "<script" not in card.html
    assert "<code>x &lt; y</code>" in card.html
    assert not re.search(r"https?:|@import|url\(", card.html)
    for text in (
        "What it is for",
        "By whom",
        "For whom it is worse",
        "Known limits",
        "What the gates say",
        "release 3",
    ):
        assert text in card.html
        assert text in card.markdown
    assert "plane_year (30%)" in card.markdown
    assert "origin LGA" in card.markdown.split("Known limits")[1]
    path = store_card(evidence_folder(settings), evil.digest, card)
    assert path.read_text() == card.html
    assert path.with_suffix(".md").read_text() == card.markdown
    assert render_card(evil, evil.digest, answers) == card


def test_a_card_can_be_made_of_a_bundle_with_holes(plain: dict[str, Any]) -> None:
    bare = {
        **plain,
        "slices": [],
        "calibration": [],
        "champion": None,
        "versus_champion": {"against": "champion"},
        "explanation": {"method": "none", "rows": 0, "features": []},
    }
    assert "This section is empty" in render_card(Evidence.model_validate(bare), "d", []).html


def test_a_planted_leak_is_nearly_sufficient_alone_and_honest_features_are_not() -> None:
    generator = np.random.default_rng(0)
    delay = generator.normal(size=8000) * 30
    label = (delay > 15).astype(np.float64)
    bent = np.where(generator.random(8000) < 0.5, np.abs(delay - 15), np.nan)
    columns = {
        "leak": delay,
        "bent": bent,
        "noise": generator.normal(size=8000),
        "empty": np.full(8000, np.nan),
        "city": np.array(["late" if item else "other" for item in label], object),
        "unseen": np.array([f"id-{i}" for i in range(8000)], object),
    }
    halves = [{name: values[half] for name, values in columns.items()} for half in (slice(0, 4000), slice(4000, 8000))]
    found = {
        item.feature: item.score
        for item in measure_sufficiency("binary", halves[0], label[:4000], halves[1], label[4000:])
    }
    assert found["leak"] > 0.99
    assert found["city"] == 1.0
    assert found["noise"] < 0.55
    assert found["empty"] == found["unseen"] == 0.5


def test_a_label_that_is_a_feature_has_all_the_variance_and_a_correlated_one_has_not() -> None:
    generator = np.random.default_rng(0)
    label = generator.gamma(3, 40, 6000)
    columns = {"copy": label * 1.3 + 2, "near": label + generator.normal(size=6000) * 12}
    halves = [{name: values[half] for name, values in columns.items()} for half in (slice(0, 3000), slice(3000, 6000))]
    found = measure_sufficiency("regression", halves[0], label[:3000], halves[1], label[3000:])
    assert found[0].feature == "copy"
    assert found[0].score > 0.999
    assert 0.9 < found[1].score < 0.985


def test_contributions_and_permutation_both_rank_what_matters_first() -> None:
    generator = np.random.default_rng(0)
    matrix = generator.normal(size=(500, 3))
    weights = np.array([0.1, 2.0, 0.0])
    found = explain_contributions(["a", "b", "c"], matrix * weights)
    assert [item.feature for item in found.features] == ["b", "a", "c"]
    assert sum(item.share for item in found.features) == pytest.approx(1, abs=1e-5)
    label = (matrix @ weights > 0).astype(np.float64)
    columns = {name: pa.array(matrix[:, i]) for i, name in enumerate("abc")}

    def predict(given: Any) -> np.ndarray:
        return 1 / (1 + np.exp(-np.stack([given[name].to_numpy() for name in "abc"], axis=1) @ weights))

    again = [
        explain_permutation(
            "binary", "auc", columns=columns, features=list("abc"), label=label, predict=predict, seed=7
        )
        for _ in range(2)
    ]
    assert again[0] == again[1]
    assert again[0].features[0].feature == "b"
    assert again[0].features[-1].value == 0


def test_sampled_rows_are_spread_over_all_and_never_more_than_there_are() -> None:
    assert sample_rows(3, 10).tolist() == [0, 1, 2]
    found = sample_rows(1000, 10)
    assert (found[0], found[-1], len(set(found.tolist()))) == (0, 999, 10)
