from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from millrace.governance import git_tree as module
from millrace.governance.git_tree import git_tree


def git(root: Path, *argv: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "safe.directory=*"]
    return subprocess.run(
        ["git", *identity, "-C", str(root), *argv], check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "a checkout"
    for name in ("dags", "include", "docs"):
        (root / name).mkdir(parents=True)
    (root / "dags" / "flights.py").write_text("x = 1\n")
    (root / "constraints.txt").write_text("a==1\n")
    (root / ".gitignore").write_text("var/\n__pycache__/\n")
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "first")
    return root


def test_a_committed_checkout_is_clean_and_named_by_its_commit(checkout: Path) -> None:
    tree = git_tree(checkout)
    assert (tree.state, tree.commit, tree.changed) == ("clean", git(checkout, "rev-parse", "HEAD"), [])


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("dags/flights.py", "dirty"),
        ("dags/new ä file.py", "dirty"),
        ("constraints.txt", "dirty"),
        ("feature_repo/deep/er.py", "dirty"),
        ("docs/page.md", "clean"),
        ("README.md", "clean"),
        ("var/state.db", "clean"),
        ("dags/__pycache__/flights.pyc", "clean"),
    ],
)
def test_only_what_decides_results_makes_it_dirty(checkout: Path, path: str, state: str) -> None:
    (checkout / path).parent.mkdir(parents=True, exist_ok=True)
    (checkout / path).write_text("changed")
    tree = git_tree(checkout)
    assert tree.state == state
    assert tree.changed == ([path] if state == "dirty" else [])
    assert tree.commit


def test_a_staged_rename_counts_once(checkout: Path) -> None:
    git(checkout, "mv", "dags/flights.py", "dags/renamed.py")
    assert git_tree(checkout).changed == ["dags/renamed.py"]


def test_a_repository_without_a_commit_is_dirty(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    tree = git_tree(tmp_path)
    assert (tree.state, tree.commit) == ("dirty", "")


@pytest.mark.parametrize("missing", [False, True])
def test_without_a_repository_or_a_folder_git_says_nothing(tmp_path: Path, missing: bool) -> None:
    tree = git_tree(tmp_path / "nowhere" if missing else tmp_path)
    assert (tree.state, tree.commit) == ("none", "")
    assert tree.describe() == "not under git"


def test_without_git_nothing_is_said(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(checkout))
    assert git_tree(checkout).state == "none"


def test_a_git_that_hangs_is_not_waited_for(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "git"
    fake.write_text("#!/bin/sh\nexec /bin/sleep 3600\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(module, "_SECONDS", 0.3)
    assert git_tree(checkout).state == "none"


def test_a_hooks_environment_does_not_lead_elsewhere(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert git_tree(checkout).state == "clean"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_checkout_of_another_owner_is_read(checkout: Path) -> None:
    for path in (checkout, *checkout.rglob("*")):
        os.chown(path, 65534, 65534)
    assert git_tree(checkout).state == "clean"
