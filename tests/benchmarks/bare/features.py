"""Clean rows → feature tables → online store, and the as-of join of both training and scoring."""

from __future__ import annotations

import math
import sqlite3
from datetime import timedelta
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from tests.benchmarks.bare.data import write_delta
from tests.benchmarks.bare.spec import Json, Plan, load_function

_INSTANT = pa.timestamp("us", "UTC")


def connect() -> Any:
    """An in-memory DuckDB in UTC on two threads."""
    connection = duckdb.connect(":memory:", config={"threads": 2})
    connection.execute("SET TimeZone = 'UTC'")
    return connection


class Features:
    """Feature tables by name and month, and the online store."""

    def __init__(self, plan: Plan, connection: Any) -> None:
        self.plan, self.connection = plan, connection
        self.specs: dict[str, Json] = plan.domain["feature_tables"]
        folder = plan.dags / "domains"
        self.sql = {
            name: (folder / spec["sql"]).read_text(encoding="utf-8")
            for name, spec in self.specs.items()
            if "sql" in spec
        }
        self.functions = {
            name: load_function(folder, spec["function"]) for name, spec in self.specs.items() if "function" in spec
        }
        views = plan.domain.get("on_demand", {})
        used = plan.use_case["features"].get("on_demand", {})
        self.on_demand = {name: (views[name], load_function(folder, views[name]["function"])) for name in used}
        self.tables: dict[str, dict[str, pa.Table]] = {name: {} for name in self.specs}
        self.joined: dict[str, pa.Table] = {}
        self.online = sqlite3.connect(plan.out / "online.db", isolation_level=None)
        self.online.execute("PRAGMA journal_mode = WAL")
        for name, spec in self.specs.items():
            columns = ", ".join((*spec["entities"], "event_timestamp", *spec["features"]))
            key = ", ".join(spec["entities"])
            self.online.execute(f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({key})) WITHOUT ROWID")

    def build(self, month: str, clean: dict[str, dict[str, pa.Table]]) -> None:
        """All feature tables of a month, the static ones once."""
        for name, spec in self.specs.items():
            static = spec.get("static", False)
            if static and "" in self.tables[name]:
                continue
            reached = self.plan.before(month, spec.get("look_back_days", 0))
            read = {
                source: pa.concat_tables([months[""]] if "" in months else [months[key] for key in reached])
                for source, months in clean.items()
            }
            rows = self._rows(name, read, month)
            kinds = {"event_timestamp": _INSTANT, "known_at": _INSTANT, **dict.fromkeys(spec["features"], pa.float64())}
            rows = rows.select([*spec["entities"], *kinds])
            for position, (column, kind) in enumerate(kinds.items(), start=len(spec["entities"])):
                rows = rows.set_column(position, column, rows[column].cast(kind))
            key = "" if static else month
            self.tables[name][key] = rows.sort_by([(column, "ascending") for column in (*spec["entities"], "known_at")])
            write_delta(self.plan, f"features/{name}", self.tables[name][key], key)

    def _rows(self, name: str, read: dict[str, pa.Table], month: str) -> pa.Table:
        bounds = {side: getattr(self.plan.months[month], side) for side in ("start", "end")}
        if name in self.functions:
            return self.functions[name](read, bounds["start"], bounds["end"])
        for source, rows in read.items():
            self._register(source, rows)
        sql = self.sql[name]
        parameters = {side: moment.replace(tzinfo=None) for side, moment in bounds.items() if f"${side}" in sql}
        return self.connection.sql(sql, params=parameters).to_arrow_table()

    def materialize(self, month: str) -> None:
        """Newest row of each key that is known and not expired at the month's end into SQLite."""
        end = self.plan.months[month].end
        for name, spec in self.specs.items():
            key = ", ".join(spec["entities"])
            self.connection.register("offered", self.tables[name][self._key(name, month)])
            rows = self.connection.execute(
                f"SELECT {key}, epoch_us(event_timestamp), {', '.join(spec['features'])} FROM offered "
                f"WHERE known_at <= $end AND event_timestamp >= $oldest "
                f"QUALIFY row_number() OVER (PARTITION BY {key} ORDER BY event_timestamp DESC) = 1",
                {"end": end, "oldest": end - timedelta(hours=spec.get("ttl_hours") or 10**6)},
            ).fetchall()
            columns = [*spec["entities"], "event_timestamp", *spec["features"]]
            changed = ", ".join(f"{column} = excluded.{column}" for column in columns[len(spec["entities"]) :])
            self.online.execute("BEGIN")
            self.online.executemany(
                f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))}) ON CONFLICT ({key}) DO UPDATE SET "
                f"{changed} WHERE excluded.event_timestamp >= {name}.event_timestamp",
                rows,
            )
            self.online.execute("COMMIT")

    def join(self, month: str, clean: pa.Table) -> pa.Table:
        """Entity rows of a month with label and features as of their timestamp, by event_timestamp and key."""
        if month in self.joined:
            return self.joined[month]
        case = self.plan.use_case
        columns, joins = [], []
        looked_up = self._looked_up()
        for number, (name, wanted) in enumerate(looked_up.items()):
            spec, alias = self.specs[name], f"f{number}"
            months = [""] if spec.get("static") else self.plan.before(month, -(-spec["ttl_hours"] // 24))
            self.connection.register(f"view_{alias}", pa.concat_tables(self.tables[name][key] for key in months))
            keys = " AND ".join(f"e.{key} = {alias}.{key}" for key in spec["entities"])
            joins.append(f"ASOF LEFT JOIN view_{alias} {alias} ON {keys} AND e.event_timestamp >= {alias}.known_at")
            age = f"epoch_us(e.event_timestamp) - epoch_us({alias}.event_timestamp)"
            fresh = f"{age} <= {spec['ttl_hours'] * 3_600_000_000}" if spec.get("ttl_hours") else "TRUE"
            columns += [f"CASE WHEN {fresh} THEN {alias}.{feature} END AS {feature}" for feature in wanted]
        row = [
            f"CAST(e.{name} AS {'VARCHAR' if kind == 'category' else 'DOUBLE'}) AS {name}"
            for name, kind in {**self._asked(), **case["features"]["row"]}.items()
        ]
        self.connection.register("clean", clean)
        entity = case["entity"]
        rows = self.connection.sql(
            f"WITH e AS (SELECT *, {entity['key']} AS key, {entity['timestamp']} AS event_timestamp, "
            f"{case['label']['expression']} AS label, {case['label']['known_at']} AS label_known_at FROM clean) "
            f"SELECT e.key, e.event_timestamp, CAST(e.label AS DOUBLE) AS label, e.label_known_at, "
            f"{', '.join([*row, *columns])} FROM e {' '.join(joins)} ORDER BY e.event_timestamp, e.key"
        ).to_arrow_table()
        for spec, function in self.on_demand.values():
            names = [*(name for wanted in spec.get("inputs", {}).values() for name in wanted), *spec.get("request", {})]
            found = function({name: rows[name].cast(pa.float64()).fill_null(math.nan).to_numpy() for name in names})
            for name, values in found.items():
                rows = rows.append_column(name, pa.array(values, from_pandas=True))
        hidden = (set(self._asked()) | {name for names in looked_up.values() for name in names}) - set(
            self.plan.features
        )
        self.joined[month] = rows.drop_columns(sorted(hidden)).combine_chunks()
        return self.joined[month]

    def _looked_up(self) -> dict[str, list[str]]:
        """View → features: those of the model, then what functions read besides."""
        found = {name: list(wanted) for name, wanted in self.plan.use_case["features"]["views"].items()}
        for spec, _ in self.on_demand.values():
            for name, wanted in spec.get("inputs", {}).items():
                known = found.setdefault(name, [])
                known += [feature for feature in wanted if feature not in known]
        return found

    def _asked(self) -> dict[str, str]:
        """Columns of the entity row that functions read → their kind."""
        return {name: kind for spec, _ in self.on_demand.values() for name, kind in spec.get("request", {}).items()}

    def labelled(self, months: list[str], known_until: Any) -> pa.Table:
        """Training rows of months: those whose label was known by then."""
        rows = pa.concat_tables(self.joined[key] for key in months)
        known = pc.and_(
            pc.is_valid(rows["label"]), pc.less_equal(rows["label_known_at"], pa.scalar(known_until, _INSTANT))
        )
        return rows.filter(known)

    def _key(self, name: str, month: str) -> str:
        return "" if self.specs[name].get("static") else month

    def _register(self, source: str, rows: pa.Table) -> None:
        self.connection.register(f"rows_{source}", rows)
        instants = [field.name for field in rows.schema if pa.types.is_timestamp(field.type)]
        replaced = ", ".join(f"CAST({name} AS TIMESTAMP) AS {name}" for name in instants)
        star = f"* REPLACE ({replaced})" if replaced else "*"
        self.connection.execute(f"CREATE OR REPLACE TEMP VIEW {source} AS SELECT {star} FROM rows_{source}")
