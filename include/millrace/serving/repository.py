"""The releases in service: read by pointer, checked byte by byte, proven by their golden rows, then swapped in."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from millrace.artifact import ReleaseRef
from millrace.errors import FeatureError, MillraceError, PackageError
from millrace.online import OnlineReader
from millrace.online.address import open_reader
from millrace.package import OnDemandFunctions, Package, Predictor
from millrace.serving.assembly import FeatureVector, assemble, input_kinds
from millrace.serving.base import Column, InferenceRequest, Kind, RequestError

POINTER = "current.json"
GOLDEN_TOLERANCE = 1e-6
"""Greatest difference of a golden prediction here from the one that was sealed."""

_NAME = re.compile(r"^[a-z][a-z0-9_]{0,62}$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One release in service.

    Attributes:
        ref: what the pointer says.
        package: the verified package.
        predictor: its loaded model.
        functions: its loaded functions; None where it has no features computed on demand.
        kinds: inputs it knows.
        parameters: what every response tells about the release.
        metadata: model metadata of the Open Inference Protocol.
        classes: names of the classes of a multiclass model, in the order of its probabilities; else None.
    """

    ref: ReleaseRef
    package: Package
    predictor: Predictor
    functions: OnDemandFunctions | None
    kinds: Mapping[str, Kind]
    parameters: dict[str, Any]
    metadata: Mapping[str, Any]
    classes: NDArray[np.object_] | None = None

    @property
    def version(self) -> str:
        """The release as the protocol's version."""
        return str(self.ref.release)

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the release in the metrics."""
        return {"model": self.ref.use_case, "release": self.version, "package": self.ref.package}

    def assemble(self, request: InferenceRequest, store: OnlineReader | None) -> FeatureVector:
        """The model's columns for a request."""
        return assemble(self.package.features, request, store, self.functions)

    def predict(self, columns: Mapping[str, Column]) -> dict[str, NDArray[Any]]:
        """Outputs for the model's columns: `prediction`, and `decision`, where it makes one.

        A binary release decides by its threshold. A multiclass one predicts (rows, classes) probabilities and decides
        for the most probable class, by name.

        Raises:
            RequestError: a value cannot be what its column holds.
        """
        try:
            prediction = self.predictor.predict(columns)
        except FeatureError as error:
            raise RequestError(400, error.what, remedy=error.remedy) from error
        if not math.isfinite(prediction.sum()):
            raise RequestError(500, "the model's prediction is not a number", remedy="roll the release back")
        if self.classes is not None:
            return {"prediction": prediction, "decision": self.classes[prediction.argmax(axis=1)]}
        if self.ref.threshold is None:
            return {"prediction": prediction}
        return {"prediction": prediction, "decision": prediction >= self.ref.threshold}


class Repository:
    """Releases by use case, read from `<folder>/<use case>/current.json` when asked.

    Args:
        folder: where deployment writes its pointers.
        online_store: address of the online store; it may come to be later.
    """

    def __init__(self, folder: Path, online_store: str | Path | None = None) -> None:
        self.folder = folder
        self.store: OnlineReader | None = None if online_store is None else open_reader(online_store)
        self._served: dict[str, Served] = {}
        self._faults: dict[str, str] = {}

    def names(self) -> list[str]:
        """Use cases with a pointer, or with a release in service."""
        found = {path.parent.name for path in self.folder.glob(f"*/{POINTER}") if _NAME.match(path.parent.name)}
        return sorted(found | set(self._served))

    def served(self) -> Iterator[Served]:
        """All releases in service."""
        return iter(list(self._served.values()))

    def version(self, name: str) -> str:
        """The release in service under a name; "" where there is none."""
        served = self._served.get(name)
        return "" if served is None else served.version

    def get(self, name: str) -> Served:
        """The release in service under a name.

        Raises:
            RequestError: 404 for an unknown name, 503 for one whose release was refused.
        """
        served = self._served.get(name)
        if served is not None:
            return served
        if name in self._faults:
            raise RequestError(
                503, f"the release of {name!r} was refused: {self._faults[name]}", remedy="deploy a sound release"
            )
        raise RequestError(
            404, f"no model {name[:80]!r}", remedy=f"served are: {', '.join(self._served) or '(none yet)'}"
        )

    def only(self) -> str:
        """The name of the one model, for addresses that name none.

        Raises:
            RequestError: there are several models, or none.
        """
        if len(self._served) == 1:
            return next(iter(self._served))
        served = ", ".join(sorted(self._served)) or "(none yet)"
        raise RequestError(
            400 if self._served else 404, f"which model? served are: {served}", remedy="use /invocations/<name>"
        )

    def index(self) -> list[dict[str, str]]:
        """The repository index of the protocol: every name with its state, and why it is not ready."""
        return [
            {
                "name": name,
                "version": self.version(name),
                "state": "READY" if name in self._served else "UNAVAILABLE",
                "reason": self._faults.get(name, ""),
            }
            for name in self.names()
        ]

    def load(self, name: str) -> Served:
        """Read the pointer, check the package, prove the model, and serve it from now on.

        Whatever is wrong, what was served before stays.

        Raises:
            PackageError: pointer or package are not sound.
        """
        try:
            served = _open(self.folder, name)
        except (MillraceError, OSError, ImportError, ValueError) as error:
            self._faults[name] = " ".join(str(error).split())
            raise
        self._served[name] = served
        self._faults.pop(name, None)
        return served

    def close(self) -> None:
        """Close the online store."""
        if self.store is not None:
            self.store.close()


def read_pointer(path: Path) -> ReleaseRef:
    """The release that a pointer names.

    Raises:
        PackageError: the pointer is missing or is not one.
    """
    try:
        plain = orjson.loads(path.read_bytes())
        ref = ReleaseRef.from_dict(plain)
    except (OSError, orjson.JSONDecodeError, TypeError, AttributeError) as error:
        raise PackageError(
            f"not a pointer to a release: {error}", where=str(path), remedy="deploy the release again"
        ) from error
    fits = (
        type(ref.release) is int
        and all(isinstance(value, str) for value in (ref.use_case, ref.package, ref.package_dir, ref.feature_service))
        and (ref.threshold is None or type(ref.threshold) in (int, float))
        and type(ref.request_sample) in (int, float)
        and isinstance(ref.personal, list)
    )
    if not fits or ref.use_case != path.parent.name:
        raise PackageError(
            "the pointer's values are not those of this use case", where=str(path), remedy="deploy the release again"
        )
    return ref


def _open(folder: Path, name: str) -> Served:
    ref = read_pointer(folder / name / POINTER)
    package = Package.open(folder / ref.package_dir, ref.package)
    features, manifest = package.features, package.manifest
    if (manifest.use_case, features.service) != (ref.use_case, ref.feature_service or features.service):
        raise PackageError(
            f"the package is of {manifest.use_case!r} on {features.service!r}, "
            f"the release of {ref.use_case!r} on {ref.feature_service!r}",
            where=str(package.folder),
            remedy="deploy the release that the ledger says is in force",
        )
    predictor = package.predictor()
    if not (gap := package.probe(predictor)) <= GOLDEN_TOLERANCE:
        raise PackageError(
            f"golden rows are predicted {gap:g} off here",
            where=str(package.folder),
            remedy="use the library version of the manifest",
        )
    return Served(
        ref=ref,
        package=package,
        predictor=predictor,
        functions=package.functions if features.on_demand else None,
        kinds=input_kinds(features),
        parameters={"release": ref.release, "package": ref.package},
        metadata=_metadata(ref, package),
        classes=np.array(manifest.classes, object) if manifest.classes else None,
    )


def _metadata(ref: ReleaseRef, package: Package) -> dict[str, Any]:
    classes = package.manifest.classes
    outputs = [{"name": "prediction", "datatype": "FP64", "shape": [-1, len(classes)] if classes else [-1]}]
    if classes or ref.threshold is not None:
        outputs.append({"name": "decision", "datatype": "BYTES" if classes else "BOOL", "shape": [-1]})
    request = [column.name for column in package.features.request]
    return {
        "name": ref.use_case,
        "versions": [str(ref.release)],
        "platform": f"millrace_{package.manifest.model.format}",
        "inputs": package.signature["inputs"],
        "outputs": outputs,
        "parameters": {
            "package": ref.package,
            "feature_service": package.features.service,
            "effective_at": ref.effective_at,
            "threshold": ref.threshold,
            "by_key": list(dict.fromkeys([*request, *package.features.entities])),
            "computed": package.features.computed,
            **({"classes": list(classes)} if classes else {}),
        },
    }
