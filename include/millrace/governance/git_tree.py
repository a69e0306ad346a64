"""Which commit the code is at, and whether what decides results was changed since. It never raises."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from millrace.artifact import PlainValue

log = logging.getLogger(__name__)
PATHS: tuple[str, ...] = ("dags", "include", "plugins", "feature_repo", "constraints.txt")
"""What decides results. Anything else in the checkout may be as it likes."""
_SECONDS = 5.0
_NAMED = 20
_GIT = (
    "git",
    "--no-optional-locks",
    # A checkout of another owner (a mounted volume) is read too: its code runs in this very process already.
    *("-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GitTree(PlainValue):
    """The state of a working tree.

    Attributes:
        state: `clean`, `dirty`, or `none` where git cannot say.
        commit: hash of the commit checked out ("" where there is none).
        changed: paths that differ from it, the first 20.
    """

    state: Literal["clean", "dirty", "none"]
    commit: str = ""
    changed: list[str] = field(default_factory=list)

    def describe(self) -> str:
        """For a sentence that starts `a working tree that is`."""
        if self.state == "none":
            return "not under git"
        return self.state + (f" ({', '.join(self.changed[:5])})" if self.changed else "")


def git_tree(root: Path) -> GitTree:
    """The state of the checkout at `root`; `none` without git, without a repository, or after 5 seconds."""
    end = time.monotonic() + _SECONDS
    try:
        status = _git(root, end, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--", *PATHS)
        head = _git(root, end, "rev-parse", "--verify", "--quiet", "HEAD", check=False)
    except (OSError, subprocess.SubprocessError) as error:
        log.info("git says nothing about %s: %s", root, error)
        return GitTree(state="none")
    changed = _paths(status)
    commit = head.strip()
    return GitTree(state="dirty" if changed or not commit else "clean", commit=commit, changed=sorted(changed)[:_NAMED])


def run_git(root: Path, seconds: float, *options: str, argv: Sequence[str], check: bool = True) -> str:
    """Run git on a checkout, whoever owns it; what it printed.

    Args:
        root: the checkout.
        seconds: how long it may take.
        options: of git itself, before the command.
        argv: the command with its arguments.
        check: whether a status other than 0 is an error.

    Raises:
        OSError: there is no git.
        subprocess.SubprocessError: it failed, or took too long.
    """
    # A hook's GIT_DIR or GIT_INDEX_FILE would speak of another repository than the one at `root`.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run(
        [*_GIT, *options, "-C", str(root), *argv],
        check=check,
        capture_output=True,
        env={**environment, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        timeout=max(seconds, 0.01),
    )
    return done.stdout.decode("utf-8", "replace")


def _git(root: Path, end: float, *argv: str, check: bool = True) -> str:
    return run_git(root, end - time.monotonic(), argv=argv, check=check)


def _paths(status: str) -> list[str]:
    found, parts = [], iter(status.split("\0"))
    for part in parts:
        if part:
            found.append(part[3:])
            if part[0] in "RC":
                next(parts, None)  # the name it had before
    return found
