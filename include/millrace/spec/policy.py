"""A policy: which gates a risk tier must pass, and who must approve."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from millrace.spec.base import Name, Spec


class GateSpec(Spec):
    """One gate by its kind, with its arguments.

    Attributes:
        kind: name of the gate's implementation.
        id: name in verdicts, where one kind stands twice.
        args: arguments of the kind.
    """

    kind: Name
    id: str = ""
    args: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """`id`, or the kind."""
        return self.id or self.kind


class PolicySpec(Spec):
    """Regulations as code, by risk tier.

    Attributes:
        tier: file stem; what a use case names.
        gates: every one must answer `pass`; by problem (`binary`, `multiclass`, `regression`), or `all`.
        approvals: people who must approve; 0 releases on the gates alone.
        approval_timeout_hours: how long a request waits for its answer.
        on_timeout: what an unanswered request counts as: a rejection, or nothing, so that it is asked again. Never as
            an approval.
        dirty_tree: a working tree with uncommitted changes, or none at all, is noted or refused at release.
        min_candidates: candidates that must have trained for a run to go on.
    """

    tier: Name
    description: str
    gates: dict[Literal["all", "binary", "multiclass", "regression"], list[GateSpec]]
    approvals: Literal[0, 1, 2] = 0
    approval_timeout_hours: Annotated[float, Field(gt=0)] = 72
    on_timeout: Literal["reject", "ask_again"] = "reject"
    dirty_tree: Literal["note", "refuse"] = "note"
    min_candidates: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _names_once(self) -> PolicySpec:
        for problem in ("binary", "multiclass", "regression"):
            names = [gate.name for gate in self.gates_for(problem)]
            if doubled := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"gates of one name for {problem}: {doubled}; give them an `id`")
        return self

    def gates_for(self, problem: str) -> list[GateSpec]:
        """The gates that a problem must pass."""
        return [*self.gates.get("all", []), *self.gates.get(problem, [])]  # type: ignore[call-overload]
