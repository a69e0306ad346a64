from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.base import Connection
from millrace.ingestion.fsspec_storage import options_of
from millrace.ingestion.location import locate


def paths(uri: str, root: Path, partition: str = "2020-01") -> list[Path]:
    return [Path(file.path) for file in locate(uri, root, partition=partition)]


def test_a_relative_path_starts_at_the_root(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    assert paths("a.csv", tmp_path) == [tmp_path / "a.csv"]


def test_an_absolute_path_and_a_file_uri_are_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "with space#1.csv"
    path.touch()
    assert paths(str(path), Path("/")) == [path]
    assert paths(path.as_uri(), Path("/")) == [path]


def test_a_file_of_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shipped_data"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "a.csv").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert paths("package://shipped_data/a.csv", Path("/")) == [package / "a.csv"]
    assert paths("package://shipped_data/?.csv", Path("/")) == [package / "a.csv"]


def test_patterns_and_partitions_name_files_that_are_there(tmp_path: Path) -> None:
    for name in ("a-2020-01.csv", "a-2020-02.csv", "a-[1].csv", "b.csv"):
        (tmp_path / name).touch()
    assert [path.name for path in paths("a-*.csv", tmp_path)] == ["a-2020-01.csv", "a-2020-02.csv", "a-[1].csv"]
    assert [path.name for path in paths("a-[?].csv", tmp_path)] == ["a-[1].csv"]
    assert [path.name for path in paths("?-{partition}.csv", tmp_path)] == ["a-2020-01.csv"]
    assert [file.name for file in locate(f"file://{tmp_path}/b*", Path("/"))] == [f"file://{tmp_path}/b.csv"]
    assert paths("x{partition}.csv", tmp_path) == paths("nowhere/*.csv", tmp_path) == []


def test_a_folder_may_carry_the_partition_but_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "2020-01").mkdir()
    (tmp_path / "2020-01" / "a.csv").touch()
    assert len(paths("{partition}/*.csv", tmp_path)) == 1
    with pytest.raises(SourceError, match="a pattern in the folder's name"):
        paths("*/a.csv", tmp_path)


def test_links_of_a_pattern_that_lead_away_or_nowhere_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "secret.csv").touch()
    (folder / "loop.csv").symlink_to("loop.csv")
    with pytest.raises(SourceError, match="leads to no file"):
        paths("in/*.csv", tmp_path)
    (folder / "loop.csv").unlink()
    (folder / "a.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(SourceError, match="leads out of its folder"):
        paths("in/*.csv", tmp_path)


@pytest.mark.parametrize(
    "uri",
    [
        "package://yaml/../six.py",
        "package://yaml/x/../../six.py",
        "package://yaml/%2e%2e/six.py",
        "../a.csv",
        "x/../../a",
    ],
)
def test_a_path_that_climbs_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"climbs out of its folder with '\.\.'"):
        locate(uri, tmp_path)


def test_a_link_that_leads_out_of_a_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "linked_data"
    package.mkdir()
    (tmp_path / "secret.csv").touch()
    (package / "a.csv").symlink_to(tmp_path / "secret.csv")
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(SourceError, match="leads out of package"):
        locate("package://linked_data/a.csv", Path("/"))


@pytest.mark.parametrize(
    "uri", ["package://no_such_package_here/a.csv", "package:///etc/passwd", "package://os.path/x"]
)
def test_a_package_that_is_not_there_names_the_remedy(uri: str) -> None:
    with pytest.raises(SourceError, match="remedy: pip install"):
        locate(uri, Path("/"))


def test_an_absent_file_a_folder_and_an_unknown_scheme_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such file"):
        locate("a.csv", tmp_path)
    with pytest.raises(SourceError, match="a folder, not a file"):
        locate(str(tmp_path), Path("/"))
    with pytest.raises(SourceError, match="nothing here reads foo:// addresses"):
        locate("foo://bucket/a.csv", tmp_path)


def test_a_storage_without_its_library_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import known_implementations

    monkeypatch.setitem(known_implementations, "far", {"class": "no_such_library.Far", "err": "install far-library"})
    with pytest.raises(SourceError, match="install far-library") as caught:
        locate("far://bucket/a.csv", tmp_path)
    assert "no library for far:// addresses" in caught.value.what


def test_a_connection_is_the_options_its_storage_takes() -> None:
    extra = {"endpoint_url": "http://127.0.0.1:1", "region_name": "eu", "anon": False}
    aws = Connection(name="x", kind="aws", login="k", password="s", extra=extra)
    client = {"endpoint_url": "http://127.0.0.1:1", "region_name": "eu"}
    assert options_of("s3", aws) == {"key": "k", "secret": "s", "client_kwargs": client, "anon": False}
    assert options_of("memory", aws) == extra
    assert options_of("sftp", Connection(name="x", kind="sftp", login="u", password="p", port=22))["username"] == "u"
    assert options_of("s3", None) == {}


def test_a_storage_that_does_not_answer_is_told_without_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fsspec.implementations.memory import MemoryFileSystem

    def refuse(self: MemoryFileSystem, path: str, **_: object) -> None:
        raise ConnectionError("no answer to swordfish")

    monkeypatch.setattr(MemoryFileSystem, "info", refuse)
    connection = Connection(name="x", kind="generic", password="swordfish")
    with pytest.raises(SourceUnavailableError, match="does not answer") as caught:
        locate("memory://bucket/a.csv", tmp_path, connection=connection)
    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("uri", ["{}", "{}/a.csv", "{}/*.csv", "file:///{}/a.csv", "a{}*.csv"])
def test_a_name_that_is_too_long_is_a_source_error(tmp_path: Path, uri: str) -> None:
    try:
        found = locate(uri.format("x" * 300), tmp_path)
    except SourceError as error:
        assert "too long" in error.what
    else:
        assert (uri, found) == ("a{}*.csv", [])


@pytest.fixture
def statuses() -> Iterator[tuple[str, list[int]]]:
    """A web server that answers all requests with the last of these statuses."""
    told = [404]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response_only(told[-1])
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_HEAD = do_GET  # noqa: N815

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/a.csv", told
    server.shutdown()
    server.server_close()


def test_a_web_server_that_has_no_file_refuses_or_is_busy_is_told_apart(statuses: tuple[str, list[int]]) -> None:
    uri, told = statuses
    for status, kind, what in (
        (404, SourceError, "no such file"),
        (403, SourceError, "the storage refuses"),
        (503, SourceUnavailableError, "does not answer as it should"),
        (429, SourceUnavailableError, "does not answer as it should"),
    ):
        told.append(status)
        with pytest.raises(kind, match=what):
            locate(uri, Path("/"))


def test_a_web_server_that_is_away_asks_for_another_try() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(SourceUnavailableError, match="does not answer"):
            locate(f"http://127.0.0.1:{free.getsockname()[1]}/a.csv", Path("/"))
