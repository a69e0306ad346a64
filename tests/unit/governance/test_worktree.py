from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.governance.test_git_tree import git

from millrace.errors import RebuildError
from millrace.governance.worktree import checked_out


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "a checkout"
    folder.mkdir()
    git(folder, "init", "-q")
    for text in ("first", "second"):
        (folder / "code.py").write_text(text)
        git(folder, "add", "-A")
        git(folder, "commit", "-q", "-m", text)
    return folder


def test_an_earlier_commit_lies_beside_the_tree_while_it_is_needed(root: Path, tmp_path: Path) -> None:
    first = git(root, "rev-parse", "HEAD~1")
    (root / "code.py").write_text("not committed")
    hook = root / ".git" / "hooks" / "post-checkout"
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with checked_out(root, first, parent=tmp_path / "var" / "worktrees") as tree:
        assert (tree / "code.py").read_text() == "first"
        with checked_out(root, "HEAD", parent=tmp_path / "var" / "worktrees") as other:
            assert (other / "code.py").read_text() == "second"
    assert (root / "code.py").read_text() == "not committed"
    assert list((tmp_path / "var" / "worktrees").iterdir()) == []
    assert git(root, "worktree", "list").count("\n") == 0


def test_a_commit_that_is_not_there_is_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(RebuildError, match="cannot check the commit out"), checked_out(root, "0" * 40, parent=tmp_path):
        pass
    with pytest.raises(RebuildError), checked_out(tmp_path / "nowhere", "0" * 40, parent=tmp_path / "trees"):
        pass
    assert list((tmp_path / "trees").iterdir()) == []
