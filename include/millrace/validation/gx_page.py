"""A Data Docs page of one validation, by Great Expectations' own renderer, made to work without a network.

The renderer's template loads styles, scripts and a logo from a dozen hosts; those are taken out and a small style
sheet and script of ours take their place, so that opening a page tells nobody.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

from millrace.validation.gx_validator import open_context

_TAKEN_OUT = [
    re.compile(r"<link\b[^>]*>"),
    re.compile(r"<script\b.*?</script>", re.DOTALL),
    re.compile(r"<footer\b.*?</footer>", re.DOTALL),
    re.compile(r"<nav class=\"navbar navbar-expand.*?</nav>\s*</div>\s*</nav>", re.DOTALL),
    re.compile(r"background:\s*url\([^)]*\)[^;]*;"),
    re.compile(r"<img\b[^>]*>", re.DOTALL),
]
_SUITE_LINK = re.compile(r"<a href=\"[^\"]*expectations/[^\"]*\"\s*>(.*?)</a>")
_BODY = re.compile(r"<body[^>]*>")
_HEAD = """<style>
body { font: 15px/1.45 system-ui, sans-serif; margin: 0; color: #1f2933; } a { color: #0b6aa2; text-decoration: none; }
h1, h2, h3, h4, h5, .h6 { font-size: 1em; font-weight: 600; margin: .6em 0 .3em; } .lead { color: #5b6672; }
.top { padding: 14px 24px; border-bottom: 1px solid #d8dee4; font-weight: 600; }
.container-fluid { padding: 16px 24px; } .row { display: flex; flex-wrap: wrap; gap: 0 24px; }
.row > .col-lg-2 { flex: 0 0 220px; } .row > .col-lg-10 { flex: 1; min-width: 0; } .row > .col-12 { flex: 0 0 100%; }
.card { border: 1px solid #d8dee4; border-radius: 6px; margin-bottom: 16px; } .card-body { padding: 8px 12px; }
.card-header { padding: 8px 12px; background: #f5f7f9; } .nav { list-style: none; padding: 0; margin: 0; }
table { border-collapse: collapse; } th, td { padding: 6px 10px; text-align: left; vertical-align: top; }
th, td { border-top: 1px solid #e4e8ec; } td p, td div { margin: 0; }
.badge { padding: 1px 6px; border-radius: 4px; background: #e4e8ec; } i { font-style: normal; }
.text-success { color: #18794e; } .text-danger { color: #c4320a; } .text-warning { color: #ad5700; }
.fa-check-circle::before { content: "\\2714"; } .fa-times::before { content: "\\2718"; }
.fa-exclamation-triangle::before { content: "\\26A0"; } .modal, a[data-toggle="collapse"] { display: none; }
.failed-only tr:has(> .hide-succeeded-validation-target-child) { display: none; }
</style>
<script>
function showAllValidations() { document.body.classList.remove("failed-only"); }
function hideSucceededValidations() { document.body.classList.add("failed-only"); }
</script>
</head>"""


def render_page(document: Mapping[str, Any], *, title: str, line: str, home: str) -> str:
    """The HTML of a stored validation result.

    Args:
        document: `Validation.document`.
        title: what was validated.
        line: the outcome in a few words.
        home: address of the index, relative to the page.
    """
    # Inside, so that gx_validator comes first and keeps Great Expectations from filling the log at import.
    from great_expectations.core.expectation_validation_result import expectationSuiteValidationResultSchema
    from great_expectations.render.renderer import ValidationResultsPageRenderer
    from great_expectations.render.view import DefaultJinjaPageView

    open_context()
    named = {"run_id": {"run_name": title}, "batch_kwargs": {"data_asset_name": title}}
    shown = {
        **document,
        "meta": {**document["meta"], **named},
        "results": [_readable(item) for item in document["results"]],
    }
    result = expectationSuiteValidationResultSchema.load(shown)
    page: str = DefaultJinjaPageView().render(ValidationResultsPageRenderer().render(result))
    for pattern in _TAKEN_OUT:
        page = pattern.sub("", page)
    told = html.escape(f"{title}: {line}")
    top = f'<div class="top"><a href="{html.escape(home)}">Data Docs</a> / {told}</div>'
    page = _SUITE_LINK.sub(r"\1", page).replace("</head>", _HEAD, 1)
    return _BODY.sub(lambda body: f"{body[0]}{top}", page, count=1)


def _readable(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """A result as the renderer can take it: it fails on distinct values, which have no share of all rows."""
    result = item.get("result", {})
    if "unexpected_percent" in result or not {"unexpected_count", "missing_count"} & result.keys():
        return item
    told = []
    for name, words in (("unexpected", "beyond the set"), ("missing", "missing from the column")):
        if f"{name}_count" in result:
            shown = ", ".join(map(str, result.get(f"partial_{name}_list") or []))
            told.append(f"{result[f'{name}_count']} values {words}{f': {shown}' if shown else ''}")
    return {**item, "result": {"observed_value": "; ".join(told)}}
