"""Approval: people are asked in Airflow, their answers go to the ledger, and stale evidence is made anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.artifact import Verdict
from millrace.errors import ReleaseRefusedError
from millrace.governance.requester import SYSTEM
from millrace.settings import Settings, settings
from millrace.spec import PolicySpec, UseCaseSpec, load_policy, load_use_case
from millrace_airflow.assets import retrain_request_of
from millrace_airflow.lineage import Lineage, asset, document, package
from millrace_airflow.links import EVIDENCE, ModelCardLink, RunbookLink
from millrace_airflow.operators.base import UseCaseOperator, acting_user, handed_on, tell_verdict
from millrace_airflow.retry import RETRIES, RETRY_POLICY
from millrace_airflow.triggers.kept_answer import KeptAnswerTrigger

if TYPE_CHECKING:
    from millrace.governance.approval_request import Asking, Response
    from millrace.governance.approval_round import ApprovalRound

_STALE = "stale"
_FROM_API = "from_rest_api"
_MOST_REQUESTS = 1000
_SOON = timedelta(seconds=1)
_KEPT_WITHIN = timedelta(minutes=5)


class AskAgainError(Exception):
    """The answer does not count, or there was none in time: the next attempt is a new request."""


class RequestApprovalOperator(ApprovalOperator):
    """Ask a person. The task waits without holding a worker; every request and every answer goes to the ledger.

    An answer that does not count (an owner's, the requester's, one person's second) fails the attempt, and the next
    attempt asks again. A rejection fails the task, and with it the run.

    Args:
        use_case: name of the use case's spec.
        evaluation: what `EvaluateCandidatesOperator` returned; what the person judges.
        verdict: what `CheckGatesOperator` returned.
        again: whether the run evaluates again by itself where the evidence went stale.
    """

    template_fields: Sequence[str] = ("subject", "use_case", "evaluation", "verdict")
    operator_extra_links: ClassVar[Sequence[Any]] = (ModelCardLink(), RunbookLink())
    ui_color: ClassVar[str] = "#fdf3d8"

    def __init__(
        self,
        *,
        use_case: str,
        evaluation: Any,
        verdict: Any,
        timeout_hours: float,
        again: bool = True,
        **kwargs: Any,
    ) -> None:
        asks = {"retries": _MOST_REQUESTS, "retry_policy": ASK_AGAIN}
        super().__init__(
            fail_on_reject=True, response_timeout=timedelta(hours=timeout_hours), **{**RETRIES, **kwargs, **asks}
        )
        self.use_case = use_case
        self.evaluation = evaluation
        self.verdict = verdict
        self.again = again
        self.links: dict[str, str] = {}
        self.lineage = Lineage()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What OpenLineage's provider asks a custom operator for."""
        return self.lineage.to_openlineage()

    def execute(self, context: Any) -> Any:
        """Write the request to the ledger and wait; where this run has the answer already, return it.

        Where an earlier attempt asked and the ledger has no answer, Airflow is asked for it first: asking again would
        throw it away.

        Raises:
            ReleaseRefusedError: the ledger has no passing verdict on this, or nobody knows who started the run.
            StaleEvidenceError: the champion changed since the evaluation: nobody is asked.
        """
        asked = round_of(context, settings(), self.use_case, self.evaluation)
        if asked.is_open(self.task_id):
            self.defer(
                trigger=KeptAnswerTrigger(ti_id=str(context["ti"].id)),
                method_name="execute_kept",
                timeout=_KEPT_WITHIN,
            )
        return self._ask(context, asked)

    def execute_kept(self, context: Any, event: dict[str, Any]) -> Any:
        """Write down the answer that Airflow kept, if there is one; where it does not settle the request, ask again.

        Raises:
            AirflowFailException: it was a rejection.
        """
        asked = round_of(context, settings(), self.use_case, self.evaluation)
        response = _kept(event)
        asking = asked.unheard(self.task_id, response) if response else None
        if asking is not None:
            outcome = asked.close(asking, response, now=datetime.now(UTC))
            tell_verdict(context, outcome.sentence)
            if outcome.decision == "rejected":
                raise AirflowFailException(outcome.sentence)
        return self._ask(context, asked)

    def _ask(self, context: Any, asked: ApprovalRound) -> Any:
        from millrace.step.approval import noting_stale, request_approval

        verdict = Verdict.from_dict(handed_on(self.verdict, "verdict of the gates"))
        card, now = self._link_card(), datetime.now(UTC)
        with noting_stale(asked, again=self.again):
            opened = request_approval(asked, self._asking(context), verdict, card=card, now=now)
        if (settled := opened.request.settled) is not None:
            self.log.info("answered already: entry %d, by %s", settled.seq, settled.actor)
            return {"decision": "approved", "name": settled.actor, "entry": settled.seq}
        self.body = opened.body
        self.response_timeout = max(opened.request.due - now, _SOON)
        return super().execute(context)

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Hand on what became of the request.

        Raises:
            AirflowFailException: rejected by a person, or by the policy since nobody answered in time.
            AskAgainError: the answer does not count.
        """
        self._link_card()
        asked = round_of(context, settings(), self.use_case, self.evaluation)
        outcome = asked.close(self._asking(context), _response(event), now=datetime.now(UTC))
        tell_verdict(context, outcome.sentence)
        self.hitl_summary_extra["approved"] = outcome.decision == "approved"
        if outcome.decision == "rejected":
            raise AirflowFailException(outcome.sentence)
        if outcome.decision != "approved":
            raise AskAgainError(outcome.sentence)
        return outcome.to_dict()

    def _asking(self, context: Any) -> Asking:
        from millrace.governance.approval_request import Asking

        return Asking(task=self.task_id, attempt=context["ti"].try_number)

    def _link_card(self) -> str:
        address = f"{EVIDENCE}/{handed_on(self.evaluation, 'evaluation')['evidence']}.html"
        self.links["Model card"] = address
        note_judged(self.lineage, self.use_case, self.evaluation)
        return address


ASK_AGAIN = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=AskAgainError,
            action=RetryAction.RETRY,
            retry_delay=_SOON,
            reason="the answer does not count; a new request is open",
        ),
        *RETRY_POLICY.rules,
        RetryRule(exception=Exception, action=RetryAction.FAIL, reason="asking again would not mend it"),
    ]
)
"""As for every task, besides that an answer which does not count opens a new request, as often as it takes."""


class ApproveReleaseOperator(UseCaseOperator):
    """Ask the ledger whether the release is allowed: by as many people as the policy wants, or by the policy itself.

    Args:
        evaluation: what `EvaluateCandidatesOperator` returned.
        verdict: what `CheckGatesOperator` returned.
        again: whether the run evaluates again by itself where the evidence went stale.
    """

    template_fields: Sequence[str] = ("use_case", "partition", "evaluation", "verdict")

    def __init__(self, *, evaluation: Any, verdict: Any, again: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.evaluation = evaluation
        self.verdict = verdict
        self.again = again

    def execute(self, context: Any) -> dict[str, Any]:
        """Return the approval."""
        from millrace.step.approval import grant_approval, noting_stale

        asked = round_of(context, self.settings, self.use_case, self.evaluation)
        with noting_stale(asked, again=self.again):
            approval = grant_approval(asked, Verdict.from_dict(handed_on(self.verdict, "verdict of the gates")))
        note_judged(self.lineage, self.use_case, self.evaluation)
        self.lineage.outputs.append(
            document("ledger", f"{self.use_case}/approved", str(max(approval.entries, default="")))
        )
        tell_verdict(context, f"approved by {', '.join(approval.approvers)}")
        return approval.to_dict()


class RequestEvaluationOperator(UseCaseOperator):
    """Ask for a new run of the same partition where this one ended on stale evidence; skipped where it did not."""

    def execute(self, context: Any) -> str:
        """Return the partition that is evaluated again.

        Raises:
            AirflowSkipException: the evidence is not stale, or evaluating it again would change nothing.
        """
        from millrace.governance.approval_round import stale_in

        use_case = self.use_case_spec()
        stale = stale_in(self.settings, use_case, run_of(context))
        if stale is None:
            raise AirflowSkipException("no evidence of this run went stale in a way that a new evaluation mends")
        key = self.partition_key()
        sentence = f"stale: {stale.payload['sentence']}; {key} is evaluated again"
        events = context["outlet_events"][retrain_request_of(use_case)]
        events.add_partitions(key)
        events.extra.update({"reasons": [sentence], _STALE: stale.seq})
        self.lineage.inputs.append(document("ledger", f"{self.use_case}/{stale.kind}", str(stale.seq)))
        self.lineage.outputs.append(asset(use_case.retrain_asset, key))
        tell_verdict(context, sentence)
        return key


def note_judged(lineage: Lineage, use_case: str, evaluation: Any) -> None:
    """Note what people judge, for OpenLineage: a package and the evidence on it."""
    from millrace.evaluation.base import Evaluation

    judged = Evaluation.from_dict(handed_on(evaluation, "evaluation"))
    lineage.inputs += [package(judged.challenger), document("evidence", use_case, judged.evidence)]


def run_of(context: Mapping[str, Any]) -> str:
    """The DAG run, as the ledger tells one request from the next."""
    return f"{context['dag_run'].dag_id}/{context['dag_run'].run_id}"


def _started_by(context: Mapping[str, Any], here: Settings, use_case: UseCaseSpec, *, people: bool) -> str:
    """Who started the run, or the run whose stale evidence it was started for; `system` for nobody.

    What an event says of a person is believed of none: it names an entry of the ledger, and that names the person.

    Raises:
        ReleaseRefusedError: an event came in by Airflow's API, and people are asked: its sender is not known.
    """
    from millrace.governance.ledger import Ledger

    name = acting_user(context)
    events = context.get("triggering_asset_events") or {}
    extras = [event.extra or {} for asset in events for event in events[asset]]
    if name != SYSTEM:
        return name
    if people and any(extra.get(_FROM_API) for extra in extras):
        raise ReleaseRefusedError(
            "nobody knows who started this run: an asset event sent to Airflow's API did, and that bears no name",
            where=f"approval of {use_case.name}, run {run_of(context)}",
            remedy=f"trigger the DAG {context['dag_run'].dag_id} for the partition instead: that bears yours",
        )
    named = {extra.get(_STALE) for extra in extras} - {None}
    if named:
        for entry in Ledger(here).entries(use_case.name, kinds=("approval_stale",)):
            if entry.seq in named and entry.payload.get("started_by"):
                return str(entry.payload["started_by"])
    return name


def round_of(context: Mapping[str, Any], here: Settings, use_case: str, evaluation: Mapping[str, Any]) -> ApprovalRound:
    """What this run asks people about one evaluation, under the specs as they stand now.

    Raises:
        ReleaseRefusedError: the policy asks people, and nobody knows who started the run.
    """
    from millrace.evaluation.base import Evaluation
    from millrace.governance.approval_round import ApprovalRound
    from millrace.governance.requester import requester_of

    spec: UseCaseSpec = load_use_case(here.dags, use_case)
    policy: PolicySpec = load_policy(here.dags, spec.tier)
    started_by = _started_by(context, here, spec, people=policy.approvals > 0)
    return ApprovalRound(
        settings=here,
        use_case=spec,
        policy=policy,
        proposal=Evaluation.from_dict(handed_on(evaluation, "evaluation")),
        run=run_of(context),
        requester=requester_of(spec, started_by, settings=here),
    )


def _kept(event: Mapping[str, Any]) -> Response | None:
    """What Airflow kept of an answer to an earlier attempt; None where there was none."""
    if not event.get("responded_at"):
        return None
    return _response({**event, "responded_at": datetime.fromisoformat(event["responded_at"])})


def _response(event: Mapping[str, Any]) -> Response | None:
    """What Airflow recorded; None where nobody answered in time."""
    from millrace.governance.approval_request import Response

    if event.get("error_type") == "timeout" or event.get("timedout"):
        return None
    user, chosen = event.get("responded_by_user") or {}, list(event.get("chosen_options") or [])
    decided = {ApprovalOperator.APPROVE: True, ApprovalOperator.REJECT: False}
    answered = event.get("responded_at")
    return Response(
        name=str(user.get("name") or user.get("id") or ""),
        approves=decided.get(chosen[0]) if len(chosen) == 1 else None,
        comment=str((event.get("params_input") or {}).get("comment") or ""),
        at=answered if isinstance(answered, datetime) else datetime.now(UTC),
    )
