"""The code of an earlier commit, checked out beside the working tree for as long as it is needed."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import CalledProcessError, SubprocessError

from millrace.errors import RebuildError
from millrace.governance.git_tree import run_git

log = logging.getLogger(__name__)
_SECONDS = 120.0


@contextmanager
def checked_out(root: Path, commit: str, *, parent: Path) -> Iterator[Path]:
    """A git worktree of a commit; it is gone afterwards, and the checkout at `root` is as it was.

    Args:
        root: the checkout.
        commit: hash of the commit.
        parent: folder that the worktree is made in.

    Raises:
        RebuildError: the repository has no such commit, or git cannot make the worktree.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{commit[:12]}-", dir=parent)).resolve()
    try:
        _git(root, "worktree", "prune")
        _git(root, "worktree", "add", "--detach", "--force", str(folder), commit)
        log.info("commit %s checked out in %s", commit[:12], folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            _git(root, "worktree", "prune")
        except RebuildError as error:
            log.warning("the worktree of %s stays listed: %s", commit[:12], error)


def _git(root: Path, *argv: str) -> None:
    try:
        run_git(root, _SECONDS, "-c", "core.hooksPath=/dev/null", argv=argv)
    except CalledProcessError as error:
        told = error.stderr.decode("utf-8", "replace").strip().splitlines() or ["it said nothing"]
        raise RebuildError(
            f"git cannot check the commit out: {told[-1]}",
            where=str(root),
            remedy="fetch the branch that holds it (`git fetch --all`), or mend what git names",
        ) from error
    except (OSError, SubprocessError) as error:
        raise RebuildError(
            f"git does not answer: {error}", where=str(root), remedy="install git, or try again"
        ) from error
