"""Which files a URI of a file source names: paths, `file://`, files shipped in a package, and whatever fsspec reads."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from millrace.errors import SourceError
from millrace.ingestion.base import Connection
from millrace.ingestion.fsspec_storage import Storage, open_storage

PARTITION = "{partition}"
_WILD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFile:
    """One file to read.

    Attributes:
        name: the URI that names this file alone, without secrets.
        path: where it lies, of a local file; its address in `storage` otherwise.
        storage: what holds it, unless it is local.
    """

    name: str
    path: str
    storage: Storage | None = None

    @property
    def place(self) -> str:
        """Where a person finds it."""
        return self.path if self.storage is None else self.name


def locate(uri: str, root: Path, *, partition: str = "", connection: Connection | None = None) -> list[SourceFile]:
    """The files that a URI names, by name; none where a pattern or a partition has none.

    A package is found without being imported: some packages that ship data do heavy work at import.

    Args:
        uri: as `FileSourceSpec.uri`.
        root: folder that relative paths start at.
        partition: key that stands for `{partition}`.
        connection: credentials of a storage.

    Raises:
        SourceError: no such package or file, a path that climbs with `..`, or a storage nothing here can read.
        SourceUnavailableError: the storage does not answer.
    """
    address = uri.replace(PARTITION, partition)
    if ".." in PurePosixPath(unquote(address)).parts:
        raise SourceError(
            f"the path climbs out of its folder with '..': {address}",
            where=uri,
            remedy="write the path without '..', or an absolute one",
        )
    folder, _, last = address.rpartition("/")
    if _WILD.search(folder):
        raise SourceError(
            f"a pattern in the folder's name: {folder}",
            where=uri,
            remedy="use * and ? in the file's name alone, after the last /",
        )
    moving = PARTITION in uri or _WILD.search(last) is not None
    scheme = urlsplit(address).scheme if "://" in address else ""
    if scheme in ("", "file", "package"):
        try:
            found = _local(address, scheme, root, moving)
        except OSError as error:
            raise SourceError(
                f"the file cannot be looked for: {error.strerror or type(error).__name__}",
                where=uri,
                remedy="correct `uri`, or the rights of its folder",
            ) from error
    else:
        storage = open_storage(address, connection)
        prefix = f"{folder}/"
        found = [SourceFile(name=prefix + name, path=path, storage=storage) for name, path in _remote(storage, last)]
    if not found and not moving:
        raise SourceError(f"no such file: {last}", where=uri, remedy="put the file there, or correct `uri`")
    return found


def _local(address: str, scheme: str, root: Path, moving: bool) -> list[SourceFile]:
    path = _path(address, scheme, root)
    if not moving:
        if not path.is_file():
            kind = "a folder, not a file" if path.is_dir() else "no such file"
            raise SourceError(
                f"{kind}: {path.name}", where=str(path), remedy=f"put the file there, or correct uri {address!r}"
            )
        return [SourceFile(name=address, path=str(path))]
    prefix = address.rpartition("/")[0]
    prefix = f"{prefix}/" if "/" in address else ""
    pattern = _pattern(path.name)
    names = sorted(item.name for item in _entries(path.parent) if pattern.fullmatch(item.name))
    found = []
    for name in names:
        file = path.parent / name
        if file.is_dir():
            continue
        _check_inside(file, path.parent, address)
        found.append(SourceFile(name=prefix + name, path=str(file)))
    return found


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _check_inside(file: Path, folder: Path, uri: str) -> None:
    """A link may not lead out of the folder, nor to nothing."""
    try:
        inside = file.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:
        raise SourceError(
            f"a link that leads to no file: {file.name}", where=uri, remedy="remove the link, or mend it"
        ) from error
    if not inside:
        raise SourceError(
            f"a link that leads out of its folder: {file.name}", where=uri, remedy="put the file itself there"
        )


def _pattern(name: str) -> re.Pattern[str]:
    """As a shell reads it: names that begin with a dot are hidden unless it does as well."""
    parts = "".join({"*": "[^/]*", "?": "[^/]"}.get(letter, re.escape(letter)) for letter in name)
    return re.compile(parts if name.startswith(".") else rf"(?!\.){parts}")


def _remote(storage: Storage, last: str) -> Iterator[tuple[str, str]]:
    if not _WILD.search(last):
        if storage.exists():
            yield last, storage.path
        return
    pattern = _pattern(PurePosixPath(storage.path).name)
    for path in storage.siblings():
        if pattern.fullmatch(name := PurePosixPath(path).name):
            yield name, path


def _path(address: str, scheme: str, root: Path) -> Path:
    if not scheme:
        return root / address
    parts = urlsplit(address.replace("?", "%3F").replace("#", "%23"))
    if scheme == "file":
        return Path(unquote(parts.path))
    return _in_package(address, parts.netloc, unquote(parts.path).lstrip("/"))


def _in_package(uri: str, package: str, inside: str) -> Path:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    folders = list(spec.submodule_search_locations or []) if spec is not None else []
    if not folders:
        raise SourceError(
            f"no installed package {package!r} that holds files",
            where=uri,
            remedy=f"pip install {package}, or correct the name after package://",
        )
    folder = Path(folders[0]).resolve()
    path = folder / inside
    if not path.resolve().is_relative_to(folder):
        raise SourceError(
            f"the path leads out of package {package!r}", where=uri, remedy="name a file inside the package"
        )
    return path
