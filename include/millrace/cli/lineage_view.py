"""How the ways of lineage look in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from millrace.step.answer_lineage import AnswerLineage
from millrace.step.column_use import ColumnLineage, ReleaseUse, UseCaseUse
from millrace.step.prediction_lineage import PredictionLineage
from millrace.step.snapshot import SourcePartition

_DIGITS = 12


def show_prediction(console: Console, found: PredictionLineage) -> None:
    """A tree from the prediction to the files."""
    told = found.prediction
    tree = Tree(f"[bold]{escape(told.id)}[/] · {told.prediction:.6g}")
    tree.add(f"{told.role}, {told.partition}, for {told.event_timestamp}, scored {told.recorded_at}")
    for other in found.others:
        tree.add(f"also predicted: {escape(other)}")
    if found.release:
        _add_release(tree, found)
    if found.scored:
        branch = tree.add(f"scored {found.scored['table']}, version {found.scored['version']}")
        branch.add(_snapshot(found.row) if found.row else "the clean row is gone")
    if found.training:
        _add_training(tree, found)
    console.print(tree)
    _show_breaks(console, found.breaks)


def show_answer(console: Console, found: AnswerLineage) -> None:
    """A tree from an answer of the online service to the files."""
    told = "" if found.prediction is None else f" · {found.prediction:.6g}"
    tree = Tree(f"[bold]{escape(found.id)}[/]{told}")
    tree.add(f"answered {found.answered_at}")
    for note in found.notes:
        tree.add(escape(note))
    for other in found.others:
        tree.add(f"also kept of the answer: {escape(other)}")
    if found.columns:
        seen = tree.add("the model saw")
        for name, value in found.columns.items():
            seen.add(f"{escape(name)}: {'missing' if value is None else escape(str(value))}")
    for view in found.views:
        branch = tree.add(f"view {view['view']}, as of {view['as_of'] or 'never: it is empty'}")
        if "table" in view:
            branch.add(f"{view['table']}, {view['partition'] or '(whole)'}, version {view['version']}")
            clean = ", ".join(f"{source} version {version}" for source, version in view["clean"].items())
            branch.add(f"computed from clean {clean}" if clean else "what it was computed from is not noted")
    if found.deployed:
        by = f"deployed by {escape(found.deployed['actor'])} in entry {found.deployed['entry']}"
        tree.add(f"{by}, {found.deployed['recorded_at']}")
    if found.release:
        _add_release(tree, found)
    if found.training:
        _add_training(tree, found)
    console.print(tree)
    _show_breaks(console, found.breaks)


def _show_breaks(console: Console, breaks: Sequence[str]) -> None:
    for fault in breaks:
        console.print(f"[bold red]broken[/]: {escape(fault)}")
    if not breaks:
        console.print("[green]whole[/]: every link is there and matches")


def show_column(console: Console, found: ColumnLineage) -> None:
    """A tree from the column to predictions."""
    clean = found.clean
    tree = Tree(f"[bold]{clean.domain}.{clean.source}.{clean.column}[/], {clean.first} to {clean.last}")
    rows = tree.add(f"clean rows, as {', '.join(clean.columns) or 'nothing: clean-up drops it'}")
    for item in clean.partitions:
        rows.add(_snapshot(item))
    if not clean.partitions:
        rows.add("none of these days")
    for use in clean.features:
        branch = tree.add(f"feature table {use.table}, through {', '.join(use.through)}")
        branch.add(", ".join(use.features))
        branch.add(f"partitions {_short(use.partitions)}")
    for use_case in found.use_cases:
        _add_use_case(tree, use_case)
    if found.end:
        tree.add(f"[bold]{found.end}[/]")
    console.print(tree)


def _add_release(tree: Tree, found: PredictionLineage | AnswerLineage) -> None:
    release = found.release
    by = f", by {release['actor']} in ledger entry {release['entry']}" if "entry" in release else ""
    branch = tree.add(f"release {release['version']} ({escape(release['candidate'])}){escape(by)}")
    branch.add(f"in force from {release['effective_at']}, feature service {release['feature_service']}")
    for item in found.approvals:
        comment = f": {item['comment']}" if item["comment"] else ""
        branch.add(f"approved by {escape(item['name'])} in entry {item['entry']}{escape(comment)}")
    evidence = found.evidence
    proof = branch.add(f"evidence {evidence['digest'][:_DIGITS]}, policy {evidence['policy'][:_DIGITS]}")
    if "metric" in evidence:
        measured = evidence.get("measured_on", release["holdout"])
        proof.add(f"{evidence['metric']['name']} {_interval(evidence['metric'])} on {measured}")
        if evidence["gain"].get("value") is not None:
            proof.add(f"gain over the champion {_interval(evidence['gain'])}")
    if "gates" in evidence:
        proof.add("gates: " + ", ".join(f"{name} {outcome}" for name, outcome in sorted(evidence["gates"].items())))
    if evidence["card"]:
        proof.add(escape(evidence["card"]))


def _add_training(tree: Tree, found: PredictionLineage | AnswerLineage) -> None:
    told = found.training
    branch = tree.add(f"package {told['package'][:_DIGITS]} ({escape(told['trainer'])})")
    if known := told.get("imported"):
        branch.add(f"trained elsewhere: {escape(known['source'])}")
        branch.add(f"{known['format']} file, sha256 {known['sha256'][:_DIGITS]}")
        through = known["trained_through"]
        branch.add(f"learned from rows through {through}, by declaration" if through else "its rows nobody declared")
    if "rows" in told:
        branch.add(f"{told['rows']:,} training rows of {_short(told['partitions'])}")
        version = f" version {told['version']}" if "version" in told else ""
        branch.add(f"{told['table']}{version}, labels known by {told['known_until']}")
    if "commit" in told:
        commit = told["commit"][:_DIGITS] or "no commit"
        branch.add(f"commit {commit} ({told['tree']}), recipe {told['recipe'][:_DIGITS]}")
    for source, items in groupby(found.sources, key=lambda item: item.source):
        _add_source(branch.add(f"source {source}"), list(items))


def _add_source(branch: Tree, items: Sequence[SourcePartition]) -> None:
    for item in items:
        branch.add(_snapshot(item, places=False))
    for place in dict.fromkeys(place for item in items for place in item.places):
        branch.add(f"from {escape(place)}")


def _snapshot(item: SourcePartition, *, places: bool = True) -> str:
    raw = f", of raw version {item.raw.version} ({item.raw.rows:,})" if item.raw else ", its raw rows are not noted"
    told = f"{item.partition or '(whole)'}: {item.clean.rows:,} clean rows, version {item.clean.version}{raw}"
    return told + (f", from {escape(', '.join(item.places))}" if places and item.places else "")


def _add_use_case(tree: Tree, use: UseCaseUse) -> None:
    branch = tree.add(f"[bold]{use.use_case}[/], feature service {use.service}")
    if use.verdict:
        branch.add(f"of its own row: [bold]{use.verdict}[/]")
    for title, names in (("of the row", use.row), ("features", use.features), ("label", use.label)):
        if names:
            branch.add(f"{title}: {', '.join(names)}")
    if use.training_partitions:
        branch.add(f"training rows of {_short(use.training_partitions)} in {use.training_set}")
    for release in use.releases:
        _add_release_use(branch, release)


def _add_release_use(branch: Tree, release: ReleaseUse) -> None:
    serving = ", serving" if release.in_force else ""
    leaf = branch.add(f"release {release.version}{serving}, on {release.service}")
    if release.fault:
        leaf.add(f"[bold red]{escape(release.fault)}[/]")
    if release.trained_on:
        leaf.add(f"trained on {_short(release.trained_on)}")
    if release.evaluated_on:
        leaf.add(f"evaluated on {release.evaluated_on}")
    for (role, inputs), items in groupby(
        sorted(release.predictions, key=lambda item: (item.role, not item.inputs, item.partition)),
        key=lambda item: (item.role, item.inputs),
    ):
        found = list(items)
        why = "features and model" if inputs and release.trained_on else "features" if inputs else "model alone"
        rows = sum(item.rows for item in found)
        leaf.add(f"{rows:,} {role} predictions, {_short([item.partition for item in found])} ({why})")


def _short(keys: Iterable[str]) -> str:
    named = [key or "(whole)" for key in keys]
    if not named:
        return "none"
    return ", ".join(named) if len(named) <= 4 else f"{named[0]} … {named[-1]} ({len(named)})"


def _interval(figures: dict[str, Any]) -> str:
    if figures.get("value") is None:
        return "undefined"
    bounds = f" ({figures['low']:.4f} to {figures['high']:.4f})" if figures.get("low") is not None else ""
    return f"{figures['value']:.4f}{bounds}"
