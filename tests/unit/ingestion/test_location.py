from __future__ import annotations

from pathlib import Path

import pytest

from millrace.errors import SourceError
from millrace.ingestion.location import locate


def test_a_relative_path_starts_at_the_root(tmp_path: Path) -> None:
    (tmp_path / "a.csv").touch()
    assert locate("a.csv", tmp_path) == tmp_path / "a.csv"


def test_an_absolute_path_and_a_file_uri_are_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "with space.csv"
    path.touch()
    assert locate(str(path), Path("/")) == path
    assert locate(path.as_uri(), Path("/")) == path


def test_a_file_of_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "shipped_data"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "a.csv").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert locate("package://shipped_data/a.csv", Path("/")) == package / "a.csv"


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
    with pytest.raises(SourceError, match="does not read s3:// addresses"):
        locate("s3://bucket/a.csv", tmp_path)
