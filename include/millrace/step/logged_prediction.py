"""One prediction in the log, found by the key of its row or by its whole id."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.artifact import PlainValue, iso
from millrace.errors import LineageError
from millrace.lake import Table
from millrace.monitoring.prediction_log import LIVE
from millrace.settings import Settings
from millrace.spec import UseCaseSpec, list_specs, load_use_case


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedPrediction(PlainValue):
    """A row of the prediction log.

    Attributes:
        use_case: its use case.
        key: key of the row that it is about.
        partition: key of the partition.
        event_timestamp: ISO instant of the prediction in data time.
        release: version of the release that gave it.
        package: digest of its package.
        role: `live` or `shadow`.
        prediction: what was predicted; of several classes the place of the most probable one.
        feature_snapshot: digest of the features that were scored.
        recorded_at: ISO instant at which it was scored.
    """

    use_case: str
    key: str
    partition: str
    event_timestamp: str
    release: int
    package: str
    role: str
    prediction: float
    feature_snapshot: str
    recorded_at: str

    @property
    def id(self) -> str:
        """Use case, release and key: what names it."""
        return f"{self.use_case}/{self.release}/{self.key}"


def find_prediction(
    name: str,
    *,
    settings: Settings,
    use_case: str | None = None,
    release: int | None = None,
    role: str | None = None,
) -> tuple[UseCaseSpec, list[LoggedPrediction]]:
    """All that was predicted for a row by one use case: what counts first, then the rest.

    Live comes before shadow, and earlier scores before later ones, since the first score of a row counts.

    Args:
        name: key of the row, or `<use case>/<release>/<key>`.
        settings: this installation.
        use_case: whose prediction; by default every use case is asked.
        release: only of this release.
        role: only in this role.

    Raises:
        LineageError: there is none, or several use cases predicted the row.
    """
    specs = {item: load_use_case(settings.dags, item) for item in list_specs(settings.dags, "use_cases")}
    if use_case is not None and use_case not in specs:
        raise LineageError(
            f"no use case {use_case!r}", where=str(settings.dags / "use_cases"), remedy=f"one of {', '.join(specs)}"
        )
    use_case, release, key = _parts(name, specs, use_case, release)
    asked = [specs[use_case]] if use_case else list(specs.values())
    found = {spec.name: rows for spec in asked if (rows := _rows(spec, key, settings))}
    if len(found) > 1:
        raise LineageError(
            f"row {key!r} was predicted by {' and '.join(found)}",
            where="prediction log",
            remedy=f"name one: --use-case {next(iter(found))}",
        )
    rows = [row for rows in found.values() for row in rows]
    chosen = [row for row in rows if release in {None, row.release} and role in {None, row.role}]
    if not chosen:
        raise _absent(key, asked, rows, release, role)
    return specs[chosen[0].use_case], [*chosen, *(row for row in rows if row not in chosen)]


def _parts(
    name: str, specs: Mapping[str, UseCaseSpec], use_case: str | None, release: int | None
) -> tuple[str | None, int | None, str]:
    """Use case, release and key that an id names; anything else is a key."""
    first, _, rest = name.partition("/")
    number, _, key = rest.partition("/")
    if first in specs and number.isascii() and number.isdigit() and key and use_case in {None, first}:
        return first, int(number) if release is None else release, key
    return use_case, release, name


def _rows(use_case: UseCaseSpec, key: str, settings: Settings) -> list[LoggedPrediction]:
    import pyarrow.dataset as ds

    table = Table(settings.lake, use_case.table("predictions"))
    if not table.exists():
        return []
    names = [item.name for item in dataclasses.fields(LoggedPrediction) if item.name != "use_case"]
    rows = table.open().to_pyarrow_dataset().to_table(columns=names, filter=ds.field("key") == key)
    found = sorted(
        rows.to_pylist(), key=lambda row: (row["role"] != LIVE, row["recorded_at"], row["release"], row["package"])
    )
    return [_prediction(use_case.name, row) for row in found]


def _prediction(use_case: str, row: dict[str, Any]) -> LoggedPrediction:
    instants = {name: iso(row[name]) for name in ("event_timestamp", "recorded_at")}
    return LoggedPrediction(use_case=use_case, **{**row, **instants})


def _absent(
    key: str, asked: Sequence[UseCaseSpec], rows: Sequence[LoggedPrediction], release: int | None, role: str | None
) -> LineageError:
    where = "prediction log of " + ", ".join(spec.name for spec in asked)
    if not rows:
        return LineageError(
            f"no prediction for row {key!r}",
            where=where,
            remedy="give the row's key as it stands in the log's column `key`; rows answered online are not in it",
        )
    wanted = " ".join([*([f"release {release}"] if release is not None else []), *([role] if role else [])])
    there = ", ".join(f"{row.id} ({row.role})" for row in rows)
    return LineageError(f"no prediction of {wanted} for row {key!r}", where=where, remedy=f"there are: {there}")
