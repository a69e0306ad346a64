"""One feature, feature table, on-demand view or service described: from where, by whom, how it lies, who uses it."""

from __future__ import annotations

from typing import Any

from millrace.errors import MillraceError
from millrace.features.definition import ON_DEMAND, SERVICE, TABLE
from millrace.features.distribution import Distribution, measure_distributions
from millrace.lake import Table
from millrace.spec import DomainSpec
from millrace.step.feature_catalog import Catalog, Name
from millrace.step.freshness import measure_freshness


def list_features(
    catalog: Catalog, *, domain: str | None = None, tag: str | None = None, text: str | None = None
) -> list[dict[str, Any]]:
    """One row a feature, table by table, then what is computed on demand.

    Args:
        catalog: what there is.
        domain: only of this domain.
        tag: only with this tag, `key=value` or a key.
        text: only where this stands in name, description, tags or owners.
    """
    fresh = {name: _freshness(catalog, spec) for name, spec in catalog.domains.items() if domain in {None, name}}
    found = []
    for item in catalog.names():
        if not item.feature or item.kind not in {TABLE, ON_DEMAND} or domain not in {None, item.domain}:
            continue
        definition = catalog.definition(item.subject)
        meta, readers = definition["meta"], catalog.readers(item)
        row = {
            "feature": item.feature,
            "view": item.name,
            "kind": item.kind,
            "domain": item.domain,
            "type": definition["features"][item.feature],
            "description": meta["description"],
            "owners": meta["owners"],
            "tags": meta["tags"],
            "services": sorted(readers),
            "releases": [release for releases in readers.values() for release in releases],
            "freshness": fresh.get(item.domain, {}).get(item.name, {}).get("verdict", ""),
            "status": catalog.status(item.subject),
        }
        if _tagged(row["tags"], tag) and _mentions(row, text):
            found.append(row)
    return found


def describe(catalog: Catalog, name: str) -> dict[str, Any]:
    """All there is to know of a feature, feature table, on-demand view or service.

    Raises:
        FeatureError: nothing is called that.
    """
    item = catalog.find(name)
    if item.kind == "column":
        return lineage(catalog, name)
    definition = catalog.definition(item.subject)
    told = {
        "kind": item.kind,
        "name": item.name,
        "feature": item.feature,
        "domain": item.domain,
        "status": catalog.status(item.subject),
        **definition["meta"],
    }
    if item.kind == SERVICE:
        return {**told, **_service(catalog, item)}
    told |= {**definition["shape"], "used_by": _users(catalog, item)}
    wanted = [item.feature] if item.feature else list(definition["features"])
    features: list[dict[str, Any]] = [{"name": name, "type": definition["features"][name]} for name in wanted]
    if item.kind == TABLE and item.subject in catalog.declared:
        return {**told, **_table(catalog, item, features)}
    return {**told, "features": features}


def lineage(catalog: Catalog, name: str) -> dict[str, Any]:
    """Where something comes from and who uses it.

    Returns:
        `kind`, `name`, `from` (feature → source → columns, or view → features) and `used_by` (service → its releases);
        of a source's column `features`, those computed from it, each with its services and their releases.

    Raises:
        FeatureError: nothing is called that.
    """
    item = catalog.find(name)
    full = ".".join(part for part in (item.domain, item.name, item.feature) if part)
    if item.kind == "column":
        return {"kind": item.kind, "name": full, "from": {}, "used_by": {}, "features": _computed_from(catalog, item)}
    return {"kind": item.kind, "name": full, "from": _origins(catalog, item), "used_by": _users(catalog, item)}


def _origins(catalog: Catalog, item: Name) -> dict[str, Any]:
    definition = catalog.definition(item.subject)
    if item.kind == TABLE:
        columns = catalog.columns(item.name)
        return {name: columns.get(name, {}) for name in ([item.feature] if item.feature else definition["features"])}
    shape = definition["shape"]
    if item.kind == ON_DEMAND:
        return {**shape["inputs"], **({"request": list(shape["request"])} if shape["request"] else {})}
    return {**({"row": list(shape["row"])} if shape["row"] else {}), **shape["views"], **shape["on_demand"]}


def _users(catalog: Catalog, item: Name) -> dict[str, list[str]]:
    if item.kind == SERVICE:
        readers = {item.name: catalog.standing.releases.get(item.name, [])}
    else:
        readers = catalog.readers(item)
    return {service: [_release(catalog, release) for release in releases] for service, releases in readers.items()}


def _computed_from(catalog: Catalog, item: Name) -> dict[str, dict[str, list[str]]]:
    """Feature (`table.feature`) → service → releases, of all features computed from a column."""
    found = {}
    for table in catalog.domains[item.domain].feature_tables:
        for feature, sources in catalog.columns(table).items():
            if item.feature in sources.get(item.name, []):
                name = Name(kind=TABLE, name=table, feature=feature, domain=item.domain)
                found[f"{table}.{feature}"] = _users(catalog, name)
    return found


def _service(catalog: Catalog, item: Name) -> dict[str, Any]:
    shape = catalog.definition(item.subject)["shape"]
    features = [
        *({"name": name, "type": kind, "view": "row"} for name, kind in shape["row"].items()),
        *(
            {"name": name, "type": _kind(catalog, kind, view, name), "view": view}
            for kind, part in ((TABLE, "views"), (ON_DEMAND, "on_demand"))
            for view, names in shape[part].items()
            for name in names
        ),
    ]
    return {"used_by": _users(catalog, item), "features": features}


def _kind(catalog: Catalog, kind: str, view: str, feature: str) -> str:
    subject = f"{kind}:{view}"
    known = {**catalog.standing.applied, **catalog.declared}.get(subject, {"features": {}})
    return str(known["features"].get(feature, "?"))


def _table(catalog: Catalog, item: Name, features: list[dict[str, Any]]) -> dict[str, Any]:
    domain = catalog.domains[item.domain]
    table = Table(catalog.settings.lake, domain.feature_table(item.name))
    written = table.newest()
    newest = max(written, default=None)
    spread: dict[str, Distribution] = {}
    if newest is not None:
        partitions = [newest] if newest else None
        present = set(table.open().to_pyarrow_dataset().schema.names)
        names = [feature["name"] for feature in features if feature["name"] in present]
        spread = measure_distributions(table.read(partitions=partitions, columns=names), names)
    columns = catalog.columns(item.name)
    for feature in features:
        measured = spread.get(feature["name"])
        feature["columns"] = columns.get(feature["name"], {})
        feature["distribution"] = None if measured is None else {**measured.to_dict(), "line": measured.sparkline}
        feature["values"] = "" if measured is None else measured.sentence
    return {
        "freshness": _freshness(catalog, domain).get(item.name, {}),
        "partitions": len(written),
        "newest": newest or "",
        "rows": sum(ref.rows for ref in written.values()),
        "features": features,
    }


def _freshness(catalog: Catalog, domain: DomainSpec) -> dict[str, dict[str, Any]]:
    """View → how fresh; where the online store does not answer, that."""
    try:
        found = measure_freshness(domain, settings=catalog.settings)
    except MillraceError as error:
        return {name: {"verdict": "unknown", "sentence": error.what} for name in domain.feature_tables}
    return {item.view: {**item.to_dict(), "sentence": item.sentence} for item in found}


def _release(catalog: Catalog, release: str) -> str:
    return f"{release}, serving" if release in catalog.standing.in_force else release


def _tagged(tags: dict[str, str], wanted: str | None) -> bool:
    if wanted is None:
        return True
    key, _, value = wanted.partition("=")
    return key in tags and (not value or tags[key] == value)


def _mentions(row: dict[str, Any], text: str | None) -> bool:
    told = " ".join(
        [row["feature"], row["view"], row["description"], *row["owners"], *row["tags"], *row["tags"].values()]
    )
    return text is None or text.lower() in told.lower()
