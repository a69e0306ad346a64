from __future__ import annotations

from pathlib import Path

import pytest

from millrace.errors import SpecError
from millrace.training.isolation.lock import NEEDED, canonical_lock, parse_lock, read_lock

BASE = "".join(f"{name}==1.0\n" for name in NEEDED)


def test_pins_are_read_whatever_pip_allows_around_them() -> None:
    text = (
        "# made by hand\n\nXGBoost_CPU[dask] == 2.1.4 \\\n    --hash=sha256:ab12 \\\n    --hash=sha256:cd34  # two\n"
        'tomli==2.0.1 ; python_version < "3.11"\n' + BASE
    )
    pins = parse_lock(text, where="x.txt")
    assert pins["xgboost-cpu"] == "2.1.4"
    assert pins["tomli"] == "2.0.1"
    assert len(pins) == len(NEEDED) + 2


@pytest.mark.parametrize(
    "line",
    [
        "xgboost-cpu",
        "xgboost-cpu>=2",
        "xgboost-cpu==2.*",
        "--index-url https://example.org/simple",
        "-e .",
        "-r other.txt",
        "xgboost-cpu @ https://example.org/x.whl",
        "./x.whl",
        "x==1 --global-option=--evil",
        "numpy==2.0",
    ],
)
def test_what_is_no_exact_pin_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(SpecError, match=f"line {len(NEEDED) + 1}"):
        parse_lock(f"{BASE}{line}\n", where="x.txt")


def test_a_lock_without_what_millrace_needs_names_it() -> None:
    with pytest.raises(SpecError, match="no pyarrow"):
        parse_lock(BASE.replace("pyarrow==1.0\n", ""), where="x.txt")


def test_order_comments_and_spaces_make_no_other_environment() -> None:
    other = "# later\n" + "".join(reversed([f"  {line}\n" for line in BASE.splitlines()]))
    assert canonical_lock(BASE) == canonical_lock(other)
    assert canonical_lock(BASE) != canonical_lock(BASE.replace("numpy==1.0", "numpy==1.1"))


def test_a_lock_lies_in_the_dags_folder(tmp_path: Path) -> None:
    (tmp_path / "dags" / "environments").mkdir(parents=True)
    (tmp_path / "dags" / "environments" / "a.txt").write_text(BASE)
    (tmp_path / "b.txt").write_text(BASE)
    assert read_lock(tmp_path / "dags", "environments/a.txt") == BASE
    with pytest.raises(SpecError, match="outside"):
        read_lock(tmp_path / "dags", "../b.txt")
    with pytest.raises(SpecError, match="cannot be read"):
        read_lock(tmp_path / "dags", "c.txt")


def test_a_lock_that_is_a_loop_of_links_is_an_error_of_ours(tmp_path: Path) -> None:
    (tmp_path / "loop.txt").symlink_to("loop.txt")
    for name in ("loop.txt", "a\0b.txt"):
        with pytest.raises(SpecError):
            read_lock(tmp_path, name)


def test_options_behind_a_marker_are_no_pin() -> None:
    rest = "".join(f"{name}==1\n" for name in NEEDED)
    with pytest.raises(SpecError):
        parse_lock(f"a==1 ; python_version > '3' --config-settings=x=y\n{rest}", where="here")
    assert parse_lock(f"a==1 ; python_version > '3' --hash=sha256:0a\n{rest}", where="here")["a"] == "1"
