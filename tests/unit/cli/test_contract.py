from __future__ import annotations

from pathlib import Path

import orjson
import pyarrow as pa
import pytest
import yaml

from millrace.cli import main
from millrace.lake import Table

DOMAIN = """
name: shop
description: d
owners: [a]
first: "2020-01"
feature_tables: {}
sources:
  sales:
    uri: x_{partition}.csv
    columns: {id: int64, kind: string}
    key: [id]
"""


@pytest.fixture(autouse=True)
def installation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    (tmp_path / "dags" / "domains").mkdir(parents=True)
    (tmp_path / "dags" / "domains" / "shop.yaml").write_text(DOMAIN)
    monkeypatch.setenv("MILLRACE_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("MILLRACE_DAGS", str(tmp_path / "dags"))
    month = pa.table({"id": pa.array(range(300), pa.int64()), "kind": ["A", "B", "C"] * 100})
    for key in ("2020-01", "2020-02"):
        Table(str(tmp_path / "var" / "lake"), "shop/clean/sales").replace(month, partition=key)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    monkeypatch.setattr("sys.argv", ["millrace", "contract", "suggest", *argv])
    with pytest.raises(SystemExit) as caught:
        main.app()
    return int(caught.value.code or 0)


def test_the_suggestion_is_yaml_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "shop.sales", "--from", "2020-01", "--to", "2020-01") == 0
    told = capsys.readouterr().out
    assert "suggested from 300 clean rows" in told
    document = yaml.safe_load(told)
    assert set(document) == {"max_quarantined_share", "contract", "history"}


def test_the_suggestion_goes_into_a_file_and_figures_into_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    target = tmp_path / "contract.yaml"
    assert run(monkeypatch, "shop.sales", "--out", str(target), "--json") == 0
    document = orjson.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["output"] == str(target)
    assert document["expectations"] == len(yaml.safe_load(target.read_text())["contract"])


def test_a_dataset_without_a_source_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "shop") == 2
    assert "flights.weather" in capsys.readouterr().err


def test_no_rows_is_a_sentence(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "shop.sales", "--from", "2021-01") == 1
    assert capsys.readouterr().err.startswith("LakeError no row of shop.sales from 2021-01")


def test_a_source_that_one_domain_has_needs_no_domain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], installation: Path
) -> None:
    assert run(monkeypatch, "sales", "--json") == 0
    assert orjson.loads(capsys.readouterr().out.splitlines()[-1])["dataset"] == "shop.sales"
    assert run(monkeypatch, "seals") == 2
    other = DOMAIN.replace("name: shop", "name: mall")
    (installation / "dags" / "domains" / "mall.yaml").write_text(other)
    assert run(monkeypatch, "sales") == 2
    assert "mall.sales" in capsys.readouterr().err
