"""Storages behind fsspec, reached with the credentials of an Airflow connection."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.base import Connection
from millrace.ingestion.connection import scrub

_S3, _AZURE, _GOOGLE = {"s3", "s3a"}, {"abfs", "abfss", "az", "adl"}, {"gs", "gcs"}
_HOSTS = {"sftp", "ssh", "ftp", "ftps", "smb"}
_HTTP = {"http", "https"}
_ABSENT, _BUSY = {404, 410}, {408, 425, 429}
_MARKS = ("ETag", "etag", "md5Hash", "content_md5", "crc32c", "generation")
_TIMES = ("LastModified", "last_modified", "updated", "mtime", "created")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    """A file system of fsspec and a path in it.

    Attributes:
        system: the `fsspec.AbstractFileSystem`.
        path: as that system writes it.
        uri: what was asked for, for messages.
        connection: whose secrets messages must not show.
    """

    system: Any = field(repr=False)
    path: str
    uri: str
    connection: Connection | None = field(repr=False, default=None)

    def exists(self) -> bool:
        """Whether a file is there."""
        with self._faults():
            try:
                return bool(self.system.info(self.path)["type"] == "file")
            except FileNotFoundError as error:
                if _behind(error, self.uri) is not None:
                    raise
                return False

    def siblings(self) -> list[str]:
        """The files of the path's folder, by name."""
        with self._faults():
            try:
                listed = self.system.ls(str(PurePosixPath(self.path).parent), detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
            return sorted(item["name"] for item in listed if item["type"] == "file")

    def glob(self, pattern: str) -> dict[str, list[str]]:
        """The files that a pattern of fsspec matches, each with what its listing tells of its content."""
        with self._faults():
            try:
                listed = self.system.glob(pattern, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        return {name: _marks(info) for name, info in listed.items() if info["type"] == "file"}

    def stamp(self, path: str) -> list[str] | None:
        """What names the content of a file, as its storage tells it; None where it tells nothing."""
        with self._faults():
            found = _marks(self.system.info(path))
        return found if len(found) > 1 else None

    def pieces(self, path: str, size: int) -> Iterator[bytes]:
        """The bytes of a file, `size` at a time."""
        with self._faults():
            stream = self.system.open(path, "rb")
        with closing(stream):
            while True:
                with self._faults():
                    piece = stream.read(size)
                if not piece:
                    return
                yield piece

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Errors of the storage as ours; what the remedy is depends on which they are."""
        try:
            yield
        except FileNotFoundError as error:
            if (cause := _behind(error, self.uri)) is None:
                raise SourceError(
                    "no such file", where=self.uri, remedy="put the file there, or correct `uri`"
                ) from error
            raise self._unavailable(cause) if _may_pass(cause) else self._refused(cause) from error
        except PermissionError as error:
            raise self._refused(error) from error
        except Exception as error:
            if "Credential" in type(error).__name__:
                raise self._refused(error) from error
            raise self._unavailable(error) from error

    def _unavailable(self, error: BaseException) -> SourceUnavailableError:
        return SourceUnavailableError(
            f"the storage does not answer as it should: {self._told(error)}",
            where=self.uri,
            remedy="check address and connection, or try again later",
        )

    def _refused(self, error: BaseException) -> SourceError:
        return SourceError(
            f"the storage refuses: {self._told(error)}", where=self.uri, remedy="correct the source's `connection`"
        )

    def _told(self, error: BaseException) -> str:
        return scrub(f"{type(error).__name__}: {error}"[:300], self.connection)


def _behind(error: FileNotFoundError, uri: str) -> BaseException | None:
    """What made fsspec say that an address of HTTP has no file; None where it has none."""
    cause = error.__cause__ if urlsplit(uri).scheme in _HTTP else None
    return None if getattr(cause, "status", 0) in _ABSENT else cause


def _may_pass(cause: BaseException) -> bool:
    status = getattr(cause, "status", None)
    return status is None or status >= 500 or status in _BUSY


def _marks(info: Mapping[str, Any]) -> list[str]:
    found = [f"{mark}={info[mark]}" for mark in (*_MARKS, *_TIMES) if info.get(mark) is not None]
    return [*found, f"size={info.get('size')}"]


def open_storage(uri: str, connection: Connection | None) -> Storage:
    """The storage behind a URI.

    Raises:
        SourceError: fsspec knows no such scheme, or its library is not installed, or takes other options.
    """
    import fsspec
    from fsspec.registry import known_implementations

    scheme = urlsplit(uri).scheme
    try:
        system, path = fsspec.core.url_to_fs(uri, **options_of(scheme, connection))
    except ImportError as error:
        needed = known_implementations.get(scheme, {}).get("err", f"install what fsspec needs for {scheme}://")
        raise SourceError(
            f"no library for {scheme}:// addresses is installed", where=uri, remedy=f"{needed} (pip install)"
        ) from error
    except ValueError as error:
        raise SourceError(
            f"nothing here reads {scheme}:// addresses",
            where=uri,
            remedy="use a path, file://, package://<package>/<path>, or a scheme that fsspec knows (s3://)",
        ) from error
    except TypeError as error:
        told = scrub(str(error), connection)
        raise SourceError(
            f"the storage of {scheme}:// does not take these options: {told}",
            where=uri,
            remedy="correct `extra` of the connection",
        ) from error
    system.invalidate_cache()
    return Storage(system=system, path=str(path), uri=uri, connection=connection)


def options_of(scheme: str, connection: Connection | None) -> dict[str, Any]:
    """What fsspec needs to reach a storage; values of `extra` go on as they are."""
    if connection is None:
        return {}
    extra = {name: value for name, value in connection.extra.items() if name not in ("endpoint_url", "region_name")}
    if scheme in _S3:
        client = {
            name: connection.extra[name] for name in ("endpoint_url", "region_name") if connection.extra.get(name)
        }
        given: dict[str, Any] = {"key": connection.login, "secret": connection.password, "client_kwargs": client}
    elif scheme in _AZURE:
        given = {"account_name": connection.login, "account_key": connection.password}
    elif scheme in _GOOGLE:
        given = {"token": extra.pop("keyfile_dict", None) or connection.password}
    elif scheme in _HOSTS:
        given = {"username": connection.login, "password": connection.password, "port": connection.port}
    else:
        given, extra = {}, dict(connection.extra)
    return {**{name: value for name, value in given.items() if value}, **extra}
