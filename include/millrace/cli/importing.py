"""`millrace import`: a model that was trained elsewhere, checked here and handed to its DAG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from millrace.settings import Settings

_console = Console()


def import_(
    use_case: Annotated[str, typer.Argument(help="The use case.")],
    source: Annotated[
        str, typer.Argument(help="Model file, folder of an MLflow model, or an address such as models:/name/3.")
    ],
    *,
    signature: Annotated[Path, typer.Option("--signature", help="Its declared signature, YAML or JSON.")],
    holdout: Annotated[
        str, typer.Option("--holdout", help="Partition it is measured on; by default the last of the training set.")
    ] = "",
    check: Annotated[bool, typer.Option("--check", help="Look whether it fits, and start nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")] = False,
) -> None:
    """Hold a model against the use case's features, then start `<use case>_import`: gates, approval and release.

    It is proven on rows of the use case first. Airflow runs the rest in your name, so you may not approve it.
    """
    from millrace.cli.actor import acting_person
    from millrace.spec import load_domain, load_use_case
    from millrace.step.import_source import load_import
    from millrace.step.importing import import_model, newest_training_set

    settings = Settings.load()
    spec = load_use_case(settings.dags, use_case)
    domain, declared = load_domain(settings.dags, spec.domain), load_import(source, signature)
    who = "" if check else acting_person(settings)
    where = str(Path(source).resolve()) if Path(source).exists() else source
    training_set = newest_training_set(spec, domain, holdout, settings=settings)
    done = import_model(spec, domain, where, declared, training_set, settings=settings, logged=False)
    run = "" if check else _start(use_case, where, declared, done.model.holdout, settings=settings)
    if as_json:
        found = {"model": done.model.to_dict(), "notes": done.notes, "gap": done.gap, "run": run, "by": who}
        print(orjson.dumps(found).decode())
        return
    _console.print(f"{declared.name}: fits {spec.features.name}, package {done.model.digest}", soft_wrap=True)
    if done.gap is not None:
        _console.print(f"  its examples are predicted as declared, to {done.gap:.2g}", soft_wrap=True)
    for note in done.notes:
        _console.print(f"  mind: {note}", markup=False, soft_wrap=True)
    if run:
        _console.print(f"{who} started {use_case}_import, run {run}, holdout {done.model.holdout}", soft_wrap=True)


def _start(use_case: str, source: str, declared: Any, holdout: str, *, settings: Settings) -> str:
    """Trigger the DAG in the name of who runs this; the run's id."""
    from millrace.cli.actor import ask, bearer, detail_of
    from millrace.errors import ServiceError

    conf = {"source": source, "signature": declared.model_dump(mode="json", exclude_unset=True), "holdout": holdout}
    path = f"/api/v2/dags/{use_case}_import/dagRuns"
    answer = ask(settings, "POST", path, headers=bearer(settings), json={"logical_date": None, "conf": conf})
    if not answer.is_success:
        raise ServiceError(
            f"Airflow does not start {use_case}_import: {detail_of(answer)}",
            where=f"{settings.airflow_url}{path}",
            remedy="add `import_dag` to the DAG file of the use case, and see that your user may trigger it",
        )
    return str(answer.json()["dag_run_id"])
