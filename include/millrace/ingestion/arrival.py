"""Files that arrive: which there are, which of them are new or changed and complete, and whose partition they are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from millrace.errors import SourceError
from millrace.ingestion.base import Connection
from millrace.ingestion.fsspec_storage import open_storage
from millrace.partition import Grain

_KEYS: dict[Grain, tuple[str, str]] = {
    "month": ("????-??", r"\d{4}-(?:0[1-9]|1[0-2])"),
    "day": ("????-??-??", r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"),
}
_WORDS = re.compile(r"(\{partition\}|\*|\?|\[)")
_PLACE = "{partition}"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file as a listing shows it.

    Attributes:
        stamp: size and what else its storage tells (time, ETag); another stamp means another content.
        partition: key that stands in its name; None where the URI has no place for one.
    """

    stamp: str
    partition: str | None


def list_files(uri: str, *, grain: Grain, root: Path, connection: Connection | None = None) -> dict[str, FoundFile]:
    """The files behind a source's URI, of all partitions, by path. Nothing is opened.

    Args:
        uri: as `FileSourceSpec.uri`.
        grain: what a partition's key looks like.
        root: folder that relative paths start at.
        connection: credentials of the storage.

    Raises:
        SourceError: a URI that nothing can arrive at, or that the storage refuses.
        SourceUnavailableError: the storage does not answer.
    """
    if uri.startswith("package://") or ".." in PurePosixPath(unquote(uri)).parts:
        raise SourceError(
            f"nothing can arrive at {uri}",
            where=uri,
            remedy="watch a folder or a bucket by a path without '..', or set watch: false",
        )
    storage = open_storage(_address(uri, root), connection)
    pattern = _regex(storage.path, grain)
    found = {}
    for name, marks in sorted(storage.glob(_glob(storage.path, grain)).items()):
        if match := pattern.fullmatch(name):
            found[name] = FoundFile(stamp=" ".join(marks), partition=match.groupdict().get("partition"))
    return found


@dataclass(slots=True, kw_only=True)
class ArrivalWatch:
    """Tells each file once, when it is new or changed and has stood still for a while.

    Attributes:
        settle_seconds: how long a file's stamp must stay the same before it counts as written to its end.
    """

    settle_seconds: float
    _since: dict[str, tuple[str, float]] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)

    def look(self, found: Mapping[str, FoundFile], now: float) -> dict[str, FoundFile]:
        """Those of `found` that are to be told now.

        Args:
            found: what is there.
            now: seconds of a clock that never goes back.
        """
        self._since = {name: self._seen(name, file.stamp, now) for name, file in found.items()}
        self._told = {name: stamp for name, stamp in self._told.items() if name in found}
        ready = {
            name: file
            for name, file in found.items()
            if self._told.get(name) != file.stamp and now - self._since[name][1] >= self.settle_seconds
        }
        self._told |= {name: file.stamp for name, file in ready.items()}
        return ready

    def forget(self, names: Iterable[str]) -> None:
        """Tell these again: what was told did not come through."""
        for name in names:
            self._told.pop(name, None)

    def _seen(self, name: str, stamp: str, now: float) -> tuple[str, float]:
        before = self._since.get(name)
        return before if before is not None and before[0] == stamp else (stamp, now)


def keys_of(found: Mapping[str, FoundFile]) -> list[str]:
    """The partitions named by files, each once."""
    return sorted({file.partition for file in found.values() if file.partition is not None})


def _address(uri: str, root: Path) -> str:
    if uri.startswith("file://"):
        return unquote(uri.removeprefix("file://"))
    return uri if "://" in uri else str(root / uri)


def _glob(path: str, grain: Grain) -> str:
    return "".join({_PLACE: _KEYS[grain][0], "[": "[[]"}.get(word, word) for word in _WORDS.split(path))


def _regex(path: str, grain: Grain) -> re.Pattern[str]:
    return re.compile("/".join(_translate(path, _KEYS[grain][1])))


def _translate(path: str, key: str) -> Iterator[str]:
    """Segment by segment; a pattern does not match a name that begins with a dot unless it does so itself."""
    named = False
    for segment in path.split("/"):
        found = "" if segment.startswith(".") else r"(?!\.)"
        for word in _WORDS.split(segment):
            if word == _PLACE:
                found += "(?P=partition)" if named else f"(?P<partition>{key})"
                named = True
            else:
                found += {"*": "[^/]*", "?": "[^/]"}.get(word, re.escape(word))
        yield found
