"""`millrace contract`: a starting contract out of past partitions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer
from rich.console import Console

from millrace.settings import Settings

app = typer.Typer(name="contract", help="What rows of a source must satisfy.", no_args_is_help=True)
_console = Console(stderr=True)


@app.callback()
def _contract() -> None:
    """Keep `suggest` a sub-command, though it is the only one."""


@app.command()
def suggest(
    dataset: Annotated[
        str,
        typer.Argument(metavar="[DOMAIN.]SOURCE", help="Such as flights.weather; or weather, where one domain has it."),
    ],
    first: Annotated[str | None, typer.Option("--from", help="First partition to look at; else all.")] = None,
    last: Annotated[str | None, typer.Option("--to", help="Last partition to look at.")] = None,
    output: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; else standard output.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")] = False,
) -> None:
    """Profile past partitions and write a contract to start from; a person edits it."""
    from millrace.spec import load_domain
    from millrace.step.contract import suggest_contract

    settings = Settings.load()
    domain, source = _dataset(dataset, settings)
    found = suggest_contract(load_domain(settings.dags, domain), source, settings=settings, first=first, last=last)
    text = found.to_yaml()
    if output is not None:
        output.write_text(text, encoding="utf-8")
        _console.print(f"{found.title}: {len(found.proposals)} expectations in {output}", soft_wrap=True, markup=False)
    elif not as_json:
        print(text, end="")
    if as_json:
        document = {
            "dataset": f"{domain}.{source}",
            "title": found.title,
            "expectations": len(found.proposals),
            "history": len(found.history),
            "max_quarantined_share": found.max_quarantined_share,
            "output": str(output) if output else None,
            "contract": None if output else text,
        }
        print(orjson.dumps(document).decode())


def _dataset(named: str, settings: Settings) -> tuple[str, str]:
    """Domain and source of a dataset that is named by both, or by its source alone."""
    from millrace.spec import list_specs, load_domain

    domain, _, source = named.rpartition(".")
    if domain and source:
        return domain, source
    having = [
        name for name in list_specs(settings.dags, "domains") if source in load_domain(settings.dags, name).sources
    ]
    if len(having) == 1:
        return having[0], source
    known = ", ".join(f"{name}.{source}" for name in having)
    told = f"stands in several domains: name one of {known}" if having else "is no source of a domain"
    raise typer.BadParameter(f"{named!r} {told}; write DOMAIN.SOURCE, such as flights.weather")
