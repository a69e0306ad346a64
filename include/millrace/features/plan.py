"""What applying would change, how each change reads, and which changes a release forbids.

A release stands on its feature service by name, and through it on feature tables and on-demand views. Their shape
never changes under it; what a feature table computes may change where every value it had stays as it was, which is
for the caller to prove.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from millrace.artifact import PlainValue, digest_of
from millrace.features.applied import Definition
from millrace.features.definition import ON_DEMAND, SERVICE, TABLE, split_subject, tables_read

Action = Literal["add", "change", "remove"]
IN_PLACE = "no release stands on it: changed in place"
"""Note of a change that may have given values another meaning."""
_TITLES = {TABLE: "feature table", ON_DEMAND: "on-demand view", SERVICE: "feature service"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference(PlainValue):
    """One thing that differs.

    Attributes:
        field: what, such as `features.temp` or `text`.
        before: what was applied, as text; "" for nothing.
        after: what is declared; "" for nothing.
    """

    field: str
    before: str
    after: str

    def lines(self) -> list[str]:
        """Unified lines for people: `- before`, `+ after`, and for texts only what is near a change."""
        before, after = self.before.splitlines(), self.after.splitlines()
        return list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change(PlainValue):
    """One definition that is added, changed or removed.

    Attributes:
        action: what happens to it.
        kind: `table`, `on_demand` or `service`.
        name: its name.
        differences: what differs.
        releases: releases that stand on it, such as `flight_delay 1`.
        prove: whether it may be done only where all values stay as they were.
        refusal: why it may not be done; "" where it may.
        remedy: what to do instead.
        note: what people should know of it.
    """

    action: Action
    kind: str
    name: str
    differences: list[Difference] = field(default_factory=list)
    releases: list[str] = field(default_factory=list)
    prove: bool = False
    refusal: str = ""
    remedy: str = ""
    note: str = ""

    @property
    def subject(self) -> str:
        """Key of its definition."""
        return f"{self.kind}:{self.name}"

    @property
    def title(self) -> str:
        """Kind and name for people."""
        return f"{_TITLES[self.kind]} {self.name}"

    def refused(self, why: str) -> Change:
        """The same change, refused for what releases rest on."""
        return replace(self, prove=False, refusal=why, remedy=self.remedy)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What applying would do.

    Attributes:
        changes: feature tables first, then on-demand views, then services; removals last.
        put: definitions to record, by subject.
        drop: subjects to forget.
    """

    changes: list[Change]
    put: dict[str, Definition]
    drop: list[str]

    @property
    def refused(self) -> list[Change]:
        """Changes that may not be done."""
        return [change for change in self.changes if change.refusal]

    @property
    def digest(self) -> str:
        """Digest of what would be recorded."""
        return digest_of([self.put, self.drop])

    def to_dict(self) -> dict[str, Any]:
        """JSON types only."""
        return {"digest": self.digest, "changes": [change.to_dict() for change in self.changes]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is in the registry, and what stands on it.

    Attributes:
        applied: definitions in the registry, of all domains, by subject.
        releases: feature service → releases that were made on it, such as `flight_delay 1`.
        in_force: those of them that serve now, live or as shadow.
    """

    applied: Mapping[str, Definition]
    releases: Mapping[str, list[str]] = field(default_factory=dict)
    in_force: Collection[str] = ()

    def releases_on(self, subject: str) -> list[str]:
        """Releases that stand on a definition, directly or through their service."""
        return [release for service in self._services_on(subject) for release in self.releases.get(service, [])]

    def services_on(self, subject: str, *, without: Collection[str] = ()) -> list[str]:
        """Services in the registry that read a feature table or on-demand view."""
        return [name for name in self._services_on(subject) if f"{SERVICE}:{name}" not in without]

    def _services_on(self, subject: str) -> Iterator[str]:
        kind, name = split_subject(subject)
        for key, definition in sorted(self.applied.items()):
            if not key.startswith(f"{SERVICE}:"):
                continue
            tables, computed = tables_read(definition["shape"], self.applied)
            read = {SERVICE: {split_subject(key)[1]}, TABLE: tables, ON_DEMAND: computed}[kind]
            if name in read:
                yield split_subject(key)[1]


def make_plan(domain: str, declared: Mapping[str, Definition], standing: Standing, *, complete: bool) -> Plan:
    """Compare what is declared with what was applied.

    Args:
        domain: name of the domain.
        declared: its definitions by subject.
        standing: what is in the registry, and the releases that stand on it.
        complete: whether all services of the domain are among the declared, so that one that is not may go.
    """
    known = standing.applied
    found = [
        _compare(subject, known.get(subject), after, standing, names={*known, *declared}, complete=complete)
        for subject, after in sorted(declared.items(), key=_order)
    ]
    kept = [change for change in found if change is not None]
    gone = list(_removals(domain, declared, standing, complete=complete))
    return Plan(
        changes=[*kept, *gone],
        put={change.subject: declared[change.subject] for change in kept},
        drop=[change.subject for change in gone if not change.refusal],
    )


def next_name(name: str, taken: Collection[str]) -> str:
    """The next version's name: `planes` → `planes_v2`, `flight_delay_v1` → `flight_delay_v2`; one that is not taken."""
    found = re.fullmatch(r"(.+)_v(\d+)", name)
    stem, number = (found[1], int(found[2])) if found else (name, 1)
    while True:
        number += 1
        if (candidate := f"{stem}_v{number}") not in taken:
            return candidate


def _compare(
    subject: str,
    before: Definition | None,
    after: Definition,
    standing: Standing,
    *,
    names: Collection[str],
    complete: bool,
) -> Change | None:
    kind, name = split_subject(subject)
    if before == after:
        return None
    if before is None:
        return Change(action="add", kind=kind, name=name, differences=list(_differences({}, after)))
    change = Change(
        action="change",
        kind=kind,
        name=name,
        differences=list(_differences(before, after)),
        releases=standing.releases_on(subject),
        remedy=_remedy(kind, name, names),
    )
    foreign = ""
    if before.get("domain", after["domain"]) != after["domain"]:
        foreign = f"it belongs to domain {before['domain']!r}: names are shared by all domains"
    elif kind == SERVICE and not complete and before["meta"].get("use_case") not in {None, after["meta"]["use_case"]}:
        foreign = f"it belongs to use case {before['meta']['use_case']!r}"
    if foreign:
        return change.refused(foreign)
    if all(before.get(part) == after[part] for part in ("domain", "shape", "features", "logic")):
        return replace(change, note="values stay as they are", remedy="")
    if not change.releases:
        return replace(change, note=IN_PLACE, remedy="")
    return _under_release(change, before, after)


def _under_release(change: Change, before: Definition, after: Definition) -> Change:
    on = f"{_listed(change.releases)} {'stand' if len(change.releases) > 1 else 'stands'} on it"
    if before["shape"] != after["shape"]:
        wrong = [name for name in after["shape"] if before["shape"].get(name) != after["shape"][name]]
        return change.refused(f"{on}, and {', '.join(wrong)} would change")
    if change.kind == SERVICE:  # the fields it reads are held by its tables' own rules
        return replace(change, note="its features stay as they are", remedy="")
    lost = [name for name, kind in before["features"].items() if after["features"].get(name) != kind]
    if lost:
        return change.refused(f"{on}, and {', '.join(lost)} would be removed or get another type")
    if before["logic"] == after["logic"]:
        return replace(change, note="the features it had stay as they are", remedy="")
    if change.kind != TABLE:
        return change.refused(f"{on}, and what it computes would change")
    return replace(change, prove=True)


def _removals(
    domain: str, declared: Mapping[str, Definition], standing: Standing, *, complete: bool
) -> Iterator[Change]:
    mine = {key: item for key, item in standing.applied.items() if item.get("domain") == domain and key not in declared}
    services = [key for key in sorted(mine) if key.startswith(f"{SERVICE}:")]
    going = [key for key in services if complete and not standing.releases_on(key)]
    for subject, before in sorted(mine.items(), key=_order, reverse=True):
        kind, name = split_subject(subject)
        change = Change(action="remove", kind=kind, name=name, differences=list(_differences(before, {})))
        if kind == SERVICE:
            if subject in going:
                yield change
            continue
        users = standing.services_on(subject, without=going)
        serving = [release for release in standing.releases_on(subject) if release in standing.in_force]
        if serving:
            yield replace(
                change,
                releases=serving,
                refusal=f"{_listed(serving)} is in force and reads it",
                remedy=f"keep it in domains/{domain}.yaml until a release that does not read it is in force",
            )
        elif not users:
            yield change


def _remedy(kind: str, name: str, subjects: Collection[str]) -> str:
    version = next_name(name, {split_subject(subject)[1] for subject in subjects})
    if kind == SERVICE:
        return f"name the changed service {version!r} (features.name): releases keep the old one"
    return f"declare the changed one as {version!r} beside the old one, and use it in the next version of the services"


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Difference]:
    old, new = _flat(before), _flat(after)
    for name in dict.fromkeys([*old, *new]):
        if old.get(name) != new.get(name):
            yield Difference(field=name, before=old.get(name, ""), after=new.get(name, ""))


def _flat(definition: Mapping[str, Any]) -> dict[str, str]:
    """Field → text; features and views one by one, so that a difference names the feature."""
    found: dict[str, str] = {}
    for part in ("meta", "shape", "logic"):
        for name, value in definition.get(part, {}).items():
            if isinstance(value, Mapping):
                found |= {f"{name}.{key}": _text(item) for key, item in value.items()}
            else:
                found[name] = _text(value)
    return found | {f"features.{name}": _text(kind) for name, kind in definition.get("features", {}).items()}


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _order(item: tuple[str, Definition]) -> tuple[int, str]:
    kind, name = split_subject(item[0])
    return list(_TITLES).index(kind), name


def _listed(releases: list[str]) -> str:
    shown = ", ".join(releases[:3]) + (f" and {len(releases) - 3} more" if len(releases) > 3 else "")
    return f"release{'s' if len(releases) > 1 else ''} {shown}"
