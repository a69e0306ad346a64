"""`millrace features`: what there is, whose it is, where it comes from, who uses it; applying, building, browsing."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from millrace.cli import feature_view as view
from millrace.errors import SettingsError
from millrace.settings import Settings

app = typer.Typer(help="Features: find them, see where they come from, apply and build them.", no_args_is_help=True)
_console = Console()
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]
_Name = Annotated[
    str,
    typer.Argument(
        help="A feature, feature table, on-demand view or service, as NAME, TABLE.FEATURE or DOMAIN.TABLE.FEATURE; or "
        "a source's column, as SOURCE.COLUMN or DOMAIN.SOURCE.COLUMN."
    ),
]
_Domain = Annotated[str | None, typer.Option("--domain", help="Only this domain.")]


@app.command()
def apply(
    domain: Annotated[str | None, typer.Argument(help="The domain; else every one.")] = None,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Apply without asking.")] = False,
    plan_only: Annotated[bool, typer.Option("--plan", help="Show what would change, and stop.")] = False,
    as_json: _AsJson = False,
) -> None:
    """Show what would change in the feature registry, ask, apply, and read it back. Exit status 1 where refused."""
    from millrace.cli.actor import acting_person
    from millrace.governance.requester import SYSTEM
    from millrace.spec import list_specs, load_domain
    from millrace.step.feature_registry import apply_domain, plan_features

    if as_json and not (yes or plan_only):
        raise typer.BadParameter("with --json nobody can be asked: give --yes or --plan")
    settings = Settings.load()
    told: list[dict[str, Any]] = []
    refused = False
    for name in [domain] if domain else list_specs(settings.dags, "domains"):
        spec = load_domain(settings.dags, name)
        plan = plan_features(spec, settings=settings)
        if not as_json:
            view.show_plan(_console, name, plan)
        if plan.refused or plan_only:
            refused = refused or bool(plan.refused)
            told.append({"domain": name, **plan.to_dict(), "applied": False})
            continue
        who = acting_person(settings) if plan.changes else SYSTEM
        if plan.changes and not yes:
            typer.confirm("Apply?", abort=True)
        report = apply_domain(spec, settings=settings, actor=who, expected=plan.digest)
        told.append({**report.to_dict(), "applied": bool(report.verified)})
        if not as_json:
            view.show_applied(_console, report)
    if as_json:
        _print_json({"refused": refused, "domains": told})
    if refused:
        raise typer.Exit(1)


@app.command("list")
def list_features(
    text: Annotated[str | None, typer.Argument(help="Only where this stands in name, text, tag or owner.")] = None,
    *,
    domain: _Domain = None,
    tag: Annotated[str | None, typer.Option("--tag", help="Only with this tag: KEY (any value) or KEY=VALUE.")] = None,
    as_json: _AsJson = False,
) -> None:
    """List features by table: type, who owns them, how fresh they are, and which services use them."""
    from millrace.step import feature_description as step
    from millrace.step.feature_catalog import Catalog

    rows = step.list_features(Catalog.load(Settings.load()), domain=domain, tag=tag, text=text)
    if as_json:
        _print_json(rows)
    else:
        view.show_list(_console, rows)


@app.command()
def describe(name: _Name, as_json: _AsJson = False) -> None:
    """Say all there is to know: owner, meaning, source columns, freshness, how the values lie, releases that use it."""
    from millrace.step import feature_description as step
    from millrace.step.feature_catalog import Catalog

    found = step.describe(Catalog.load(Settings.load()), name)
    if as_json:
        _print_json(found)
    elif found["kind"] == "column":
        view.show_lineage(_console, found)
    else:
        view.show_description(_console, found)


@app.command()
def lineage(name: _Name, as_json: _AsJson = False) -> None:
    """Show where a feature comes from and which services and releases use it; of SOURCE.COLUMN, who would be hit."""
    from millrace.step import feature_description as step
    from millrace.step.feature_catalog import Catalog

    found = step.lineage(Catalog.load(Settings.load()), name)
    if as_json:
        _print_json(found)
    else:
        view.show_lineage(_console, found)


@app.command()
def build(
    domain: Annotated[str, typer.Argument(help="The domain.")],
    *,
    first: Annotated[str, typer.Option("--from", help="First partition, such as 2013-01 or 2013-01-15.")],
    last: Annotated[str | None, typer.Option("--to", help="Last partition; by default the first alone.")] = None,
    as_json: _AsJson = False,
) -> None:
    """Compute the feature tables of partitions from their clean rows; what is unchanged is not computed again."""
    from millrace.spec import load_domain
    from millrace.step.features import backfill_features

    settings = Settings.load()
    spec = load_domain(settings.dags, domain)
    keys = [item.key for item in spec.partition(first).until(spec.partition(last or first))]
    if not keys:
        raise typer.BadParameter(f"{last} lies before {first}")
    refs = backfill_features(spec, keys, settings=settings)
    if as_json:
        _print_json([ref.to_dict() for ref in refs])
        return
    for ref in refs:
        done = f"{ref.rows} rows" if ref.changed else "unchanged"
        _console.print(f"{ref.partition or '(whole)'}  {ref.table}: {done}", markup=False, soft_wrap=True)


@app.command()
def ui(
    port: Annotated[int, typer.Option("--port", help="Port on this machine.")] = 8888,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Start Feast's own web page on the feature registry, which it only shows; it ends with Ctrl-C."""
    from millrace.features.feast_page import serve_page
    from millrace.features.feast_registry import open_store

    store = open_store(Settings.load())
    _console.print(f"http://{host}:{port}/", soft_wrap=True)
    try:
        serve_page(store, host=host, port=port)
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"Feast's page needs the Python module {error.name!r}",
            where="this environment",
            remedy="`make install` brings it; else install feast[grpcio]",
        ) from error


def _print_json(document: object) -> None:
    print(orjson.dumps(document).decode())
