"""`millrace rebuild`: train a released model again from its recipe, and say how far it is the same."""

from __future__ import annotations

from typing import Annotated

import orjson
import typer
from rich.console import Console

from millrace.settings import Settings

_console = Console()


def rebuild(
    use_case: Annotated[str, typer.Argument(help="The use case.")],
    *,
    version: Annotated[int, typer.Option("--version", help="The release.")],
    verify: Annotated[
        bool, typer.Option("--verify", help="Exit with 1 where neither bytes, predictions nor metrics are the same.")
    ] = False,
    on: Annotated[
        str, typer.Option("--on", help="Train the same recipe on newer data, with this partition kept back.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document as the last line.")] = False,
) -> None:
    """Restore code, libraries, rows and parameters of a release, train, and compare with what was released.

    The code comes from the recorded commit, the libraries from the recorded pins, the rows from the recorded snapshot.
    """
    from millrace.step.rebuild import rebuild_release

    if verify and on:
        raise typer.BadParameter("--verify compares with the release; on newer data there is nothing to compare")
    done = rebuild_release(use_case, version, settings=Settings.load(), on=on)
    if as_json:
        print(orjson.dumps({**done.to_dict(), "verified": done.verified}).decode())
    else:
        _console.print(f"release {version} of {use_case} ({done.candidate}), package {done.recorded}", soft_wrap=True)
        _console.print(f"rebuilt as package {done.package} in {done.seconds:.1f} s", soft_wrap=True)
        _console.print(f"  code: {done.commit or 'as it runs here'}", soft_wrap=True)
        _console.print(f"  libraries: {done.libraries}", soft_wrap=True)
        for note in done.notes:
            _console.print(f"  mind: {note}", markup=False, soft_wrap=True)
        for name, value in done.metrics.items():
            _console.print(f"  {name} on {done.holdout}: {value:.6g}", soft_wrap=True)
        if done.comparison is not None:
            _say(done.comparison)
    if verify and not done.verified:
        raise typer.Exit(1)


def _say(found: object) -> None:
    from millrace.step.rebuild_comparison import Comparison

    assert isinstance(found, Comparison)
    said = {
        "bytes": "the same bytes",
        "predictions": f"other bytes, the same predictions of {found.rows} rows (to {found.prediction_gap:.2g})",
        "metrics": f"other predictions (up to {found.prediction_gap:.2g} apart), the same {found.metric}",
        "none": "not the same",
    }[found.level]
    style = "bold red" if found.level == "none" else "bold green"
    _console.print(f"[{style}]{said}[/]", soft_wrap=True)
    if found.metrics:
        _console.print(f"  {found.metric}: {found.metrics['recorded']:.6g} then, {found.metrics['rebuilt']:.6g} now")
    if found.differing:
        _console.print(f"  files that differ: {', '.join(found.differing)}", markup=False, soft_wrap=True)
    if found.why:
        _console.print(f"  {found.why}", markup=False, soft_wrap=True)
