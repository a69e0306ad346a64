"""`millrace lineage`: from one prediction back to its files, and from a column forward to what rests on it."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import orjson
import typer
from rich.console import Console

from millrace.settings import Settings

app = typer.Typer(help="Where a prediction comes from, and what rests on a column.", no_args_is_help=True)
_console = Console()
_AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")]


@app.command()
def prediction(
    name: Annotated[
        str, typer.Argument(help="Key of the row, the id USE_CASE/RELEASE/KEY, or `prediction_id` of an online answer.")
    ],
    *,
    use_case: Annotated[str | None, typer.Option("--use-case", help="Where several use cases predict the row.")] = None,
    release: Annotated[int | None, typer.Option("--release", help="Of this release.")] = None,
    role: Annotated[str | None, typer.Option("--role", help="`live` or `shadow`.")] = None,
    as_json: _AsJson = False,
) -> None:
    """Walk back from a prediction to release, approval, evidence, training rows, and the files these were read from.

    Of an online answer that was not sampled it says which release gave it, and when. Exit status 1 where a link is
    missing or does not match.
    """
    from millrace.cli.lineage_view import show_answer, show_prediction
    from millrace.serving.answer_id import AnswerId
    from millrace.step.answer_lineage import trace_answer
    from millrace.step.prediction_lineage import trace_prediction

    if (asked := AnswerId.parse(name)) is not None:
        answer = trace_answer(name, asked, settings=Settings.load())
        if as_json:
            print(orjson.dumps(answer.to_dict()).decode())
        else:
            show_answer(_console, answer)
        if answer.breaks:
            raise typer.Exit(1)
        return
    found = trace_prediction(name, settings=Settings.load(), use_case=use_case, release=release, role=role)
    if as_json:
        print(orjson.dumps(found.to_dict()).decode())
    else:
        show_prediction(_console, found)
    if found.breaks:
        raise typer.Exit(1)


@app.command()
def column(
    name: Annotated[str, typer.Argument(help="SOURCE.COLUMN, or DOMAIN.SOURCE.COLUMN.")],
    *,
    first: Annotated[str, typer.Option("--from", help="First day, such as 2013-03-01.")],
    last: Annotated[str | None, typer.Option("--to", help="Last day; by default the first alone.")] = None,
    as_json: _AsJson = False,
) -> None:
    """Walk forward from a column's values of some days to features, training rows, releases and predictions."""
    from millrace.cli.lineage_view import show_column
    from millrace.step.column_use import trace_column

    found = trace_column(name, _day(first), _day(last or first), settings=Settings.load())
    if as_json:
        print(orjson.dumps(found.to_dict()).decode())
    else:
        show_column(_console, found)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date such as 2013-03-01") from error
