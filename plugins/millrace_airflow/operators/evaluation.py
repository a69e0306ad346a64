"""Evaluation: all candidates and the champion on the same rows, then the gates of the policy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

from millrace.artifact import DatasetRef, ModelRef
from millrace.errors import EvaluationError
from millrace_airflow.lineage import document, package, release_of
from millrace_airflow.links import EVIDENCE, ModelCardLink, RunbookLink
from millrace_airflow.operators.base import UseCaseOperator, tell_verdict
from millrace_airflow.operators.training import training_run

if TYPE_CHECKING:
    from millrace.evaluation.base import Evaluation

_TOLD = 1000


class EvaluateCandidatesOperator(UseCaseOperator):
    """Measure every candidate and the champion on the holdout partition; write the evidence and the model card.

    A candidate that failed to train is left out, as long as the policy's minimum number stands.

    Args:
        training_set: reference of the training set.
        candidates: references of the trained candidates, a sequence for each mapped task.
        failures: name and reason of those that were not trained, likewise.
        expected: names of the candidates that were to be trained; by default all of the use case.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "training_set", "candidates", "failures")
    operator_extra_links: ClassVar[Sequence[Any]] = (ModelCardLink(), RunbookLink())

    def __init__(
        self, *, training_set: Any, candidates: Any, failures: Any = (), expected: Sequence[str] = (), **kwargs: Any
    ) -> None:
        kwargs.setdefault("trigger_rule", "all_done")
        super().__init__(**kwargs)
        self.training_set = training_set
        self.candidates = candidates
        self.failures = failures
        self.expected = list(expected)

    def execute(self, context: Any) -> dict[str, Any]:
        """Return challenger, champion, figures and the digest of the evidence.

        Raises:
            EvaluationError: there is no training set, or fewer candidates were trained than the policy asks for.
        """
        from millrace.step.candidate import note_evaluation
        from millrace.step.evaluation import evaluate_candidates

        self._require_training_set(context)
        use_case, policy = self.use_case_spec(), self.policy_spec()
        models = [ModelRef.from_dict(item) for item in chain.from_iterable(self.candidates) if item]
        said = self._say_absent({model.candidate for model in models}, self.expected or list(use_case.candidates))
        if said:
            tell_verdict(context, said)
        if len(models) < policy.min_candidates:
            raise EvaluationError(
                f"{len(models)} of {len(use_case.candidates)} candidates were trained; "
                f"policy {policy.tier!r} asks for {policy.min_candidates}. {said}",
                where=self._where(context),
                remedy="read the logs of the failed train_candidate tasks, mend, and clear them",
            )
        training_set = DatasetRef.from_dict(self.training_set)
        self.note_read(training_set)
        evaluation = evaluate_candidates(
            use_case, self.domain_spec(), policy, training_set, models, settings=self.settings
        )
        self._note(models, evaluation)
        self.links["Model card"] = f"{EVIDENCE}/{evaluation.evidence}.html"
        note_evaluation(use_case, evaluation, settings=self.settings, run_key=training_run(context))
        return evaluation.to_dict()

    def _require_training_set(self, context: Any) -> None:
        """Name the task that failed first, where no candidate's task was ever begun."""
        if self.training_set:
            return
        cause = "" if self.partition else ": the run carries no partition"
        raise EvaluationError(
            f"build_training_set gave no training set{cause}, so no candidate was trained",
            where=self._where(context),
            remedy="read the log of build_training_set and mend what it names, then clear it with all that follows"
            if self.partition
            else "trigger the DAG anew with a partition key, such as 2013-03 or 2013-03-14, or a holdout in its form",
        )

    def _where(self, context: Any) -> str:
        run = f"run {context['run_id']}" if "run_id" in context else "a run without a partition"
        return f"use case {self.use_case!r}, {f'partition {self.partition}' if self.partition else run}"

    def _note(self, models: list[ModelRef], evaluation: Evaluation) -> None:
        self.lineage.inputs += [package(model) for model in models]
        if evaluation.champion:
            champion = {
                "use_case": self.use_case,
                "version": evaluation.champion,
                "package": evaluation.champion_package,
            }
            self.lineage.inputs.append(release_of(champion))
        self.lineage.outputs.append(document("evidence", self.use_case, evaluation.evidence))

    def _say_absent(self, trained: set[str], candidates: list[str]) -> str:
        """Which candidates are missing, and why as far as they could say ("" where none is)."""
        reasons = {
            item["candidate"]: item["reason"].splitlines()[0] for item in chain.from_iterable(self.failures) if item
        }
        absent = [name for name in candidates if name not in trained]
        told = [f"{name}: {reasons.get(name, 'its task ended without a word, see its log')}" for name in absent]
        return f"Not trained: {'; '.join(told)}" if told else ""


class CheckGatesOperator(UseCaseOperator):
    """Put the policy's gates to the evaluation. A refusal is a verdict, not an error: what follows is skipped.

    Args:
        evaluation: what `EvaluateCandidatesOperator` returned.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "evaluation")
    operator_extra_links: ClassVar[Sequence[Any]] = (ModelCardLink(), RunbookLink())

    def __init__(self, *, evaluation: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the verdict."""
        from millrace.evaluation.base import Evaluation
        from millrace.step.evaluation import check_gates

        evaluation = Evaluation.from_dict(self.evaluation)
        verdict = check_gates(self.use_case_spec(), self.policy_spec(), evaluation, settings=self.settings)
        self.links["Model card"] = f"{EVIDENCE}/{evaluation.evidence}.html"
        held = {"assertion": "gates", "success": verdict.passed, "description": "; ".join(verdict.reasons)[:_TOLD]}
        self.lineage.inputs.append(package(evaluation.challenger, assertions=[held]))
        self.lineage.inputs.append(document("evidence", self.use_case, evaluation.evidence))
        self.lineage.outputs.append(document("ledger", f"{self.use_case}/gates_evaluated"))
        return verdict.to_dict()
