"""A model card in a real browser: on a phone, on a dark screen, and with no network at all."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millrace.artifact import digest_of
from millrace.evaluation.evidence import Evidence
from millrace.evaluation.model_card import render_card, store_card
from millrace.evaluation.sklearn_curve import draw_curves

pytestmark = pytest.mark.browser
CHROMIUM = Path("/usr/bin/chromium")
_CONTRAST = 4.5


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("there is no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """The card of a bundle with long names, many slices and curves."""
    generator = np.random.default_rng(0)
    chance = generator.random(2000)
    label = (generator.random(2000) < chance).astype(np.float64)
    curves = draw_curves("binary", label, chance, "challenger") + draw_curves("binary", label, chance**2, "champion")
    figure = {"value": 0.72, "low": 0.7, "high": 0.74}
    names = [f"a_feature_with_quite_a_long_name_{number}" for number in range(12)]
    model = {"trainer": "xgboost", "trained_through": "2013-02", "bytes": 10**6, "features": names}
    metrics = {"auc": figure, "average_precision": figure, "log_loss": figure, "brier": figure, "ece": figure}
    slices = [
        {
            "column": "origin × a_column_with_a_long_name",
            "value": f"EWR × {number}",
            "rows": 900,
            "mean_label": 0.2,
            "score": figure,
            "champion": figure,
            "gain": {"value": 0.01, "low": -0.01, "high": 0.03},
        }
        for number in range(12)
    ]
    times = ("training_last_event", "holdout_first_event", "holdout_last_event", "holdout_start", "cut")
    evidence = Evidence.model_validate(
        {
            **dict.fromkeys(("use_case_digest", "policy", "reference", "label", "feature_service"), "x"),
            **{"use_case": "flight_delay", "description": "Late?", "owners": ["admin"], "tier": "low", "seed": 7},
            **{"problem": "binary", "metric": "auc", "rounds": 200, "declared_features": names, "declared_leaks": []},
            "data": {
                **{"training_set": "d" * 64, "holdout_digest": "e" * 64, "known_until": "", "missing_share": {}},
                **{"training_rows": 9, "holdout_rows": 9, "holdout_days": 3},
                **{"mean_label": 0.2, "training_mean_label": 0.2},
            },
            "time": {
                **dict.fromkeys((*times, "last_label_known_at"), "2013-03-01T04:30:00Z"),
                **{"training_partitions": ["2013-02"], "holdout": "2013-03", "rows_in_both": 0},
            },
            "candidates": [{"name": "xgboost", "package": "a" * 64, "metrics": metrics, **model}],
            "challenger": "xgboost",
            "champion": {"name": "champion", "package": "b" * 64, "release": 3, "metrics": metrics, **model},
            "versus_champion": {"against": "champion", "release": 3, "gain": {"value": 0.01, "low": 0, "high": 0.1}},
            "versus_baseline": {"against": "baseline", "gain": figure},
            "slices": slices,
            "calibration": [{"rows": 10, "predicted": item / 10, "observed": item / 10} for item in range(10)],
            "explanation": {
                **{"method": "contributions", "rows": 300},
                "features": [{"feature": name, "share": 0.1, "value": 0.1} for name in names],
            },
            "sufficiency": [],
            "curves": [item.model_dump() for item in curves],
            "origin": {"commit": "1" * 40, "tree": "clean", "lock": "2" * 64, "recipe": "3" * 64},
        }
    )
    return store_card(tmp_path, digest_of(evidence.document()), render_card(evidence, "d" * 64, []))


@pytest.mark.parametrize("width", [340, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_card_fits_the_screen_asks_for_nothing_and_can_be_read(
    chromium: Any, card: Path, width: int, scheme: str
) -> None:
    context = chromium.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(card.as_uri())
    assert asked == [card.as_uri()]
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    beyond = page.evaluate(
        "[...document.querySelectorAll('p, h2, figure, .tile, table.rows')]"
        ".filter(item => item.getBoundingClientRect().right > innerWidth).length"
    )
    assert beyond == 0
    for selector in ("section p", ".soft", "h2"):
        inks = page.evaluate(f"getComputedStyle(document.querySelector('{selector}')).color")
        paper = page.evaluate("getComputedStyle(document.querySelector('section')).backgroundColor")
        assert contrast(inks, paper) >= _CONTRAST, (selector, inks, paper)
    heights = page.evaluate("[...document.querySelectorAll('.panels svg')].map(item => item.clientHeight)")
    assert len(heights) == 3
    assert min(heights) > 120
    context.close()


def contrast(one: str, other: str) -> float:
    """Contrast ratio of two colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(item) / 255 for item in re.findall(r"\d+", colour)[:3]]
        linear = [item / 12.92 if item <= 0.04045 else ((item + 0.055) / 1.055) ** 2.4 for item in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
