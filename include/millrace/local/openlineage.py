"""Where OpenLineage events go: a file, or whatever backend the installation names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import orjson

from millrace.errors import SettingsError
from millrace.local.layout import Layout

VARIABLE = "MILLRACE_OPENLINEAGE"
_REMEDY = (
    'set it to a transport as JSON, such as {"type": "http", "url": "http://localhost:5000"}, '
    "to the absolute path of an openlineage.yml, or to off"
)


def openlineage_options(layout: Layout, environ: Mapping[str, str]) -> dict[str, object]:
    """The section `openlineage` of Airflow's configuration.

    Args:
        layout: paths; by default events are lines of a file under `var`.
        environ: the caller's environment. `MILLRACE_OPENLINEAGE` is a transport of OpenLineage's client as JSON, the
            path of its YAML file, or `off`.

    Raises:
        SettingsError: the variable is none of these.
    """
    common: dict[str, object] = {
        "namespace": "millrace",
        "emission_policy": orjson.dumps([{"scope": {}, "controls": {"include_source_code": False}}]).decode(),
    }
    named = environ.get(VARIABLE, "").strip()
    if not named:
        file = {"type": "file", "log_file_path": str(layout.lineage), "append": True}
        return {**common, "transport": orjson.dumps(file).decode()}
    if named == "off":
        return {**common, "disabled": True}
    if named.startswith("{"):
        return {**common, "transport": _transport(named)}
    if not (Path(named).is_absolute() and Path(named).is_file()):
        raise SettingsError(f"{named!r} is neither JSON nor a file", where=VARIABLE, remedy=_REMEDY)
    return {**common, "config_path": named}


def _transport(text: str) -> str:
    try:
        named = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise SettingsError(f"not JSON: {error}", where=VARIABLE, remedy=_REMEDY) from None
    if not isinstance(named.get("type"), str):
        raise SettingsError("a transport has no `type`", where=VARIABLE, remedy=_REMEDY)
    return text
