"""Gates: one file each in `gates/`, found by name. A gate answers from the evidence bundle alone."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, ValidationError

from millrace.artifact import Outcome
from millrace.errors import SpecError
from millrace.evaluation import gates
from millrace.evaluation.evidence import Evidence
from millrace.spec.policy import GateSpec, PolicySpec
from millrace.spec.use_case import Problem, UseCaseSpec


class Answer(BaseModel):
    """What a gate says.

    Attributes:
        gate: its name in the policy.
        numbers: the figures that decided.
        sentence: the same for people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    gate: str = ""
    kind: str = ""
    outcome: Outcome
    numbers: dict[str, float] = {}
    sentence: str


class Gate(BaseModel, ABC):
    """The base of all gates; its fields are the arguments that a policy may give.

    Attributes:
        problems: problems the gate can answer for.
        shared: arguments that all gates of the kind must have alike, since the evidence is measured once by them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
    problems: ClassVar[tuple[Problem, ...]] = ("binary", "multiclass", "regression")
    shared: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def answer(self, evidence: Evidence) -> Answer:
        """Judge the challenger of a bundle."""

    def check(self, use_case: UseCaseSpec) -> str:
        """What in these arguments does not fit a use case; "" where all does."""
        return "" if use_case.problem in self.problems else f"it answers for {' and '.join(self.problems)} only"


def gate_kinds() -> list[str]:
    """Names of the gates there are."""
    return sorted(item.name for item in pkgutil.iter_modules(gates.__path__))


def load_gates(policy: PolicySpec, use_case: UseCaseSpec) -> list[tuple[GateSpec, Gate]]:
    """The gates a use case must pass: those of its policy, then its own.

    Raises:
        SpecError: a kind is unknown, an argument is wrong or a name stands twice; names file, key and remedy.
    """
    found, faults = _load_all(policy, use_case)
    if faults:
        raise SpecError(
            "; ".join(item.what for item in faults),
            where="; ".join(item.where for item in faults),
            remedy="; ".join(dict.fromkeys(item.remedy for item in faults)),
        )
    return found


def check_policy(policy: PolicySpec, use_case: UseCaseSpec) -> list[str]:
    """What is wrong with the gates of a policy or a use case, one text a fault; empty where nothing is."""
    return [str(fault) for fault in _load_all(policy, use_case)[1]]


def _load_all(policy: PolicySpec, use_case: UseCaseSpec) -> tuple[list[tuple[GateSpec, Gate]], list[SpecError]]:
    found: list[tuple[GateSpec, Gate]] = []
    faults: list[SpecError] = []
    for where, spec in _declared(policy, use_case):
        try:
            if spec.name in {known.name for known, _ in found}:
                raise SpecError(f"a second gate {spec.name!r}", where=where, remedy="give it an `id` of its own")
            gate = _load(spec, use_case, where)
            _require_alike(spec, gate, [other for _, other in found], where)
            found.append((spec, gate))
        except SpecError as fault:
            faults.append(fault)
    return found, faults


def _require_alike(spec: GateSpec, gate: Gate, others: list[Gate], where: str) -> None:
    for other in others:
        if type(other) is type(gate):
            for name in gate.shared:
                if (known := getattr(other, name)) != getattr(gate, name):
                    raise SpecError(
                        f"gate {spec.name!r}: {name} is {getattr(gate, name)}, another gate of its kind has {known}",
                        where=f"{where}.args.{name}",
                        remedy=f"write {name}: {known}",
                    )


def _declared(policy: PolicySpec, use_case: UseCaseSpec) -> list[tuple[str, GateSpec]]:
    found = []
    for problem in ("all", use_case.problem):
        for position, spec in enumerate(policy.gates.get(problem, [])):
            found.append((f"policies/{policy.tier}.yaml: gates.{problem}.{position}", spec))
    for position, spec in enumerate(use_case.gates):
        found.append((f"use_cases/{use_case.name}.yaml: gates.{position}", spec))
    return found


def check_gates_of(policy: PolicySpec) -> list[str]:
    """What is wrong with a policy's gates whatever the use case: kinds, arguments, problems they answer for."""
    faults = []
    for problem, specs in policy.gates.items():
        for position, spec in enumerate(specs):
            where = f"policies/{policy.tier}.yaml: gates.{problem}.{position}"
            try:
                gate = _build(spec, where)
            except SpecError as fault:
                faults.append(str(fault))
                continue
            if problem != "all" and problem not in gate.problems:
                what = f"gate {spec.name!r} answers for {' and '.join(gate.problems)} only"
                faults.append(str(SpecError(what, where=f"{where}.kind", remedy="move it to a problem of these")))
    return faults


def _load(spec: GateSpec, use_case: UseCaseSpec, where: str) -> Gate:
    gate = _build(spec, where)
    if fault := gate.check(use_case):
        raise SpecError(
            f"gate {spec.name!r} does not fit use case {use_case.name!r}: {fault}",
            where=f"{where}.args" if use_case.problem in gate.problems else f"{where}.kind",
            remedy="correct the argument, or take the gate out",
        )
    return gate


def _build(spec: GateSpec, where: str) -> Gate:
    kinds = gate_kinds()
    if spec.kind not in kinds:
        near = difflib.get_close_matches(spec.kind, kinds, n=1)
        raise SpecError(
            f"no gate of kind {spec.kind!r}",
            where=f"{where}.kind",
            remedy=f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(kinds)}",
        )
    kind: type[Gate] = importlib.import_module(f"{gates.__name__}.{spec.kind}").GATE
    try:
        return kind.model_validate(spec.args)
    except ValidationError as error:
        raise _explain(spec, kind, where, error) from error


def _explain(spec: GateSpec, kind: type[Gate], where: str, error: ValidationError) -> SpecError:
    faults, places, remedies = [], [], []
    for fault in error.errors():
        key = ".".join(str(part) for part in fault["loc"]) or "(all)"
        places.append(f"{where}.args.{key}")
        if fault["type"] == "extra_forbidden":
            known = list(kind.model_fields)
            near = difflib.get_close_matches(key, known, n=1)
            faults.append(f"gate {spec.kind!r} has no argument {key!r}")
            remedies.append(f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(known) or 'none'}")
        elif fault["type"] == "missing":
            faults.append(f"gate {spec.kind!r} needs the argument {key!r}")
            remedies.append(f"add `{key}: …` to its args")
        else:
            faults.append(f"gate {spec.kind!r}, {key}: {fault['msg']} (is {fault['input']!r})")
            remedies.append(f"correct {key!r}")
    return SpecError("; ".join(faults), where="; ".join(places), remedy="; ".join(dict.fromkeys(remedies)))
