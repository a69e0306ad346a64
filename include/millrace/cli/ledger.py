"""`millrace ledger`: is the record whole, what does it say, what served when, and a copy to keep elsewhere."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from zoneinfo import ZoneInfo

import orjson
import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from millrace.artifact import canonical, iso
from millrace.document import write_atomically
from millrace.errors import SpecError
from millrace.settings import Settings

if TYPE_CHECKING:
    from millrace.governance.provenance import Provenance

app = typer.Typer(help="The record of every decision: check it, read it, export it.", no_args_is_help=True)
_console = Console()
_WIDE = 110
"""Columns from which a table of decisions also says when each was written."""
_DIGEST = re.compile(r"^[0-9a-f]{64}$")
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]
_UseCase = Annotated[str | None, typer.Option("--use-case", help="Only this use case.")]


@app.command()
def verify(
    expected_head: Annotated[
        str | None, typer.Option("--expected-head", help="A head kept elsewhere; it must still be in the chain.")
    ] = None,
    as_json: _AsJson = False,
) -> None:
    """Check every entry against its hash and its predecessor. Exit status 1 where the record is broken."""
    from millrace.governance.ledger import Ledger

    report = Ledger(Settings.load()).verify(expected_head)
    if as_json:
        _print_json(report.to_dict())
    elif report.broken is None:
        _console.print(f"[green]whole[/]: {report.entries} entries, head {report.head}", soft_wrap=True)
    else:
        _console.print(f"[bold red]broken[/] at entry {report.broken.seq}:", end=" ")
        _console.print(report.broken.reason, markup=False)
        _console.print(f"{report.entries} entries; sound up to head {report.head}", soft_wrap=True)
    if not report.verified:
        raise typer.Exit(1)


@app.command()
def show(
    use_case: _UseCase = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only this kind, such as released.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="The newest so many.")] = 50,
    as_json: _AsJson = False,
) -> None:
    """List decisions, the newest last."""
    from millrace.governance.ledger import KINDS, Ledger

    ledger = Ledger(Settings.load())
    if kind:
        _require_known("kind of entry", kind, KINDS)
    if use_case:
        _require_known("use case", use_case, ledger.use_cases())
    entries = ledger.entries(use_case, kinds=(kind,) if kind else (), newest=limit)
    if as_json:
        _print_json([entry.to_dict() for entry in entries])
        return
    wide = _console.width >= _WIDE
    table = Table(title=f"{len(entries)} decisions", box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("#", "effective", "kind", *(() if use_case else ("use case",)), "subject", "by"):
        table.add_column(name, no_wrap=name in {"#", "effective", "kind"}, overflow="fold")
    if wide:
        table.add_column("recorded", no_wrap=True)
    for entry in entries:
        table.add_row(
            str(entry.seq),
            entry.effective_at.strftime("%Y-%m-%d"),
            entry.kind,
            *(() if use_case else (entry.use_case,)),
            Text(entry.subject[:12] if _DIGEST.match(entry.subject) else entry.subject),
            Text(entry.actor),
            *((entry.recorded_at.strftime("%Y-%m-%d %H:%M"),) if wide else ()),
        )
    _console.print(table)


@app.command()
def entry(
    number: Annotated[int, typer.Argument(min=1, help="Its number, as `show` lists it.")],
    as_json: _AsJson = False,
) -> None:
    """Show one decision with all that was written, once the record is as it was written."""
    from millrace.governance.audit import require_whole
    from millrace.governance.ledger import Ledger
    from millrace.governance.state import reading

    settings = Settings.load()
    with reading(settings) as connection:
        require_whole(connection)
        found = Ledger(settings).get(number, connection=connection)
    if as_json:
        _print_json(found.to_dict())
        return
    plain = found.to_dict()
    _print_pairs(
        escape(f"entry {number}: {found.kind}"),
        {**{name: value for name, value in plain.items() if name not in {"seq", "kind", "payload"}}, **found.payload},
    )


@app.command("as-of")
def as_of(
    at: Annotated[
        str,
        typer.Argument(help="Date (its end in the domain's time zone), or ISO instant (UTC unless it says so)."),
    ],
    use_case: Annotated[str, typer.Option("--use-case", help="The use case.")],
    recorded: Annotated[bool, typer.Option("--recorded", help="By wall time instead of data time.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Say what served at an instant, who approved it, on what evidence, and whether all of that still holds."""
    from millrace.governance.ledger import Ledger
    from millrace.governance.provenance import as_of as look_up

    settings = Settings.load()
    moment = _instant(at, use_case, settings)
    _require_known("use case", use_case, Ledger(settings).use_cases())
    found = look_up(use_case, moment, settings=settings, recorded=recorded)
    if as_json:
        _print_json({"use_case": use_case, "at": iso(moment), **found.to_dict()})
        return
    if found.release is None:
        _console.print(f"Nothing of {use_case} was released as of {iso(moment)}.", markup=False)
        return
    _print_pairs(escape(f"{use_case} as of {iso(moment)}"), _rows(found))
    if found.fault:
        _console.print(f"[bold red]not proven[/]: {escape(found.fault)}")


@app.command()
def export(
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else standard output.")] = None,
    as_json: _AsJson = False,
) -> None:
    """Write all entries as JSON lines. Keep the last line's hash elsewhere: `verify --expected-head` asks for it."""
    from millrace.governance.chain import GENESIS
    from millrace.governance.ledger import Ledger

    entries = list(Ledger(Settings.load()).export())
    count, head = len(entries), entries[-1]["hash"] if entries else GENESIS
    content = b"".join(canonical(entry) + b"\n" for entry in entries)
    if output:
        write_atomically(output, content)
    else:
        print(content.decode(), end="")
    if as_json:
        _print_json({"entries": count, "head": head, "output": str(output) if output else None})
    elif output:
        _console.print(f"{count} entries in {output}, head {head}", soft_wrap=True, markup=False)


@app.command()
def migrate(as_json: _AsJson = False) -> None:
    """Bring the state database to the tables of this version; repeating it changes nothing."""
    from millrace.governance.migration import migrate as bring_up

    revision = bring_up(Settings.load())
    if as_json:
        _print_json({"revision": revision})
    else:
        _console.print(f"the state database is at revision {revision}")


def _rows(found: Provenance) -> dict[str, object]:
    """What served, who allowed it and on what evidence, as lines of a table."""
    release, move, verdict = found.release, found.move, found.verdict
    if release is None or move is None:
        return {}
    approved = [
        f"{item.actor} ({item.payload['comment']})" if item.payload.get("comment") else item.actor
        for item in found.approvals
    ]
    reason = f": {move.payload['reason']}" if move.payload.get("reason") else ""
    return {
        "release": f"{release.version} ({', '.join(dict.fromkeys([release.candidate, release.trainer]))})",
        "first in force": release.effective_at,
        "in force by": f"#{move.seq} {move.kind} by {move.actor}{reason}",
        "trained through": f"{release.trained_through}, held out {release.holdout}",
        "approved by": ", ".join(approved) or "nobody",
        "gates": "unknown" if verdict is None else f"#{verdict.seq} {verdict.payload['outcome']}",
        "evidence": release.evidence,
        "model card": found.card or "gone",
        "policy": release.policy,
        "package": release.package,
        "decided in": ", ".join(f"#{item.seq} {item.kind}" for item in found.entries),
        "proof": "whole" if not found.fault else "broken",
    }


def _print_pairs(title: str, pairs: Mapping[str, object]) -> None:
    table = Table("", "", title=title, show_header=False, box=box.SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    table.columns[1].overflow = "fold"
    for name, value in pairs.items():
        shown = value if isinstance(value, str | int | float | Path) else canonical(value).decode()
        table.add_row(name, Text(str(shown)))
    _console.print(table)


def _instant(text: str, use_case: str, settings: Settings) -> datetime:
    """The instant that a text means: of a bare date the last moment of that day, where the use case's data lives."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    try:
        if day is not None:
            zone = _zone_of(use_case, settings)
            return datetime.combine(day, time.max, tzinfo=zone).astimezone(UTC)
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{text!r} is no date or ISO instant, such as 2013-09-15") from error


def _zone_of(use_case: str, settings: Settings) -> tzinfo:
    """Time zone of the use case's domain; UTC where its file is gone, as that of a use case given up may be."""
    from millrace.spec import load_domain, load_use_case

    try:
        return ZoneInfo(load_domain(settings.dags, load_use_case(settings.dags, use_case).domain).timezone)
    except SpecError:
        return UTC


def _require_known(what: str, name: str, known: Sequence[str]) -> None:
    """A name that the ledger does not know is a slip, not an answer of nothing."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(known) or 'no entry yet'}"
        raise typer.BadParameter(f"the ledger knows no {what} {name!r}; {hint}")


def _print_json(document: object) -> None:
    print(orjson.dumps(document).decode())
