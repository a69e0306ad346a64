"""Content-addressed JSON documents: written once under the sha256 of their bytes, checked when read."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path
from typing import Any

import orjson

from millrace.artifact import canonical
from millrace.errors import DocumentError

log = logging.getLogger(__name__)


def store_document(folder: Path, document: Any) -> str:
    """Write a value as `<folder>/<sha256>.json` unless it is there already; give the digest back.

    Writers of the same document may race: each writes a file of its own and renames it.
    """
    content = canonical(document)
    digest = hashlib.sha256(content).hexdigest()
    path = folder / f"{digest}.json"
    if not path.is_file():
        write_atomically(path, content)
        log.info("document %s stored, %d bytes", digest, len(content))
    return digest


def load_document(folder: Path, digest: str) -> Any:
    """The value stored under a digest.

    Raises:
        DocumentError: there is none, or its bytes have another digest.
    """
    path = folder / f"{digest}.json"
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise DocumentError(
            f"no document {digest!r}", where=str(folder), remedy="run the task that stores it again"
        ) from error
    if (found := hashlib.sha256(content).hexdigest()) != digest:
        raise DocumentError(
            f"the bytes of document {digest!r} have the digest {found}",
            where=str(path),
            remedy="remove the file and run the task that stores it again",
        )
    return orjson.loads(content)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader sees all of it or nothing, whoever else writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
