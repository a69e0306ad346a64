"""How plans, features and their lineage look in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table as Grid
from rich.tree import Tree

if TYPE_CHECKING:
    from millrace.features.plan import Change, Plan
    from millrace.step.feature_registry import ApplyReport

_SIGNS = {"add": "[green]+ add[/]", "change": "[yellow]~ change[/]", "remove": "[red]- remove[/]"}
_COLOURS = {"fresh": "green", "stale": "red", "never": "yellow"}
_LINES = 12
"""How many lines of a difference are shown."""
_MEASURED = (
    "fresh, stale: the online store against the end of the domain's last partition that is over, not against now"
)
_KINDS = {"table": "feature table", "on_demand": "on-demand view", "service": "feature service"}


def show_plan(console: Console, domain: str, plan: Plan) -> None:
    """Every change with its difference, and what forbids it."""
    if not plan.changes:
        console.print(f"{domain}: nothing to change.")
        return
    console.print(f"[bold]{domain}[/]: {len(plan.changes)} change{'s' if len(plan.changes) > 1 else ''}")
    for change in plan.changes:
        console.print(f"{_SIGNS[change.action]} {escape(change.title)}{_size(change)}")
        if change.action == "change":
            _show_differences(console, change)
        if change.note:
            console.print(f"    {escape(change.note)}")
        if change.refusal:
            console.print(f"    [bold red]refused[/]: {escape(change.refusal)}")
            console.print(f"    remedy: {escape(change.remedy)}")


def show_applied(console: Console, report: ApplyReport) -> None:
    """What was done."""
    if report.repaired:
        console.print(f"Not in the registry as declared, so written anew: {', '.join(report.repaired)}.", markup=False)
    if report.verified:
        console.print(f"Applied as revision {report.revision}; {report.verified} objects read back as declared.")


def show_list(console: Console, rows: list[dict[str, Any]]) -> None:
    """Features by table."""
    if not rows:
        console.print("No feature is like that.")
    elif any(row["freshness"] for row in rows):
        console.print(_MEASURED, style="dim")
    for (domain, name), features in groupby(rows, key=lambda row: (row["domain"], row["view"])):
        of_view = list(features)
        first = of_view[0]
        fresh = f" · {_verdict(first['freshness'])}" if first["freshness"] else ""
        status = "" if first["status"] == "applied" else f" · [yellow]{first['status']}[/]"
        console.print(f"[bold]{domain}.{name}[/] · {escape(', '.join(first['owners']))}{fresh}{status}")
        console.print(escape(first["description"]), style="dim")
        grid = Grid("feature", "type", "used by", box=None, pad_edge=False, padding=(0, 2, 0, 2))
        for row in of_view:
            grid.add_row(row["feature"], row["type"], _users(row))
        console.print(grid)
        console.print()


def show_description(console: Console, found: Mapping[str, Any]) -> None:
    """A table of facts, then the features."""
    title = ".".join(part for part in (found.get("domain"), found["name"], found.get("feature")) if part)
    grid = Grid(title=f"{_KINDS[found['kind']]} {title}", show_header=False, title_justify="left")
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in _facts(found).items():
        if value:
            grid.add_row(name, value)
    console.print(grid)
    features = found["features"]
    if found["kind"] == "table" and any("values" in feature for feature in features):
        _show_values(console, features)
        return
    names = ["feature", "type", *(["from"] if found["kind"] == "service" else [])]
    plain = Grid(*names, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for feature in features:
        plain.add_row(feature["name"], feature["type"], *([feature["view"]] if "view" in feature else []))
    console.print(plain)


def show_lineage(console: Console, found: Mapping[str, Any]) -> None:
    """A tree: from where, and who uses it."""
    tree = Tree(f"[bold]{escape(found['name'])}[/]")
    if found["from"]:
        origins = tree.add("from")
        for name, origin in found["from"].items():
            if isinstance(origin, Mapping):
                branch = origins.add(escape(name))
                for source, columns in origin.items():
                    branch.add(f"{escape(source)}: {escape(', '.join(columns))}")
            else:
                origins.add(f"{escape(name)}: {escape(', '.join(origin))}")
    if found["kind"] == "column":
        for feature, services in found["features"].items():
            _add_users(tree.add(escape(feature)), services)
        if not found["features"]:
            tree.add("no feature is computed from it")
    else:
        _add_users(tree.add("used by" if found["used_by"] else "used by nobody"), found["used_by"])
    console.print(tree)


def _size(change: Change) -> str:
    names = [item.field.removeprefix("features.") for item in change.differences if item.field.startswith("features.")]
    return f" ({len(names)} feature{'s' if len(names) > 1 else ''})" if change.action == "add" and names else ""


def _show_differences(console: Console, change: Change) -> None:
    for item in change.differences:
        lines = [line for line in item.lines() if not line.startswith("@@")]
        if len(lines) <= 2:
            console.print(f"    {item.field}: {item.before or '(none)'} → {item.after or '(none)'}", markup=False)
            continue
        console.print(f"    {item.field}:", markup=False)
        for line in lines[:_LINES]:
            console.print(f"      {line}", markup=False, highlight=False)
        if len(lines) > _LINES:
            console.print(f"      … {len(lines) - _LINES} more lines")


def _facts(found: Mapping[str, Any]) -> dict[str, str]:
    fresh = found.get("freshness") or {}
    facts = {
        "means": escape(found.get("description", "")),
        "owners": escape(", ".join(found.get("owners", []))),
        "tags": escape(", ".join(f"{key}={value}" for key, value in found.get("tags", {}).items())),
        "use case": escape(found.get("use_case", "")),
        "computed by": escape(found.get("origin", "")),
        "computed from": escape("; ".join(_sources(found["features"]))),
        "by key": ", ".join(found.get("entities", [])),
        "usable for": f"{found['ttl_hours']} h" if found.get("ttl_hours") else "",
        "registry": found["status"],
        "online": f"{_verdict(fresh['verdict'])}: {escape(fresh['sentence'])}" if fresh else "",
        "lake": _lake(found),
    }
    if found["kind"] == "service":
        facts["releases"] = escape(", ".join(found["used_by"][found["name"]])) or "none"
    else:
        users = "; ".join(_told(name, releases) for name, releases in found["used_by"].items())
        facts["used by"] = escape(users) or "nobody"
    for name, features in found.get("inputs", {}).items():
        facts[f"reads {name}"] = escape(", ".join(features))
    if found.get("request"):
        facts["reads request"] = escape(", ".join(found["request"]))
    return facts


def _sources(features: list[dict[str, Any]]) -> Iterator[str]:
    """Source with the columns that any of the features is computed from."""
    read: dict[str, set[str]] = {}
    for feature in features:
        for source, columns in feature.get("columns", {}).items():
            read.setdefault(source, set()).update(columns)
    for source, columns in read.items():
        yield f"{source}: {', '.join(sorted(columns)) if len(columns) <= 12 else f'{len(columns)} columns'}"


def _lake(found: Mapping[str, Any]) -> str:
    if "partitions" not in found:
        return ""
    if not found["partitions"]:
        return "not built yet"
    newest = f", newest {found['newest']}" if found["newest"] else ""
    return f"{found['rows']:,} rows in {found['partitions']} partitions{newest}"


def _show_values(console: Console, features: list[dict[str, Any]]) -> None:
    grid = Grid("feature", "newest values", "1 % … median … 99 %", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    grid.columns[0].overflow = "fold"
    grid.columns[1].no_wrap = True
    for feature in features:
        measured = feature.get("distribution") or {}
        grid.add_row(feature["name"], measured.get("line", ""), escape(feature.get("values", "")))
    console.print(grid)


def _add_users(branch: Tree, services: Mapping[str, list[str]]) -> None:
    for service, releases in services.items():
        leaf = branch.add(f"service {escape(service)}")
        for release in releases or ["no release"]:
            leaf.add(escape(release if release == "no release" else f"release {release}"))


def _told(service: str, releases: list[str]) -> str:
    return f"{service} ({', '.join(releases) if releases else 'no release'})"


def _users(row: Mapping[str, Any]) -> str:
    count = len(row["releases"])
    released = f" ({count} release{'s' if count > 1 else ''})" if count else ""
    return escape(", ".join(row["services"]) + released)


def _verdict(verdict: str) -> str:
    colour = _COLOURS.get(verdict)
    return f"[{colour}]{verdict}[/]" if colour else verdict
