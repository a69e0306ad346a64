from __future__ import annotations

import json
from pathlib import Path

import pytest

from millrace.errors import SettingsError
from millrace.local.layout import Layout
from millrace.local.openlineage import VARIABLE, openlineage_options


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(root=tmp_path, var=tmp_path / "var", dags=tmp_path / "dags")


def test_events_are_lines_of_a_file_by_default(layout: Layout) -> None:
    transport = json.loads(str(openlineage_options(layout, {})["transport"]))
    assert transport == {"type": "file", "log_file_path": str(layout.lineage), "append": True}


def test_any_transport_of_the_client_may_be_named(layout: Layout) -> None:
    text = '{"type": "http", "url": "http://localhost:5000"}'
    assert openlineage_options(layout, {VARIABLE: text})["transport"] == text


def test_a_file_of_openlineage_s_own_is_handed_on(layout: Layout, tmp_path: Path) -> None:
    file = tmp_path / "openlineage.yml"
    file.write_text("transport: {type: console}\n")
    options = openlineage_options(layout, {VARIABLE: str(file)})
    assert options["config_path"] == str(file)
    assert "transport" not in options


def test_lineage_can_be_switched_off(layout: Layout) -> None:
    assert openlineage_options(layout, {VARIABLE: "off"})["disabled"] is True


@pytest.mark.parametrize("text", ['{"type": ', "{}", '{"type": 3}', "http://localhost:5000", "openlineage.yml"])
def test_what_is_neither_is_refused_with_the_form_it_has(layout: Layout, text: str) -> None:
    with pytest.raises(SettingsError, match=r'(?s)MILLRACE_OPENLINEAGE.*"type": "http"'):
        openlineage_options(layout, {VARIABLE: text})
