"""What a domain says is known too late stays out of every use case's features, whatever the use case says."""

from __future__ import annotations

from millrace.errors import SpecError
from millrace.spec.domain import DomainSpec
from millrace.spec.use_case import UseCaseSpec


def find_leaks(use_case: UseCaseSpec, domain: DomainSpec) -> list[SpecError]:
    """Faults of a use case against the `known_late` of its entity's source; empty where there are none.

    A source that declares late columns also says when an outcome is known: the label's `known_at` must be one of them.
    """
    source = domain.sources.get(use_case.entity.source)
    if source is None or not source.known_late:
        return []
    faults = []
    where = f"use_cases/{use_case.name}.yaml"
    if leaked := sorted(set(use_case.features.row) & set(source.known_late)):
        faults.append(
            SpecError(
                f"features {leaked} are known too late: domain {domain.name!r} lists them in known_late",
                where=f"{where}: features.row",
                remedy="take them out; a prediction is made before they are known",
            )
        )
    for view in use_case.features.on_demand:
        read = domain.on_demand[view].request if view in domain.on_demand else {}
        if leaked := sorted(set(read) & {*source.known_late, *use_case.leaks}):
            faults.append(
                SpecError(
                    f"on-demand view {view!r} reads {leaked}, which are known too late",
                    where=f"{where}: features.on_demand.{view}",
                    remedy="take the view out, or let its function read what is known when a prediction is made",
                )
            )
    if use_case.label.known_at not in source.known_late:
        faults.append(
            SpecError(
                f"the label counts as known at {use_case.label.known_at!r}, which is known before the outcome",
                where=f"{where}: label.known_at",
                remedy=f"name the instant the outcome is known; known_late lists {', '.join(source.known_late)}",
            )
        )
    return faults


def refuse_leaks(use_case: UseCaseSpec, domain: DomainSpec) -> None:
    """Stop before any work where `find_leaks` finds something.

    Raises:
        SpecError: the first fault.
    """
    for fault in find_leaks(use_case, domain):
        raise fault
