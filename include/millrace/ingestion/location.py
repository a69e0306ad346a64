"""Where a file source lies: a path, a `file://` URI, or a file shipped in an installed package."""

from __future__ import annotations

import importlib.util
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from millrace.errors import SourceError


def locate(uri: str, root: Path) -> Path:
    """The readable file behind a URI.

    A package is found without being imported: some packages that ship data do heavy work at import.

    Args:
        uri: `package://<package>/<path in it>`, `file:///<path>`, or a path (relative ones start at `root`).
        root: folder relative paths start at.

    Raises:
        SourceError: no such package or file, a path that climbs with `..`, or a scheme this source does not read.
    """
    parts = urlsplit(uri)
    if ".." in PurePosixPath(unquote(uri)).parts:
        raise SourceError(
            f"the path climbs out of its folder with '..': {uri}",
            where=uri,
            remedy="write the path without '..', or an absolute one",
        )
    if parts.scheme == "package":
        path = _in_package(uri, parts.netloc, unquote(parts.path).lstrip("/"))
    elif parts.scheme == "file":
        path = Path(unquote(parts.path))
    elif "://" in uri:
        raise SourceError(
            f"a file source does not read {parts.scheme}:// addresses",
            where=uri,
            remedy="use a path, file:// or package://<package>/<path>",
        )
    else:
        path = root / uri
    if not path.is_file():
        kind = "a folder, not a file" if path.is_dir() else "no such file"
        raise SourceError(f"{kind}: {path.name}", where=str(path), remedy=f"put the file there, or correct uri {uri!r}")
    return path


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
    path = (folder / inside).resolve()
    if not path.is_relative_to(folder):
        raise SourceError(
            f"the path leads out of package {package!r}", where=uri, remedy="name a file inside the package"
        )
    return path
