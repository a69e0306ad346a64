"""Source columns of features: of the flights as anybody reads them off the SQL, and of plans that hide columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from millrace.features.lineage import source_columns
from millrace.features.transformation import Transformation, read_transformation
from millrace.spec import DomainSpec, FeatureTableSpec

FOLDER = Path(__file__).resolve().parents[3] / "dags" / "domains"


def columns(domain: DomainSpec, sql: str, **more: Any) -> dict[str, list[str]]:
    spec = FeatureTableSpec(
        sql="x.sql", entities=["carrier"], features={"f": "float64"}, tags={"a": "b"}, description="d"
    )
    table = spec.model_copy(update=more)
    return source_columns(domain, Transformation(table=table, text=sql))["f"]


def test_columns_of_the_flights_tables_are_those_their_sql_reads(domain: DomainSpec) -> None:
    found = source_columns(domain, read_transformation(domain, "carrier_delays", FOLDER))
    assert found["carrier_late_share_1d"] == {"flights": ["arr_delay", "carrier", "known_at"]}
    weather = source_columns(domain, read_transformation(domain, "origin_weather", FOLDER))
    assert "temp" in weather["temp"]["weather"]
    assert "dewp" not in weather["temp"]["weather"]
    planes = source_columns(domain, read_transformation(domain, "planes", FOLDER))
    assert planes["plane_seats"] == {"planes": ["seats"]}


@pytest.mark.parametrize(
    ("sql", "wanted"),
    [
        ("SELECT carrier, distance AS f FROM flights", ["distance"]),
        ("SELECT carrier, distance AS f FROM flights WHERE air_time > 3", ["air_time", "distance"]),
        ("SELECT carrier, sum(distance) AS f FROM flights GROUP BY carrier", ["carrier", "distance"]),
        (
            "WITH a AS (SELECT * FROM flights) SELECT x AS f FROM (SELECT *, distance + hour AS x FROM a)",
            ["distance", "hour"],
        ),
        (
            "SELECT avg(distance) OVER (PARTITION BY dest ORDER BY known_at) AS f FROM flights",
            ["dest", "distance", "known_at"],
        ),
    ],
)
def test_values_filters_groups_and_windows_count_and_what_is_not_used_does_not(
    domain: DomainSpec, sql: str, wanted: list[str]
) -> None:
    assert columns(domain, sql) == {"flights": wanted}


def test_a_join_reads_of_both_sources(domain: DomainSpec) -> None:
    sql = "SELECT f.carrier, w.temp AS f FROM flights f JOIN weather w ON f.origin = w.origin AND w.time_hour = $start"
    assert columns(domain, sql) == {"flights": ["origin"], "weather": ["origin", "temp", "time_hour"]}


def test_of_a_function_all_columns_of_its_sources_count(domain: DomainSpec) -> None:
    found = columns(domain, "def f(): ...", function="x.py:f", sources=["planes"])
    assert found == {"planes": list(domain.sources["planes"].clean_columns)}
