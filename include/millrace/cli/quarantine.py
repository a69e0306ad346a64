"""`millrace quarantine`: what is set aside, why, and since when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid

from millrace.artifact import canonical, iso
from millrace.errors import SpecError
from millrace.settings import Settings

app = typer.Typer(
    help="Rows set aside: count them, look at one. `millrace replay` brings them back.", no_args_is_help=True
)
_console = Console()
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]
_STATUSES = ("open", "closed", "all", "waived", "corrected", "revalidated", "superseded", "dismissed")
_Domain = Annotated[str, typer.Argument(help="The domain.")]


@app.command("list")
def list_rows(
    domain: _Domain,
    *,
    source: Annotated[str | None, typer.Option("--source", help="Only this source.")] = None,
    partition: Annotated[str | None, typer.Option("--partition", help="Only this partition.")] = None,
    reason: Annotated[str | None, typer.Option("--reason", help="Only rows set aside for this.")] = None,
    status: Annotated[str, typer.Option("--status", help="open, closed, all, or such as waived.")] = "open",
    ids: Annotated[bool, typer.Option("--ids", help="Also list the ids of the rows.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Count the rows set aside, by source, partition and reason. A row with two reasons counts for each."""
    if status not in _STATUSES:
        raise typer.BadParameter(f"{status!r} is none of {', '.join(_STATUSES)}")
    _require_reason(domain, source, reason)
    counts: Counter[tuple[str, str, str, str]] = Counter()
    found: list[dict[str, str]] = []
    rows = 0
    for name, entry in _entries(domain, source, partition):
        told = list(dict.fromkeys(str(item["expectation"]) for item in orjson.loads(entry["reasons"])))
        state = entry["resolution"] or entry["status"]
        if status not in ("all", entry["status"], state) or (reason is not None and reason not in told):
            continue
        rows += 1
        place = {"source": name, "partition": entry["partition"], "status": state}
        found.append({"row_id": entry["row_id"], **place, "reasons": ", ".join(told)})
        counts.update((name, entry["partition"], why, state) for why in told)
    names = ("source", "partition", "reason", "status")
    groups = [{**dict(zip(names, group, strict=True)), "rows": counts[group]} for group in sorted(counts)]
    if as_json:
        document: dict[str, Any] = {"rows": rows, "groups": groups}
        print(orjson.dumps({**document, **({"ids": found} if ids else {})}).decode())
        return
    chosen = "" if status == "all" else f" ({status})"
    grid = Grid(*names, "rows", title=f"{rows} rows in the quarantine of {domain}{chosen}")
    grid.columns[2].overflow = "fold"
    for group in groups:
        grid.add_row(*(escape(str(group[name]) or "(whole)") for name in (*names, "rows")))
    _console.print(grid)
    for row in found if ids else []:
        _console.print(
            f"{row['row_id']}  {row['source']} {row['partition']} {row['status']}  {row['reasons']}", soft_wrap=True
        )


@app.command()
def show(
    domain: _Domain,
    source: Annotated[str, typer.Argument(help="The source.")],
    row_id: Annotated[str, typer.Argument(help="Id of the row, or its first signs.")],
    *,
    partition: Annotated[
        str | None, typer.Option("--partition", help="Only this partition: equal records of several have one id.")
    ] = None,
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Decrypt a record of a source with personal columns; give --because.")
    ] = False,
    because: Annotated[str, typer.Option("--because", help="Why it is looked at.")] = "",
    as_json: _AsJson = False,
) -> None:
    """Show one row as it came, why it was set aside, and what became of it. Personal values are tokens.

    With --reveal the text of a record that could not be read is decrypted, for an owner of the domain; who looked,
    and why, stands in the ledger.
    """
    matching = [entry for _, entry in _entries(domain, source, partition) if str(entry["row_id"]).startswith(row_id)]
    if len(matching) != 1:
        raise SpecError(
            f"no quarantined row {row_id!r}" if not matching else f"{len(matching)} rows begin with {row_id!r}",
            where=f"quarantine of {domain}/{source}",
            remedy=f"see `millrace quarantine list {domain} --source {source} --ids`; equal ones: --partition",
        )
    (entry,) = matching
    if reveal:
        entry["raw"] = _disclosed(domain, source, entry, because)
    for name in ("first_seen", "resolved_at"):
        entry[name] = None if entry[name] is None else iso(entry[name])
    if as_json:
        print(canonical({**entry, "reasons": orjson.loads(entry["reasons"])}).decode())
        return
    grid = Grid("", "", title=entry["row_id"], show_header=False)
    grid.columns[1].overflow = "fold"
    for name, value in entry.items():
        if value not in (None, "") and name not in ("row_id", "reasons"):
            grid.add_row(name, escape(str(value)))
    for item in orjson.loads(entry["reasons"]):
        seen = orjson.dumps(item["value"]).decode()
        about = f"{item['column']} = {seen}" if item["column"] else str(item["value"])
        grid.add_row("reason", escape(f"{item['expectation']}: {about}"))
    _console.print(grid)


def _disclosed(domain: str, source: str, entry: dict[str, Any], because: str) -> str:
    from millrace.cli.actor import acting_person
    from millrace.spec import load_domain
    from millrace.step.disclosure import disclose

    settings = Settings.load()
    who = acting_person(settings)
    return disclose(load_domain(settings.dags, domain), source, entry, settings=settings, by=who, reason=because)


def _entries(domain: str, source: str | None, partition: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """The entries of a domain's sources, one partition in memory at a time."""
    from millrace.spec import load_domain
    from millrace.step.place import list_places
    from millrace.step.source import source_of
    from millrace.validation.quarantine import read_quarantine

    settings = Settings.load()
    spec = load_domain(settings.dags, domain)
    names = list(spec.sources)
    if source is not None:
        source_of(spec, source)
        names = [source]
    for name in names:
        for place in list_places(spec, name, settings=settings, partitions=None if partition is None else [partition]):
            for entry in read_quarantine(place.quarantine, place.key)[2].to_pylist():
                yield name, {**entry, "partition": place.key}


def _require_reason(domain: str, source: str | None, reason: str | None) -> None:
    """Refuse a reason that no row of the sources looked at is set aside for, or can be."""
    from millrace.spec import load_domain
    from millrace.step.meant import require_reasons
    from millrace.step.place import list_places
    from millrace.step.source import source_of

    if reason is None:
        return
    settings = Settings.load()
    spec = load_domain(settings.dags, domain)
    names = list(spec.sources) if source is None else [source]
    places = [place for name in names for place in list_places(spec, name, settings=settings)]
    require_reasons([source_of(spec, name) for name in names], places, [reason])
