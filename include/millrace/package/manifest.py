"""The manifest: what a package is, what it was trained on, and the sha256 of each of its files.

A manifest holds nothing that differs between two trainings of the same thing: no id, time, author, release,
threshold or evidence. The sha256 of its bytes names the package.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from millrace.artifact import canonical
from millrace.errors import PackageError

FORMAT = 1
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Library:
    """The library that trained the model.

    Attributes:
        name: import name (`xgboost`).
        version: its version.
    """

    name: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """The native model in a package.

    Attributes:
        name: file name.
        format: how it is read (`xgboost-ubj`, `lightgbm-text`, `network-safetensors`, `sklearn-skops`,
            `constant-json`, `imported-zip`), or `package.module:name` where the module of a trainer outside Millrace
            reads it.
    """

    name: str
    format: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecord:
    """The rows a model was trained on, identified by content.

    Attributes:
        table: training set in the lake.
        digest: sha256 over the rows used, labels and order included.
        rows: their number.
        partitions: keys of the partitions they are from, in time order.
        trained_through: the last of them.
        holdout: the partition kept back, the last where there are several; the first begins at `known_until`.
        known_until: ISO instant; labels known later were not used.
    """

    table: str
    digest: str
    rows: int
    partitions: list[str]
    trained_through: str
    holdout: str
    known_until: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a package is.

    Attributes:
        use_case: its use case.
        candidate: name of the candidate in the spec.
        trainer: trainer that made it.
        problem: `binary`, `multiclass` or `regression`.
        params: parameters of the trainer, defaults resolved, threads included.
        seed: seed of everything random.
        library: what trained it.
        model: the model file.
        training: the rows it was trained on.
        facts: what training found (rounds kept, columns without a value).
        files: file → sha256, every file but the manifest.
        classes: names of the classes of a multiclass model, in the order of its probabilities.
        format: version of this layout.
    """

    use_case: str
    candidate: str
    trainer: str
    problem: str
    params: dict[str, Any]
    seed: int
    library: Library
    model: ModelFile
    training: TrainingRecord
    facts: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    format: int = FORMAT

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        return canonical(dataclasses.asdict(self))

    @property
    def digest(self) -> str:
        """sha256 of `to_bytes`: the name of the package."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str) -> Manifest:
        """The manifest that `to_bytes` was called on.

        Raises:
            PackageError: not a manifest, or one of a layout this version does not read.
        """
        try:
            plain: Mapping[str, Any] = orjson.loads(content)
            if plain["format"] != FORMAT:
                raise PackageError(
                    f"package layout {plain['format']!r}, read is {FORMAT}",
                    where=where,
                    remedy="open it with the version of Millrace that sealed it",
                )
            return cls(
                **{
                    **plain,
                    "library": Library(**plain["library"]),
                    "model": ModelFile(**plain["model"]),
                    "training": TrainingRecord(**plain["training"]),
                }
            )
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise PackageError(
                f"not a manifest: {error}", where=where, remedy="restore the package from the registry"
            ) from error
