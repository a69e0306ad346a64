"""Which distributions a training rests on, in this environment: what Millrace needs and the trainer's library."""

from __future__ import annotations

import importlib.util
import logging
import sys
from collections.abc import Iterable, Mapping
from importlib import metadata

from millrace.errors import RebuildError
from millrace.package.reader import GROUP
from millrace.training.isolation.lock import NEEDED, normalise

log = logging.getLogger(__name__)
NO_DISTRIBUTION = "not installed as a distribution"
"""In place of the version of a package that is importable, but that nothing can install again."""
_DISTRIBUTIONS: dict[str, tuple[str, ...]] = {
    "millrace": (),
    "sklearn": ("scikit-learn", "skops"),
    "torch": ("torch", "safetensors"),
    "xgboost": ("xgboost-cpu", "xgboost"),
}
"""Import name of a trainer's library → the distributions it may come from, or comes with."""


def installed_pins(*libraries: str) -> dict[str, str]:
    """Distribution → version of all that training with libraries needs here, what these need in turn included.

    A library that no distribution brought stands among them with `NO_DISTRIBUTION` as its version.

    Args:
        libraries: import names of the trainer's library, and of the package that the trainer is in.
    """
    found = {library: NO_DISTRIBUTION for library in libraries if _is_loose(library)}
    for library in found:
        log.warning(
            "%s is %s: a model trained with it cannot be rebuilt. Install it by pip, then train again",
            library,
            NO_DISTRIBUTION,
        )
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
    """A lock of these pins.

    Raises:
        RebuildError: as `require_pinned`.
    """
    require_pinned(pins)
    return "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()))


def require_pinned(pins: Mapping[str, str]) -> None:
    """Refuses pins of an environment that cannot be built again.

    Raises:
        RebuildError: one of them was no distribution when the model was trained.
    """
    if loose := sorted(name for name, version in pins.items() if version == NO_DISTRIBUTION):
        raise RebuildError(
            f"{', '.join(loose)} was {NO_DISTRIBUTION} when the model was trained: nothing names the code of then",
            where="libraries of the recipe",
            remedy="install it by pip as a distribution with a version, then train and release again",
        )


def _is_loose(library: str) -> bool:
    """Whether a library is importable here, and no distribution brought it."""
    if library in _DISTRIBUTIONS or library in sys.stdlib_module_names or not library.isidentifier():
        return False
    if any(_version(root) for root in _roots(library)):
        return False
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def _roots(library: str) -> Iterable[str]:
    """Distributions that a library comes from; an editable one may tell no more of itself than its entry point."""
    if library in _DISTRIBUTIONS:
        return _DISTRIBUTIONS[library]
    if found := metadata.packages_distributions().get(library):
        return found
    declared = [
        entry
        for entry in metadata.entry_points(group=GROUP)
        if entry.value.partition(":")[0].partition(".")[0].strip() == library
    ]
    return [entry.dist.name for entry in declared if entry.dist] or [library]


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
