"""`millrace ingest`: one partition of one source, from its source to its clean rows."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from millrace.settings import Settings

_console = Console()


def ingest(
    dataset: Annotated[str, typer.Argument(metavar="DOMAIN.SOURCE", help="Such as flights.weather.")],
    partition: Annotated[str, typer.Argument(help="Key of the partition, such as 2013-07 or 2013-07-14.")],
    validate: Annotated[bool, typer.Option(help="Also judge the rows and publish the clean ones.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")] = False,
) -> None:
    """Ingest one partition, and validate it: what the tasks of the data DAG do. Unchanged input commits nothing."""
    from millrace.cli.actor import acting_person
    from millrace.spec import load_domain
    from millrace.step.ingestion import ingest_partition
    from millrace.step.stale import stale_features
    from millrace.step.validation import validate_partition

    name, _, source = dataset.partition(".")
    if not source:
        raise typer.BadParameter(f"{dataset!r} is no dataset, such as flights.weather", param_hint="DOMAIN.SOURCE")
    settings = Settings.load()
    domain = load_domain(settings.dags, name)
    key = domain.partition(partition).key
    if key < domain.first or (domain.last is not None and key > domain.last):
        told = f"{name} has partitions from {domain.first}{f' to {domain.last}' if domain.last else ' on'}"
        raise typer.BadParameter(f"{key} is none of the domain's: {told}", param_hint="PARTITION")
    who = acting_person(settings)
    report = ingest_partition(domain, source, partition, settings=settings, by=who)
    document: dict[str, Any] = {"ingested": report.to_dict(), "validated": None, "recompute": []}
    lines = [report.line]
    if validate:
        found = validate_partition(domain, source, partition, settings=settings)
        changed = [found.partition] if found.clean.changed else []
        stale = stale_features(domain, changed, settings=settings) if changed else []
        document |= {"validated": found.to_dict(), "recompute": stale}
        lines += found.verdict.reasons
        if stale:
            lines.append(f"Run the DAG {name}_data for: {', '.join(stale)} to compute what rests on these rows again")
    if as_json:
        print(orjson.dumps(document).decode())
        return
    for line in lines:
        _console.print(line, markup=False, soft_wrap=True)
