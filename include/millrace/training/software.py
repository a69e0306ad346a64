"""Which distributions a training rests on, in this environment: what Millrace needs and the trainer's library."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import metadata

from millrace.training.lock import NEEDED, normalise

_DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "millrace": (),
    "sklearn": ("scikit-learn", "skops"),
    "torch": ("torch", "safetensors"),
    "xgboost": ("xgboost-cpu", "xgboost"),
}
"""Import name of a trainer's library → the distributions it may come from, or comes with."""


def installed_pins(*libraries: str) -> dict[str, str]:
    """Distribution → version of all that training with libraries needs here, what these need in turn included.

    Args:
        libraries: import names of the trainer's library, and of the package that the trainer is in.
    """
    found: dict[str, str] = {}
    waiting = [*NEEDED, *(root for library in libraries for root in _roots(library))]
    while waiting:
        name = normalise(waiting.pop())
        if name in found:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # one of several that a library may come from, or for another platform
        found[name] = distribution.version.split("+")[0]
        waiting.extend(_required(distribution.requires or []))
    return dict(sorted(found.items()))


def matches(pins: Mapping[str, str]) -> bool:
    """Whether this environment has exactly these versions."""
    return all(_version(name) == version.split("+")[0] for name, version in pins.items())


def lock_text(pins: Mapping[str, str]) -> str:
    """A lock of these pins."""
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def _roots(library: str) -> Iterable[str]:
    if library in _DISTRIBUTIONS:
        return _DISTRIBUTIONS[library]
    return metadata.packages_distributions().get(library, [library])


def _required(requirements: Iterable[str]) -> Iterable[str]:
    from packaging.requirements import Requirement

    for text in requirements:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name


def _version(name: str) -> str:
    try:
        return metadata.version(name).split("+")[0]
    except metadata.PackageNotFoundError:
        return ""
