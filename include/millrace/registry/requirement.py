"""What loading a sealed model needs, pinned: told to MLflow, so that it never infers."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import orjson

_DISTRIBUTIONS = {"xgboost": "xgboost-cpu", "sklearn": "scikit-learn"}
_BESIDE = {"sklearn-skops": ["skops"], "imported-zip": ["skops", "polars"]}
"""Format of a model of scikit-learn → what opens its file, and makes the frame that it is given."""
_LOCK = "requirements.lock"


def requirements_of(package_dir: Path) -> list[str]:
    """Pins for a package's model: its own lock where it carries one, else from its manifest."""
    lock = package_dir / _LOCK
    if lock.is_file():
        return lock.read_text(encoding="utf-8").splitlines()
    try:
        manifest = orjson.loads((package_dir / "manifest.json").read_bytes())
        library, model_format = manifest.get("library", {}), manifest.get("model", {}).get("format", "")
    except (OSError, orjson.JSONDecodeError, AttributeError):
        library, model_format = {}, ""
    pins = {"numpy": version("numpy")}
    if name := str(library.get("name", "")):
        distribution = _DISTRIBUTIONS.get(name, name)
        try:
            version(distribution)
        except PackageNotFoundError:
            distribution = name
        # A local build (`2.13.0+cpu`) is found on no index; the public part of its version is.
        pins[distribution] = str(library.get("version", "")).split("+")[0]
    if name == "sklearn":
        pins |= {beside: version(beside) for beside in _BESIDE.get(model_format, [])}
    return [f"{name}=={pin}" for name, pin in sorted(pins.items()) if pin]
