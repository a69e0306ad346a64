"""What needs no service: `clean` and `down` on nothing, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from millrace.errors import ServiceError, SettingsError
from millrace.local import stack
from millrace.local.airflow_client import AirflowClient
from millrace.local.layout import Layout
from millrace.local.prepare import Installation


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


class _Broken:
    def __init__(self, *traces: str) -> None:
        self.traces = traces

    def import_errors(self) -> list[dict[str, str]]:
        return [{"filename": f"{number}.py", "stack_trace": trace} for number, trace in enumerate(self.traces)]


def test_a_dag_file_that_does_not_import_is_told_in_its_own_words() -> None:
    trace = (
        'Traceback (most recent call last):\n  File "/x/dags/flights.py", line 5, in <module>\n'
        "millrace.errors.SpecError: unknown key 'sorces'\n  where: /x/flights.yaml\n  remedy: did you mean 'sources'?\n"
    )
    with pytest.raises(ServiceError) as caught:
        stack.raise_import_error(cast("AirflowClient", _Broken(trace, trace)), ["flights_data"])
    told = str(caught.value)
    assert told.startswith("Airflow does not know flights_data: millrace.errors.SpecError: unknown key 'sorces'\n")
    assert "did you mean 'sources'?" in told
    assert "0.py, and 1 more files" in caught.value.where
    assert "Traceback" not in told


def test_where_every_file_imports_there_is_nothing_to_tell() -> None:
    stack.raise_import_error(cast("AirflowClient", _Broken()), ["flights_data"])


def test_only_users_that_are_set_are_other_ones_than_those_it_runs_with(tmp_path: Path) -> None:
    runs = Installation(environment={}, addresses={}, users={"admin": "admin"}, ports={}, moved={})
    stack._refuse_other_users(runs, {})
    with pytest.raises(SettingsError, match="it runs already"):
        stack._refuse_other_users(runs, {"MILLRACE_USERS": "anna:op"})


def test_a_story_is_told_by_one_at_a_time(tmp_path: Path) -> None:
    layout = _layout(tmp_path)
    layout.create()
    with (
        stack.only_story(layout),
        pytest.raises(ServiceError, match="another `millrace demo`") as caught,
        stack.only_story(layout),
    ):
        pass
    assert "MILLRACE_VAR" in caught.value.remedy
    with stack.only_story(layout):
        pass
