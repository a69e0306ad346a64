"""Sealing: all files under a temporary name, then one rename to the digest of the manifest."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from millrace.artifact import canonical
from millrace.errors import PackageError
from millrace.package.encoder import Encoder
from millrace.package.feature import FeatureSpec
from millrace.package.golden import GoldenRows
from millrace.package.manifest import MANIFEST, Manifest
from millrace.package.on_demand import OnDemandFunctions
from millrace.package.package import ENCODER, FEATURES, GOLDEN, LOCK, SIGNATURE, Package

log = logging.getLogger(__name__)
_UNSEALED = ".sealing-"
_ABANDONED_S = 3600.0


def seal_package(
    store: Path,
    manifest: Manifest,
    *,
    features: FeatureSpec,
    encoder: Encoder,
    golden: GoldenRows,
    model: bytes,
    functions: OnDemandFunctions | None = None,
    lock: str = "",
) -> Package:
    """Write a package into the store, where it is not there already, and open it from there.

    Args:
        store: folder of all packages, one a digest.
        manifest: what it is; `files` is filled in here.
        features: its feature spec.
        encoder: its encoder.
        golden: its golden rows.
        model: bytes of the file that `manifest.model` names.
        functions: the functions of its on-demand features, where it has any.
        lock: pinned requirements it was trained with, where its candidate has an environment of its own.

    Raises:
        PackageError: the store cannot be written to.
    """
    _require_own_name(manifest, features)
    texts = {} if functions is None else functions.sources
    content = {
        **{view.file: texts[view.view].encode() for view in features.on_demand},
        FEATURES: canonical(features.to_dict()),
        ENCODER: encoder.to_bytes(),
        SIGNATURE: canonical(_signature(features, manifest.classes)),
        GOLDEN: golden.to_bytes(),
        manifest.model.name: model,
        **({LOCK: lock.encode()} if lock else {}),
    }
    sealed = dataclasses.replace(
        manifest, files={name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    )
    target = store / sealed.digest
    if not _intact(target, sealed.digest):
        try:
            _write(target, {**content, MANIFEST: sealed.to_bytes()})
        except OSError as error:
            raise PackageError(
                f"cannot write the package: {error.strerror}",
                where=str(store),
                remedy="make the folder writable, or set MILLRACE_PACKAGES to one that is",
            ) from error
        log.info("package %s sealed in %s", sealed.digest, store)
    return Package.open(target, sealed.digest)


def _require_own_name(manifest: Manifest, features: FeatureSpec) -> None:
    ours = {MANIFEST, FEATURES, ENCODER, SIGNATURE, GOLDEN, LOCK, *(view.file for view in features.on_demand)}
    if Path(manifest.model.name).name != manifest.model.name or manifest.model.name in ours:
        raise PackageError(
            f"the model file cannot be called {manifest.model.name!r}",
            where=f"trainer {manifest.trainer}",
            remedy="give `model` of the trainer a plain file name of its own",
        )


def _signature(features: FeatureSpec, classes: Sequence[str]) -> dict[str, object]:
    """Inputs and output in the words of the Open Inference Protocol; of several classes one probability each."""
    datatype = {"number": "FP64", "category": "BYTES"}
    meaning = "probability" if features.problem == "binary" else "value"
    output: dict[str, object] = {"name": "prediction", "datatype": "FP64", "shape": [-1], "meaning": meaning}
    if features.problem == "multiclass":
        output |= {"shape": [-1, len(classes)], "meaning": "probabilities", "classes": list(classes)}
    return {
        "inputs": [
            {"name": column.name, "datatype": datatype[column.kind], "shape": [-1]} for column in features.model
        ],
        "outputs": [output],
    }


def _intact(folder: Path, digest: str) -> bool:
    try:
        Package.open(folder, digest)
    except PackageError:
        return False
    return True


def _write(target: Path, content: Mapping[str, bytes]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _sweep(target.parent)
    unsealed = Path(tempfile.mkdtemp(prefix=_UNSEALED, dir=target.parent))
    try:
        for name, data in content.items():
            (unsealed / name).write_bytes(data)
        unsealed.chmod(0o755)
        _publish(unsealed, target)
    finally:
        shutil.rmtree(unsealed, ignore_errors=True)


def _publish(unsealed: Path, target: Path) -> None:
    """Rename into place. A package that another writer sealed meanwhile stays; a damaged one is replaced."""
    try:
        unsealed.rename(target)
    except OSError:
        if _intact(target, target.name):
            return
        damaged = unsealed.with_name(f"{unsealed.name}-damaged")
        target.rename(damaged)
        unsealed.rename(target)
        log.warning("package %s was damaged and is sealed again", target.name)
        shutil.rmtree(damaged, ignore_errors=True)


def _sweep(store: Path) -> None:
    """Remove what killed writers left behind."""
    for folder in store.glob(f"{_UNSEALED}*"):
        try:
            age = time.time() - os.stat(folder).st_mtime  # noqa: PTH116 - the folder may be gone by now
        except FileNotFoundError:
            continue
        if age > _ABANDONED_S:
            shutil.rmtree(folder, ignore_errors=True)
