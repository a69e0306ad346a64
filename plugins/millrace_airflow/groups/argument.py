"""What one task of a chain takes from another: told where the DAG file is read, not where the task runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from millrace.errors import SpecError


class Step:
    """A method of a DAG file that takes tasks.

    Args:
        call: the method as it is written, such as `check_gates(evaluation)`.
        owner: attribute of its tasks that names whose they are: `use_case` or `domain`.
        name: of that use case or domain.
    """

    def __init__(self, call: str, *, owner: str, name: str) -> None:
        self.call, self.owner, self.name = call, owner, name

    def require(self, given: Any, made_by: str, *kinds: type) -> None:
        """Refuse what is not a task of one of the kinds, of this use case or domain.

        Args:
            given: what the DAG file handed on.
            made_by: the method that makes such a task, for people.
            kinds: classes of operators; mapped or not.

        Raises:
            SpecError: names what was given and what is needed.
        """
        kind = getattr(given, "operator_class", type(given))
        if not (isinstance(kind, type) and issubclass(kind, kinds)):
            task = getattr(given, "task_id", "") or getattr(getattr(given, "operator", None), "task_id", "")
            raise self._refusal(f"task {task!r}" if task else f"{given!r}", made_by)
        owner = getattr(given, "partial_kwargs", {}).get(self.owner) or getattr(given, self.owner, "")
        if owner != self.name:
            raise self._refusal(f"task {given.task_id!r} of {owner!r}", made_by)

    def require_all(self, given: Any, made_by: str, *kinds: type) -> None:
        """The same for a list, in which at least one must stand.

        Raises:
            SpecError: names what was given and what is needed.
        """
        if not isinstance(given, Iterable) or not (tasks := list(given)):
            raise self._refusal(f"{given!r}", made_by)
        for task in tasks:
            self.require(task, made_by, *kinds)

    def _refusal(self, given: str, made_by: str) -> SpecError:
        return SpecError(
            f"{self.call} was given {given}",
            where=f"DAG file of {self.name!r}: {self.call}",
            remedy=f"hand on what {made_by} of {self.name!r} returns",
        )
