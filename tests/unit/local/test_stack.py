"""What needs no service: `clean` and `down` on nothing, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from millrace.errors import SettingsError
from millrace.local import stack
from millrace.local.layout import Layout


def _layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, var=tmp_path / "var", dags=tmp_path / "dags")


def test_clean_removes_only_what_carries_the_marker(tmp_path: Path) -> None:
    layout = _layout(tmp_path)
    layout.var.mkdir()
    (layout.var / "thesis.tex").write_text("x")
    with pytest.raises(SettingsError, match="does not carry the marker"):
        stack.clean(layout)
    assert (layout.var / "thesis.tex").exists()


def test_clean_twice_is_fine(tmp_path: Path) -> None:
    layout = _layout(tmp_path)
    layout.create()
    assert stack.clean(layout)
    assert not layout.var.exists()
    assert not stack.clean(layout)


def test_down_without_anything_says_so(tmp_path: Path) -> None:
    layout = _layout(tmp_path)
    assert not stack.down(layout)
    layout.create()
    assert not stack.down(layout)
