"""Documentation of the DAGs of a use case, as the grid shows it, and the body of an approval request."""

from __future__ import annotations

from millrace.spec import PolicySpec, UseCaseSpec

APPROVAL_BODY = """
**Challenger** {{ ti.xcom_pull(task_ids='evaluate_candidates')['challenger']['candidate'] }},
trained through {{ ti.xcom_pull(task_ids='evaluate_candidates')['challenger']['trained_through'] }},
measured on {{ ti.xcom_pull(task_ids='evaluate_candidates')['challenger']['holdout'] }}.

**Gates** {{ ti.xcom_pull(task_ids='check_gates')['reasons'] | join('; ') }}

[Model card](/millrace/evidence/{{ ti.xcom_pull(task_ids='evaluate_candidates')['evidence'] }}.html)
"""


def train(use_case: UseCaseSpec, policy: PolicySpec) -> str:
    """What the training DAG does and what to press."""
    people = {0: "nobody: the gates decide", 1: "one person", 2: "two different people"}[policy.approvals]
    return f"""### {use_case.name}: training
{use_case.description}

training set → candidates ({", ".join(use_case.candidates)}) → evaluation on the holdout partition, the champion on
the same rows → gates of policy *{policy.tier}* → registered → approved by {people} → released → deployed → verified.

The run's **partition key is the holdout**: the last partition with labels. Training sees what lies before it.

**Skipped from `register_model` on** means that the gates refused the challenger; `check_gates` says why, its *Model
card* shows the figures. The champion goes on serving. **To run it by hand:** trigger it with a partition key.
"""


def score(use_case: UseCaseSpec) -> str:
    """What the scoring DAG does and what to press."""
    return f"""### {use_case.name}: batch scoring
{use_case.description}

Scores every row of the partition with the release that was in force at its start, and appends to the prediction log.
A row is never scored twice by one release on the same features. Without a release it succeeds with `no_release`.
"""


def monitor(use_case: UseCaseSpec) -> str:
    """What the monitoring DAG does and what to press."""
    rules = use_case.monitoring
    return f"""### {use_case.name}: monitoring
Joins the labels known by the partition's end, measures drift against the release's own reference and the live
{use_case.evaluation.metric}, and decides whether to train again.

A drop of more than {rules.performance_drop} against the release's holdout asks for training; so does a release older
than {rules.max_age_partitions} partitions. Drift alone is named, and never retrains.
**`decide_retraining`** returns the decision with its reasons; *Drift report* on `measure_drift` is Evidently's page.
"""


def rollback(use_case: UseCaseSpec) -> str:
    """What the rollback DAG does and what to press."""
    return f"""### {use_case.name}: rollback
Puts an earlier release back in force: package, feature service, threshold and drift reference as one unit; then has
the online service load it and proves it with golden rows.

**Press** *Trigger*, give the release's number (empty: the one before) and why. The ledger keeps your name and reason.
"""
