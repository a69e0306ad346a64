"""The card as people get it: every plot is drawn, every text is escaped, older bundles still make one."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from millrace.evaluation.card_bar import gain_comparison, model_comparison, slice_groups
from millrace.evaluation.card_panel import HEIGHT, WIDTH, Scale, quality_panels
from millrace.evaluation.card_text import digits_for, figure, interval, listed, markdown
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.finding import Estimate
from millrace.evaluation.gate import Answer
from millrace.evaluation.model_card import render_card
from millrace.evaluation.sklearn_curve import draw_curves

EVIL = "<b>a|b</b>"


class Page(HTMLParser):
    """Tags of a page, each closed as it was opened, and what stands in its plots."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.plots: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "svg":
            self.plots.append(dict(attrs).get("aria-label") or "")
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def full(plain: dict[str, Any]) -> Evidence:
    """A bundle with everything that can be measured."""
    generator = np.random.default_rng(0)
    chance = generator.random(3000)
    label = (generator.random(3000) < chance).astype(np.float64)
    curves = draw_curves("binary", label, chance, "challenger") + draw_curves("binary", label, chance**2, "champion")
    gain = {"value": -0.01, "low": -0.03, "high": -0.002}
    slices = [{**item, "gain": gain if item["value"] == "JFK" else {"value": 0.01}} for item in plain["slices"]]
    crossed = {**slices[0], "column": "origin × carrier"}
    group = {"rows": 900, "mean_label": 0.2, "true_positive_rate": 0.4, "false_positive_rate": None}
    return Evidence.model_validate(
        {
            **plain,
            "curves": [item.model_dump() for item in curves],
            "slices": [*slices, *({**crossed, "value": f"EWR × {number}"} for number in range(9))],
            "rule": {"threshold": 0.3, "beta": 2.0},
            "latency": {"rows": 1000, "load": 412.4, "one_median": 0.351, "one_p99": 0.6, "batch": 12.0},
            "fairness": [
                {
                    "column": "carrier",
                    "decides": "a probability of 0.3 or more",
                    "min_rows": 200,
                    "compared": 2,
                    "demographic_parity": {"value": 0.61, "low": 0.5, "high": 0.7},
                    "equalized_odds": {"value": 0.5, "low": 0.4, "high": 0.6},
                    "odds_rate": "true",
                    "odds_least": "AA",
                    "odds_greatest": "UA",
                    "least": "AA",
                    "greatest": EVIL,
                    "groups": [
                        {"value": "AA", "selected": 0.2, **group},
                        {"value": EVIL, "selected": 0.33, **group},
                        {"value": "HA", "selected": 0.9, **group, "rows": 12},
                    ],
                }
            ],
            "value": {
                "currency": "EUR",
                "rows": 27_000,
                "total": 33_210.0,
                "per_row": {"value": 1.23, "low": 1.0, "high": 1.5},
                "champion": {"value": 1.1},
                "baseline": {"value": 0.2},
                "gain": {"value": 0.13, "low": 0.01, "high": 0.2},
                "cells": [{"came": "1", "decided": "0", "rows": 12, "total": -720.0}],
            },
        }
    )


def test_every_plot_is_drawn_with_the_champion_beside_the_challenger(full: Evidence) -> None:
    card = render_card(full, "d", [])
    page = Page(card.html)
    assert {"ROC", "Precision and recall", "Calibration"} <= set(page.plots)
    assert {"xgboost: 0.720 (0.700 to 0.740)", "champion, release 3: 0.700 (0.680 to 0.720)"} <= set(page.plots)
    assert "all rows: +0.0200 (+0.0100 to +0.0300)" in page.plots
    lines = [attrs["class"] for tag, attrs in page.found if tag == "polyline"]
    assert (lines.count("line challenger"), lines.count("line champion")) == (3, 2)
    assert sum(tag == "rect" and attrs.get("class") == "tip" for tag, attrs in page.found) == len(full.slices)


def test_the_card_says_what_was_measured_of_people_of_changes_of_money_and_of_time(full: Evidence) -> None:
    card = render_card(full, "d", [])
    for words in (
        "carrier: demographic parity 0.610 (95 % interval 0.500 to 0.700): “a probability of 0.3 or more” is least "
        "often said of AA",
        "the true positive rate is least for AA and greatest for UA",
        "With small noise on all numbers at once, predictions move by 0.004 on average, on 2,000 rows, and AUC",
        "Of features that go missing, temp moves predictions most: by 0.030 on average, and AUC is 0.680.",
        "Its decisions (1 is decided from a probability of 0.3 on) are worth 1.230 (95 % interval 1.000 to 1.500) a "
        "row in EUR: 33,210 EUR on the 27,000 rows",
        "The paired gain over the champion's is +0.130 (95 % interval +0.010 to +0.200) a row.",
        "answers after 412 ms, libraries included; one row takes 0.35 ms",
        "It is worse than the champion beyond chance on origin JFK.",
        "F-beta is at the threshold 0.3 with beta 2",
        "Too few rows to compare these groups of carrier: HA.",
        "It was trained by the code of commit `111111111111`, with nothing changed since.",
    ):
        assert words in card.markdown, words
    for fact in ("1" * 40 + " (clean)", "2" * 64, "3" * 64, full.policy, full.data.training_set, full.reference):
        assert fact in card.html
        assert fact in card.markdown


def test_names_from_the_data_are_escaped_in_both_forms(full: Evidence, plain: dict[str, Any]) -> None:
    slices = [{**plain["slices"][0], "value": EVIL, "gain": {"value": -0.01}}]
    answers = [Answer(gate="calibration", outcome="fail", sentence=f"see {EVIL}")]
    card = render_card(Evidence.model_validate({**full.document(), "slices": slices}), "d", answers)
    assert EVIL not in card.html
    assert card.html.count("&lt;b&gt;a|b&lt;/b&gt;") >= 4
    rows = [line for line in card.markdown.splitlines() if line.startswith("|") and "<b" in line]
    assert len(rows) >= 4
    assert all(r"\<b\>a\|b\</b\>" in line for line in rows)


FORGED = (
    "Fine.\n\n# Gates: pass\n\n- all `alike`\n\n![t](https://evil.example/p.png) [l](https://evil.example) <img src=x>"
)


def kinds(text: str) -> set[str]:
    """What Markdown finds in a text."""
    found = MarkdownIt("commonmark").enable("table").parse(text)
    return {item.type for item in found} | {child.type for item in found for child in item.children or []}


def test_what_comes_from_specs_and_data_makes_no_heading_link_or_image(full: Evidence, plain: dict[str, Any]) -> None:
    many = dict.fromkeys(("description", "label", "feature_service"), FORGED)
    many["owners"] = [FORGED]  # type: ignore[assignment]
    slices = [{**plain["slices"][0], "value": FORGED, "gain": {"value": -0.01}}]
    origin = {"commit": "", "tree": "none", "lock": "", "recipe": "", "source": FORGED}
    answers = [Answer(gate=FORGED, outcome="fail", sentence=FORGED)]
    changed = Evidence.model_validate({**full.document(), **many, "slices": slices, "origin": origin})
    text = render_card(changed, "d", answers).markdown
    assert kinds(text).isdisjoint({"image", "link_open", "html_inline", "html_block"})
    assert "\n# " not in text
    assert "\n- all" not in text


@given(st.text("ab1_*`[]()!<>#|\\~.-+= \n", max_size=40))
def test_any_text_is_one_paragraph_of_words_and_code(text: str) -> None:
    told = markdown(text)
    assert "\n" not in told
    allowed = {"paragraph_open", "paragraph_close", "inline", "text", "code_inline", "text_special"}
    assert kinds(told) <= allowed
    assert kinds(f"| {told} |\n| --- |\n") <= allowed | {
        f"{part}_{end}" for part in ("table", "thead", "tr", "th") for end in ("open", "close")
    }
    words = "".join(item.content for item in MarkdownIt("commonmark").parseInline(told)[0].children or [])
    assert re.sub(r"[\s`'\\]", "", words) == re.sub(r"[\s`'\\]", "", text)


def test_the_card_fits_a_phone_and_a_dark_screen_and_loads_nothing(full: Evidence) -> None:
    card = render_card(full, "d", [])
    assert "prefers-color-scheme: dark" in card.html
    assert 'name="viewport" content="width=device-width' in card.html
    assert not re.search(r"https?:|@import|url\(|<script|<img|<link", card.html)
    assert len(card.html) < 120_000


def test_gates_stand_in_the_card_with_their_sentences(full: Evidence) -> None:
    answers = [
        Answer(gate="calibration", outcome="fail", sentence="Probabilities are off."),
        Answer(gate="no_leak", outcome="pass", sentence="Nothing leaks."),
    ]
    card = render_card(full, "d", answers)
    assert "1 of 2" in card.html
    assert "| calibration | fail | Probabilities are off. |" in card.markdown
    assert '<span class="badge fail">fail</span></td><td class="full">Probabilities are off.</td>' in card.html


def test_a_bundle_from_before_the_later_measurements_still_makes_a_card(plain: dict[str, Any]) -> None:
    old = {name: value for name, value in plain.items() if name not in {"stability", "origin"}}
    card = render_card(Evidence.model_validate(old), "d", [])
    Page(card.html)
    assert card.html.count("This section is empty") == card.markdown.count("This section is empty") == 2
    assert "What it is worth" not in card.markdown


def test_a_model_from_elsewhere_says_so_and_claims_no_training_rows(plain: dict[str, Any]) -> None:
    time = {**plain["time"], "training_partitions": [], "training_last_event": "", "declared": True}
    origin = {"commit": "", "tree": "none", "lock": "", "recipe": "", "source": "onnx file model.onnx"}
    card = render_card(Evidence.model_validate({**plain, "time": time, "origin": origin}), "d", []).markdown
    assert "Trained elsewhere through 2013-02, as is declared; measured on 27,000 rows" in card
    assert "It was trained elsewhere and comes from `onnx file model.onnx`" in card
    assert "what it has seen cannot be checked here" in card
    assert "It has seen" not in card
    assert "This section is empty" not in card


def test_errors_of_a_number_are_drawn_and_shown_in_its_own_size(plain: dict[str, Any]) -> None:
    generator = np.random.default_rng(0)
    label = generator.gamma(3, 0.001, 4000)
    curves = draw_curves("regression", label, label * 0.9, "challenger")
    metrics = {
        "rmse": {"value": 0.00123, "low": 0.0011, "high": 0.0013},
        "mae": {"value": 0.001},
        "mape": {},
        "r2": {"value": 0.9},
        "bias": {"value": -0.0002},
    }
    models = [{**item, "metrics": metrics} for item in plain["candidates"]]
    more = {"problem": "regression", "metric": "rmse", "champion": None, "slices": [], "calibration": []}
    found = Evidence.model_validate(
        {**plain, **more, "versus_champion": {"against": "champion"}, "candidates": models}
        | {"curves": [item.model_dump() for item in curves]}
    )
    card = render_card(found, "d", [])
    page = Page(card.html)
    assert "Errors along the prediction" in page.plots
    assert sum(tag == "polygon" for tag, _ in page.found) == 1
    assert "RMSE 0.001230 (95 % interval 0.001100 to 0.001300)" in card.markdown
    assert "| MAPE | – | – |" in card.markdown
    assert "On average it predicts 0.000200 too little." in card.markdown


def test_all_places_lie_within_their_plots(full: Evidence) -> None:
    for panel in quality_panels(full):
        for line in panel.lines:
            pairs = [tuple(map(float, pair.split(","))) for pair in line.points.split()]
            assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in pairs)
    models, gains = model_comparison(full), gain_comparison(full)
    assert models is not None and gains is not None
    assert [item.of for item in models.marks] == ["challenger", "champion"]
    assert models.caption.endswith("Not drawn: baseline, with 0.500.")
    assert [item.name for item in gains.marks][:2] == ["all rows", "origin JFK"]
    marks = [*models.marks, *gains.marks, *(bar for group in slice_groups(full) for bar in group.bars)]
    assert all(0 <= place <= 100 for item in marks for place in (item.at, item.low, item.high) if place is not None)
    assert {group.column: group.folded for group in slice_groups(full)} == {"origin": False, "origin × carrier": True}


@given(st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=1, max_size=9))
def test_a_scale_holds_its_values_in_order_and_has_a_few_round_ticks(values: list[float]) -> None:
    scale = Scale.of(values, 200.0)
    places = [scale.place(value) for value in sorted(values)]
    assert places == sorted(places)
    assert all(0 <= place <= 200 for place in places)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 11
    assert all(math.isfinite(tick) for tick in ticks)


def test_numbers_and_lists_are_worded_for_people() -> None:
    assert figure(None) == "–"
    assert figure(1234.5, 1) == "1,234.5"
    assert figure(0.02, sign=True) == "+0.020"
    assert interval(Estimate(value=1)) == ""
    assert [digits_for(value) for value in (None, 0.0, 0.00123, 12.3, -45_678.0)] == [2, 2, 6, 2, 0]
    assert listed(["a", "b", "c"]) == "a, b and c"
    assert listed(["a", "b", "c"], 2) == "a, b and 1 more"
    assert listed(["a"]) == "a"
