"""What `millrace check` asks of a domain's features and a use case's service, before anything runs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from millrace.errors import FeatureError
from millrace.features.compute import compile_table
from millrace.features.label import label_faults
from millrace.features.on_demand import on_demand_faults, service_faults
from millrace.features.source import register_empty
from millrace.lake.duck import connect
from millrace.spec import DomainSpec, UseCaseSpec


def find_faults(domain: DomainSpec, use_case: UseCaseSpec | None, folder: Path) -> list[FeatureError]:
    """Everything wrong, each with its place and remedy; empty where all is well.

    Args:
        domain: the domain; its SQL is compiled against empty typed views.
        use_case: a use case on it; None checks the domain alone.
        folder: folder of the domains' YAML.
    """
    connection = connect(threads=1, external=False)
    try:
        try:
            columns = register_empty(connection, domain)
        except FeatureError as error:
            return [error]
        return [*_domain_faults(connection, domain, folder), *_use_case_faults(connection, domain, use_case, columns)]
    finally:
        connection.close()


def _domain_faults(connection: Any, domain: DomainSpec, folder: Path) -> Iterable[FeatureError]:
    for name in domain.feature_tables:
        try:
            compile_table(connection, domain, name, folder)
        except FeatureError as error:
            yield error
    owners: dict[str, str] = {}
    for name, table in domain.feature_tables.items():
        for feature in table.features:
            if feature in owners:
                yield FeatureError(
                    f"feature {feature!r} is in {owners[feature]!r} and in {name!r}",
                    where=f"domains/{domain.name}.yaml: feature_tables.{name}.features",
                    remedy="give each feature of a domain a name of its own",
                )
            owners[feature] = name
    yield from on_demand_faults(domain, folder)


def _use_case_faults(
    connection: Any, domain: DomainSpec, use_case: UseCaseSpec | None, columns: dict[str, dict[str, str]]
) -> Iterable[FeatureError]:
    if use_case is None:
        return
    where = f"use_cases/{use_case.name}.yaml"
    if use_case.domain != domain.name:
        yield FeatureError(f"the use case is on domain {use_case.domain!r}, not {domain.name!r}", where=where)
        return
    if use_case.entity.source not in columns:
        yield _unknown("source", use_case.entity.source, columns, f"{where}: entity.source")
        return
    clean = columns[use_case.entity.source]
    named = {
        "entity.key": [use_case.entity.key],
        "entity.timestamp": [use_case.entity.timestamp],
        "label.known_at": [use_case.label.known_at],
        "features.row": list(use_case.features.row),
        "leaks": list(use_case.leaks),
    }
    for place, names in named.items():
        for name in names:
            if name not in clean:
                yield _unknown("clean column", name, clean, f"{where}: {place}")
    yield from _service_faults(domain, use_case, clean, where)
    yield from service_faults(domain, use_case, clean, where)
    yield from label_faults(connection, use_case, where)


def _service_faults(
    domain: DomainSpec, use_case: UseCaseSpec, clean: dict[str, str], where: str
) -> Iterable[FeatureError]:
    for view, features in use_case.features.views.items():
        if view not in domain.feature_tables:
            yield _unknown("feature table", view, domain.feature_tables, f"{where}: features.views")
            continue
        table = domain.feature_tables[view]
        for feature in features:
            if feature not in table.features:
                yield _unknown("feature", feature, table.features, f"{where}: features.views.{view}")
        for key in table.entities:
            if key not in clean:
                yield _unknown("clean column (a join key)", key, clean, f"{where}: features.views.{view}")
    leaked = set(use_case.leaks) | {use_case.label.known_at}
    for name in use_case.features.columns:
        if name in leaked:
            yield FeatureError(
                f"feature {name!r} is a leak: it is not known when the prediction is made",
                where=f"{where}: features",
                remedy="take it out of the features",
            )
    reserved = {"key", "event_timestamp", "label", "label_known_at", "label_weight", "partition"}
    for name in sorted(reserved & set(use_case.features.columns)):
        yield FeatureError(
            f"feature {name!r} has a name that training sets keep for themselves",
            where=f"{where}: features",
            remedy=f"rename it; kept names are {', '.join(sorted(reserved))}",
        )


def _unknown(kind: str, name: str, known: Iterable[str], where: str) -> FeatureError:
    near = difflib.get_close_matches(name, list(known), n=1)
    remedy = f"did you mean {near[0]!r}?" if near else f"use one of: {', '.join(known)}"
    return FeatureError(f"no {kind} {name!r}", where=where, remedy=remedy)
