"""Opening a package: every byte is checked before anything is loaded, and what was checked is what is loaded."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson

from millrace.errors import PackageError
from millrace.package.encoder import Encoder
from millrace.package.feature import FeatureSpec
from millrace.package.golden import GoldenRows, same_values
from millrace.package.manifest import MANIFEST, Manifest
from millrace.package.on_demand import OnDemandFunctions
from millrace.package.predictor import Predictor, load_model

log = logging.getLogger(__name__)
FEATURES, ENCODER, SIGNATURE, GOLDEN = "features.json", "encoder.json", "signature.json", "golden.json"
LOCK = "requirements.lock"
_REMEDY = "restore the package from the registry, or train it again: equal inputs give equal bytes"
PartT = TypeVar("PartT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A sealed package, verified and in memory.

    Attributes:
        folder: where it was read from.
        digest: sha256 of its manifest.
        manifest: what it is.
        features: what an online service needs to find and order the features.
        encoder: how features become model input.
        signature: inputs and output as the Open Inference Protocol names them.
        golden: rows with the package's own predictions.
        content: file → bytes, as verified.
    """

    folder: Path
    digest: str
    manifest: Manifest
    features: FeatureSpec
    encoder: Encoder
    signature: dict[str, Any]
    golden: GoldenRows
    content: dict[str, bytes]

    @classmethod
    def open(cls, folder: Path | str, expected_digest: str | None = None) -> Package:
        """Read a package and check the sha256 of every file of its manifest.

        Args:
            folder: the package's folder.
            expected_digest: sha256 that the manifest must have, such as the ledger's.

        Raises:
            PackageError: a file is missing, or its bytes are not those that were sealed.
        """
        folder = Path(folder)
        sealed = _read(folder, MANIFEST)
        digest = hashlib.sha256(sealed).hexdigest()
        if expected_digest is not None and digest != expected_digest:
            raise PackageError(
                f"the manifest has digest {digest}, expected is {expected_digest}", where=str(folder), remedy=_REMEDY
            )
        manifest = Manifest.from_bytes(sealed, where=str(folder / MANIFEST))
        content = {}
        for name, sha in manifest.files.items():
            if Path(name).name != name:
                raise PackageError(f"{name!r} is not a plain file name", where=str(folder), remedy=_REMEDY)
            content[name] = _read(folder, name)
            if hashlib.sha256(content[name]).hexdigest() != sha:
                raise PackageError(f"{name} is not the file that was sealed", where=str(folder), remedy=_REMEDY)
        for name in (FEATURES, ENCODER, SIGNATURE, GOLDEN, manifest.model.name):
            if name not in content:
                raise PackageError(f"the manifest does not list {name}", where=str(folder), remedy=_REMEDY)
        features = _part(folder, FEATURES, lambda: FeatureSpec.from_dict(orjson.loads(content[FEATURES])))
        if absent := [view.file for view in features.on_demand if view.file not in content]:
            raise PackageError(f"the manifest does not list {absent[0]}", where=str(folder), remedy=_REMEDY)
        package = cls(
            folder=folder,
            digest=digest,
            manifest=manifest,
            features=features,
            encoder=_part(folder, ENCODER, lambda: Encoder.from_bytes(content[ENCODER])),
            signature=_part(folder, SIGNATURE, lambda: orjson.loads(content[SIGNATURE])),
            golden=_part(folder, GOLDEN, lambda: GoldenRows.from_bytes(content[GOLDEN])),
            content=content,
        )
        log.debug("package %s opened, %d files verified", digest, len(content))
        return package

    def predictor(self, *, threads: int = 1) -> Predictor:
        """The loaded model; one thread by default, since in a server more only wait for each other."""
        model = self.manifest.model
        return Predictor(
            self.encoder,
            load_model(
                model.format,
                self.content[model.name],
                encoder=self.encoder,
                problem=self.manifest.problem,
                threads=threads,
                classes=len(self.manifest.classes),
                trainer=self.manifest.trainer,
            ),
        )

    @property
    def functions(self) -> OnDemandFunctions:
        """The functions of its on-demand features, loaded from the bytes that were verified.

        Raises:
            FeatureError: one does not load here.
        """
        texts = {view.view: self.content[view.file].decode() for view in self.features.on_demand}
        return OnDemandFunctions(self.features, texts)

    def probe(self, predictor: Predictor | None = None) -> float:
        """Greatest difference of the predictions of the golden rows from those sealed; 0 or nearly so is right.

        Raises:
            PackageError: a feature computed on demand of the golden rows comes out otherwise than it was sealed.
        """
        predictor = predictor or self.predictor()
        if not self.features.on_demand:
            return self.golden.difference(predictor.predict(self.golden.columns))
        inputs = {column.name: self.golden.columns[column.name] for column in self.features.inputs}
        columns = self.functions.add(inputs, len(self.golden))
        for name in self.features.computed:
            if not same_values(columns[name], self.golden.columns[name]):
                raise PackageError(
                    f"golden values of on-demand feature {name!r} come out otherwise here",
                    where=str(self.folder),
                    remedy="use the numpy that it was sealed with",
                )
        return self.golden.difference(predictor.predict(columns))


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise PackageError(f"cannot read {name}: {error.strerror}", where=str(folder), remedy=_REMEDY) from error


def _part(folder: Path, name: str, read: Callable[[], PartT]) -> PartT:
    try:
        return read()
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise PackageError(
            f"{name} cannot be read: {error}",
            where=str(folder),
            remedy="open it with the version of Millrace that sealed it",
        ) from error
