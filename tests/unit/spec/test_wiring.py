from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.shop import make_domain

from millrace.spec.wiring import find_doubled, find_unwatched

WIRED = """
from millrace_airflow.groups import DomainDags
shop = DomainDags("shop")
with shop.arrivals():
    shop.request_partitions(shop.find_arrivals())
"""


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (WIRED, 0),
        (WIRED.replace('("shop")', '(name="shop")'), 0),
        (WIRED.replace('("shop")', "(each)"), 0),
        (WIRED.replace("arrivals():", "data():"), 1),
        (WIRED.replace('"shop"', '"other"'), 1),
        ("this is no Python", 1),
        (None, 1),
    ],
)
def test_a_source_that_watches_is_told_where_no_dag_file_does(tmp_path: Path, text: str | None, found: int) -> None:
    if text is not None:
        (tmp_path / "shop.py").write_text(text)
    faults = find_unwatched(tmp_path, make_domain(tmp_path / "orders.csv", watch=True))
    assert len(faults) == found
    assert all("arrivals()" in str(fault) and "orders" in str(fault) for fault in faults)
    assert find_unwatched(tmp_path, make_domain(tmp_path / "orders.csv")) == []


RIDES = """
from millrace_airflow.groups import UseCaseDags
rides = UseCaseDags("rides")
with rides.train_dag():
    pass
"""


@pytest.mark.parametrize(
    "other",
    [
        RIDES.replace("rides =", "mine =").replace("with rides", "with mine"),
        'with UseCaseDags(name="rides").train_dag(): pass',
        'from airflow.sdk import DAG\nwith DAG(dag_id="rides_train"): pass',
        'import airflow.sdk as sdk\nmine = sdk.DAG("rides_train", schedule=None)',
    ],
)
def test_two_files_that_make_one_dag_are_both_named(tmp_path: Path, other: str) -> None:
    (tmp_path / "rides.py").write_text(RIDES)
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "copy.py").write_text(other)
    [fault] = find_doubled(tmp_path)
    assert "'rides_train'" in fault.what
    assert "rides.py, line 4" in fault.what
    assert "more/copy.py, line" in fault.what


@pytest.mark.parametrize(
    "other", [RIDES.replace("train_dag", "score_dag"), RIDES.replace('"rides"', '"trips"'), "no Python at all", None]
)
def test_files_that_share_no_dag_are_right(tmp_path: Path, other: str | None) -> None:
    (tmp_path / "rides.py").write_text(RIDES)
    if other is not None:
        (tmp_path / "other.py").write_text(other)
    assert find_doubled(tmp_path) == []


def test_the_dag_files_of_the_checkout_share_no_dag() -> None:
    assert find_doubled(Path(__file__).parents[3] / "dags") == []
