"""The page on skew that people look at: each feature, how often it differed, and on which rows."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from millrace.document import write_atomically
from millrace.monitoring.skew import FeatureSkew, SkewReport

_TEMPLATES = Path(__file__).parent / "template"


def write_page(path: Path, report: SkewReport, columns: Sequence[FeatureSkew]) -> None:
    """Write the page of a report; equal reports give equal bytes.

    Args:
        path: the HTML file.
        report: the partition's.
        columns: the skew of each feature, the worst first.
    """
    values = {"r": report, "columns": columns, "percent": _percent}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, _environment().get_template("skew.html.j2").render(values).encode())


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


@functools.cache
def _environment() -> Any:
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
    )
