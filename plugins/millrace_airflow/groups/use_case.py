"""The DAGs of a use case, and their tasks by name: a DAG file says in which order they stand."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, PartitionedAssetTimetable, TriggerRule, chain

from millrace.settings import settings
from millrace.spec import load_domain, load_policy, load_use_case
from millrace.step.check import require_gates
from millrace_airflow.assets import features_of, on_condition, predictions_of, retrain_request_of
from millrace_airflow.groups import text
from millrace_airflow.groups.argument import Step
from millrace_airflow.groups.form import import_form, rollback_form, training_form
from millrace_airflow.groups.request import HOLDOUT, approval_requests, evaluation_request
from millrace_airflow.groups.resource import resource_classes
from millrace_airflow.notifiers.alert import AlertNotifier
from millrace_airflow.operators.approval import ApproveReleaseOperator
from millrace_airflow.operators.base import MillraceOperator, UseCaseOperator
from millrace_airflow.operators.deployment import DeployReleaseOperator, VerifyDeploymentOperator
from millrace_airflow.operators.evaluation import CheckGatesOperator, EvaluateCandidatesOperator
from millrace_airflow.operators.governance import RegisterModelOperator, ReleaseModelOperator, RollbackReleaseOperator
from millrace_airflow.operators.importing import ImportModelOperator
from millrace_airflow.operators.monitoring import (
    DecideRetrainingOperator,
    JoinLabelsOperator,
    MeasureDriftOperator,
    MeasureFreshnessOperator,
    MeasurePerformanceOperator,
    MeasureSkewOperator,
    ReconcileRegistryOperator,
)
from millrace_airflow.operators.scoring import ScorePartitionOperator
from millrace_airflow.operators.training import FAILURE, BuildTrainingSetOperator, TrainModelOperator
from millrace_airflow.retry import RETRIES

_LONGEST = timedelta(hours=4)
_ALL = TriggerRule.ALL_SUCCESS
_UNATTENDED = {"train", "score", "monitor"}
"""DAGs that nobody watches: one alert a failed run."""
_TRAINING_SET = ("build_training_set()", BuildTrainingSetOperator)
_CANDIDATES = ("train_candidates(training_set)", TrainModelOperator, ImportModelOperator)
_EVALUATION = ("evaluate_candidates(training_set, candidates)", EvaluateCandidatesOperator)
_REGISTERED = ("register_model(evaluation, verdict)", RegisterModelOperator)
_RELEASE = ("release_model(…) or rollback_release()", ReleaseModelOperator, RollbackReleaseOperator)


class UseCaseDags:
    """DAGs and tasks of one use case.

    Args:
        name: stem of the use case's YAML; prefix of its DAG ids.
    """

    def __init__(self, name: str) -> None:
        folder = settings().dags
        self.spec = load_use_case(folder, name)
        self.domain = load_domain(folder, self.spec.domain)
        self.policy = load_policy(folder, self.spec.tier)
        require_gates(self.spec, self.domain, self.policy)

    # --- DAGs

    def train_dag(self) -> DAG:
        """`<uc>_train`: started by a request to retrain, or by a person; the partition is the holdout."""
        return self._dag(
            "train",
            schedule=PartitionedAssetTimetable(assets=retrain_request_of(self.spec)),
            description="Train the candidates, hold them against the champion and the gates, release the better one.",
            doc_md=text.train(self.spec, self.policy),
            max_active_runs=1,
            params=training_form(self.domain),
        )

    def score_dag(self) -> DAG:
        """`<uc>_score`: started by the domain's features, per partition."""
        return self._dag(
            "score",
            schedule=PartitionedAssetTimetable(assets=features_of(self.domain)),
            description="Score a partition with the release in force.",
            doc_md=text.score(self.spec),
            max_active_runs=4,
        )

    def monitor_dag(self) -> DAG:
        """`<uc>_monitor`: started by predictions, per partition."""
        return self._dag(
            "monitor",
            schedule=PartitionedAssetTimetable(assets=predictions_of(self.spec)),
            description="Join labels, measure drift and performance, decide whether to train again; put aliases back.",
            doc_md=text.monitor(self.spec),
            max_active_runs=1,
        )

    def rollback_dag(self) -> DAG:
        """`<uc>_rollback`: started by a person."""
        return self._dag(
            "rollback",
            schedule=None,
            description="Put an earlier release back in force, as a unit, and prove it on the live service.",
            doc_md=text.rollback(self.spec),
            max_active_runs=1,
            params=rollback_form(),
        )

    def import_dag(self) -> DAG:
        """`<uc>_import`: started by a person, with a model that was trained elsewhere."""
        return self._dag(
            "import",
            schedule=None,
            description="Take a model from elsewhere in, and judge it like one that is trained here.",
            doc_md=text.imports(self.spec, self.policy),
            max_active_runs=1,
            params=import_form(self.domain),
        )

    def _dag(self, kind: str, **kwargs: Any) -> DAG:
        return DAG(
            dag_id=f"{self.spec.name}_{kind}",
            start_date=self.domain.first_start,
            catchup=False,
            default_args={**RETRIES, "owner": self.spec.owners[0], "execution_timeout": _LONGEST},
            tags=["millrace", self.spec.domain, self.spec.name, kind],
            on_failure_callback=AlertNotifier(anchor=f"uc_{kind}") if kind in _UNATTENDED else None,
            **kwargs,
        )

    def _step(self, call: str) -> Step:
        return Step(call, owner="use_case", name=self.spec.name)

    def _judged(self, call: str, evaluation: Any, verdict: Any) -> Step:
        """The step, once it is told that it takes an evaluation and a verdict."""
        step = self._step(call)
        step.require(evaluation, *_EVALUATION)
        step.require(verdict, "check_gates(evaluation)", CheckGatesOperator)
        return step

    # --- tasks of training

    def build_training_set(self) -> BuildTrainingSetOperator:
        """Labels and features, point in time."""
        return BuildTrainingSetOperator(task_id="build_training_set", use_case=self.spec.name, partition=HOLDOUT)

    def import_model(self, training_set: BuildTrainingSetOperator) -> ImportModelOperator:
        """The model from elsewhere that the run was started with."""
        self._step("import_model(training_set)").require(training_set, *_TRAINING_SET)
        return ImportModelOperator(
            task_id="import_model",
            use_case=self.spec.name,
            partition=HOLDOUT,
            source="{{ params.source }}",
            signature="{{ params.signature | tojson }}",
            training_set=training_set.output,
        )

    def train_beside(self, training_set: BuildTrainingSetOperator) -> list[Any]:
        """The candidates that an imported model is compared with: baselines, and as many as the policy asks for."""
        return self.train_candidates(training_set, only=text.beside_import(self.spec, self.policy))

    def train_candidates(self, training_set: BuildTrainingSetOperator, *, only: Sequence[str] = ()) -> list[Any]:
        """One mapped task a candidate, in one operator for each class of resources.

        Airflow maps arguments, never a queue, a pool or an executor's configuration.

        Args:
            training_set: the task that builds it.
            only: candidates to train; all where none is named.
        """
        self._step("train_candidates(training_set)").require(training_set, *_TRAINING_SET)
        candidates = {name: spec for name, spec in self.spec.candidates.items() if not only or name in only}
        return [
            TrainModelOperator.partial(
                task_id=needs.task_id,
                use_case=self.spec.name,
                partition=HOLDOUT,
                training_set=training_set.output,
                map_index_template="{{ candidate }}",
                **needs.arguments,
            ).expand(candidate=list(needs.candidates))
            for needs in resource_classes(candidates, longest=_LONGEST)
        ]

    def evaluate_candidates(
        self, training_set: BuildTrainingSetOperator, candidates: list[Any]
    ) -> EvaluateCandidatesOperator:
        """All candidates and the champion on the holdout; without an imported model there is nothing to evaluate."""
        step = self._step("evaluate_candidates(training_set, candidates)")
        step.require(training_set, *_TRAINING_SET)
        step.require_all(candidates, *_CANDIDATES)
        imported = [task for task in candidates if isinstance(task, ImportModelOperator)]
        trained = [task for task in candidates if not isinstance(task, ImportModelOperator)]
        return EvaluateCandidatesOperator(
            task_id="evaluate_candidates",
            use_case=self.spec.name,
            partition=HOLDOUT,
            training_set=training_set.output,
            candidates=[*([task.output] for task in imported), *(task.output for task in trained)],
            failures=[task.output[FAILURE] for task in trained],
            **({"expected": text.beside_import(self.spec, self.policy), "trigger_rule": _ALL} if imported else {}),
        )

    def check_gates(self, evaluation: EvaluateCandidatesOperator) -> CheckGatesOperator:
        """The policy's gates."""
        self._step("check_gates(evaluation)").require(evaluation, *_EVALUATION)
        return CheckGatesOperator(
            task_id="check_gates", use_case=self.spec.name, partition=HOLDOUT, evaluation=evaluation.output
        )

    def register_model(
        self, evaluation: EvaluateCandidatesOperator, verdict: CheckGatesOperator
    ) -> RegisterModelOperator:
        """The challenger in MLflow; skipped with all that follows where the gates refused."""
        self._judged("register_model(evaluation, verdict)", evaluation, verdict)
        return RegisterModelOperator(
            task_id="register_model",
            use_case=self.spec.name,
            partition=HOLDOUT,
            evaluation=evaluation.output,
            verdict=verdict.output,
        )

    def approve_release(
        self,
        evaluation: EvaluateCandidatesOperator,
        verdict: CheckGatesOperator,
        registered: RegisterModelOperator,
        *,
        again: bool = True,
    ) -> ApproveReleaseOperator:
        """As many people as the policy asks for, one after the other; then the ledger is asked whether they allow it.

        Args:
            evaluation: the task that made the evidence.
            verdict: the task that held it against the gates.
            registered: the task that registered the challenger.
            again: whether evidence that went stale while people were asked is made anew by itself.
        """
        step = self._judged("approve_release(evaluation, verdict, registered)", evaluation, verdict)
        step.require(registered, *_REGISTERED)
        requests = approval_requests(self.spec, self.policy, evaluation, verdict, again=again)
        approval = ApproveReleaseOperator(
            task_id="approve_release",
            use_case=self.spec.name,
            partition=HOLDOUT,
            evaluation=evaluation.output,
            verdict=verdict.output,
            again=again,
        )
        chain(registered, *requests, approval)
        return approval

    def release_model(
        self,
        evaluation: EvaluateCandidatesOperator,
        verdict: CheckGatesOperator,
        registered: RegisterModelOperator,
        approval: ApproveReleaseOperator,
        *,
        again: bool = True,
    ) -> ReleaseModelOperator:
        """The challenger becomes the champion; where its evidence went stale, a new run for the partition is asked for.

        Args:
            evaluation: the task that made the evidence.
            verdict: the task that held it against the gates.
            registered: the task that registered the challenger.
            approval: the task that asked whether it is allowed.
            again: whether stale evidence is made anew by itself; the same as of the approval.
        """
        step = self._judged("release_model(evaluation, verdict, registered, approval)", evaluation, verdict)
        step.require(registered, *_REGISTERED)
        step.require(approval, "approve_release(…)", ApproveReleaseOperator)
        release = ReleaseModelOperator(
            task_id="release_model",
            use_case=self.spec.name,
            partition=HOLDOUT,
            evaluation=evaluation.output,
            verdict=verdict.output,
            registered=registered.output,
            approval=approval.output,
            again=again,
        )
        if again:
            release >> evaluation_request(self.spec)
        return release

    # --- tasks of deployment and rollback

    def deploy_release(self, release: ReleaseModelOperator | RollbackReleaseOperator) -> DeployReleaseOperator:
        """The online service loads the release in force."""
        self._step("deploy_release(release)").require(release, *_RELEASE)
        return DeployReleaseOperator(task_id="deploy_release", use_case=self.spec.name, release=release.output)

    def verify_deployment(self) -> VerifyDeploymentOperator:
        """Golden rows against the live service."""
        return VerifyDeploymentOperator(task_id="verify_deployment", use_case=self.spec.name)

    def rollback_release(self) -> RollbackReleaseOperator:
        """An earlier release back in force."""
        return RollbackReleaseOperator(
            task_id="rollback_release",
            use_case=self.spec.name,
            version="{{ params.version or '' }}",
            reason="{{ params.reason }}",
        )

    # --- tasks of scoring and monitoring

    def score_partition(self) -> ScorePartitionOperator:
        """Predictions of the release in force; announced where there are any."""
        return ScorePartitionOperator(
            task_id="score_partition",
            use_case=self.spec.name,
            outlets=[on_condition(predictions_of(self.spec))],
        )

    def join_labels(self) -> JoinLabelsOperator:
        """Predictions with the labels that arrived."""
        return JoinLabelsOperator(task_id="join_labels", use_case=self.spec.name)

    def measure_drift(self) -> MeasureDriftOperator:
        """Against the release's reference."""
        return MeasureDriftOperator(task_id="measure_drift", use_case=self.spec.name)

    def measure_performance(self) -> MeasurePerformanceOperator:
        """On the labels that arrived."""
        return MeasurePerformanceOperator(task_id="measure_performance", use_case=self.spec.name)

    def measure_freshness(self) -> MeasureFreshnessOperator:
        """Of the views in the online store, against their objectives."""
        return MeasureFreshnessOperator(task_id="measure_freshness", use_case=self.spec.name)

    def measure_skew(self) -> MeasureSkewOperator:
        """Of sampled online rows, against the lake as of the same instant."""
        return MeasureSkewOperator(task_id="measure_skew", use_case=self.spec.name)

    def reconcile_registry(self) -> ReconcileRegistryOperator:
        """What names the champion, held against the ledger and put back; nothing waits for it."""
        return ReconcileRegistryOperator(task_id="reconcile_registry", use_case=self.spec.name)

    def decide_retraining(
        self, drift: MeasureDriftOperator, performance: MeasurePerformanceOperator, *beside: MillraceOperator
    ) -> DecideRetrainingOperator:
        """Yes or no, with reasons; a yes is announced and starts `<uc>_train`.

        Args:
            drift: the task that measured it.
            performance: the task that measured it.
            beside: tasks that return `reasons`, which are named and decide nothing.
        """
        step = self._step("decide_retraining(drift, performance)")
        step.require(drift, "measure_drift()", MeasureDriftOperator)
        step.require(performance, "measure_performance()", MeasurePerformanceOperator)
        for task in beside:
            step.require(task, "measure_freshness() or measure_skew()", UseCaseOperator)
        return DecideRetrainingOperator(
            task_id="decide_retraining",
            use_case=self.spec.name,
            drift=drift.output,
            performance=performance.output,
            beside=[task.output for task in beside],
            outlets=[on_condition(retrain_request_of(self.spec))],
        )
