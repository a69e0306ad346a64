"""Documentation of the DAGs, as the grid shows it."""

from __future__ import annotations

from collections.abc import Sequence

from millrace.spec import DomainSpec, PolicySpec, UseCaseSpec


def data(domain: DomainSpec) -> str:
    """What the data DAG does and what to press."""
    return f"""### {domain.name}: data
{domain.description}

Each source is ingested and held against its contract; rows that fail it go to quarantine, never away. Then the
feature tables of the {domain.grain} are computed and their newest values brought to the online store, one mapped task
a view; when all views have them, the features are announced, which starts the scoring of every use case on this domain.

**To run it again:** trigger it with the same partition key, clear the run, or start a backfill over partition
dates. What is there already stays as it is. **If a task fails:** its log names the table, the partition and the
remedy; *Data Docs* on the validate tasks shows which expectation failed, on which rows. **Rows in quarantine** come
back by `{domain.name}_replay`.
"""


def replay(domain: DomainSpec) -> str:
    """What the replay DAG does and what to press."""
    return f"""### {domain.name}: replay
Brings rows back from quarantine. Exactly the rows that pass become clean, once; the partitions whose clean rows
changed are computed anew, each by itself, and announced, so that scoring and monitoring follow.

**Press** *Trigger* and say whose rows and what to do:

- *revalidate* after a fix of the contract or of a clean-up step: the rows are judged again.
- *waive*: the rows pass as they are. It needs a reason, which stays with them beside your name.
- *correct*: the rows of a file, matched by `row_id`, take their place; the originals stay, closed. The file lies in
  the folder `corrections` of the installation's state.

Reasons, partitions and row ids narrow it down; `millrace quarantine list` shows them. **Skipped from
`list_stale_partitions` on** means that no row passed: `replay_quarantine` says what became of them. Running it twice
does nothing twice.
"""


def arrivals(domain: DomainSpec, sources: Sequence[str]) -> str:
    """What the arrivals DAG does and what to press."""
    places = "\n".join(f"- *{name}*: `{domain.sources[name].origin}`" for name in sources)
    return f"""### {domain.name}: arrivals
The triggerer looks for new and changed files, and no worker waits:

{places}

A file that has stood still for a while starts this DAG, which asks for a run of `{domain.name}_data` for its
partition. Where the address has no `{{partition}}`, it asks for the partitions that are over and not closed yet.
What the lake holds already is not asked for again.

**Skipped** means that the files bring nothing new, or that another watched source's file of the same partition is
still missing; the task says which. **If a file did not start anything:** is this DAG or `{domain.name}_data` paused?
Trigger this one by hand: it looks at everything that is there.
"""


def train(use_case: UseCaseSpec, policy: PolicySpec) -> str:
    """What the training DAG does and what to press."""
    people = {0: "nobody: the gates decide", 1: "one person", 2: "two different people"}[policy.approvals]
    counts = {"reject": "it counts as rejected", "ask_again": "it is asked again"}[policy.on_timeout]
    kept = use_case.evaluation.holdout_partitions
    held, before = ("the holdout partition", "it") if kept == 1 else (f"the last {kept} partitions", f"those {kept}")
    return f"""### {use_case.name}: training
{use_case.description}

training set → candidates ({", ".join(use_case.candidates)}) → evaluation on {held}, the champion on
the same rows → gates of policy *{policy.tier}* → registered → approved by {people} → released → deployed → verified.

The run's **partition key is the holdout**: the last partition with labels. Training sees what lies before {before}.

A candidate that fails stays red and takes no other with it: `evaluate_candidates` says which are missing and why, and
goes on with the others where they are at least {policy.min_candidates}. A task that is stopped keeps its checkpoints
and finished trials; *Clear* goes on from them. In MLflow the run is one entry of the experiment *{use_case.name}*, with
one run a candidate under it.

**Skipped from `register_model` on** means that the gates refused the challenger; `check_gates` says why, its *Model
card* shows the figures. The champion goes on serving. **To run it by hand:** trigger it with a partition key.

**A request for approval** waits under *Required Actions*. Neither an owner ({", ".join(use_case.owners)}) nor whoever
started the run may approve; of a run that nobody started, that is the last committer of the use case. An answer that
does not count opens a new request by itself. Without an answer within {policy.approval_timeout_hours:g} hours {counts}.

**Red as *stale*** means that another release became the champion meanwhile: `request_evaluation` has asked for a new
run of the same partition, which compares with that one.
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
    window = f" over the last {use_case.window} partitions" if use_case.window > 1 else ""
    return f"""### {use_case.name}: monitoring
Joins the labels known by the partition's end, measures drift against the release's own reference and the live
{use_case.evaluation.metric}{window}, and decides whether to train again.

A drop of more than {rules.performance_drop} against the release's holdout asks for training; so does a release older
than {rules.max_age_partitions} partitions. Drift alone is named, and never retrains.
**`decide_retraining`** returns the decision with its reasons; *Drift report* on `measure_drift` is Evidently's page.

`measure_freshness` holds the views in the online store that the use case reads against their objectives
(`freshness_hours`), as of the end of the partition. What is stale, or a store that does not answer, is named among the
reasons as *Not fresh* and *Freshness is not known*, and told by the same connection as below; run
`{use_case.domain}_data` for the newest partition.

`measure_skew` looks a sample of the rows asked of the online service up again in the lake, as of the same instant. Any
difference is a fault or a late correction that the online store has not got yet: *Skew report* names feature, key and
both values. What differs is named among the reasons, as *Skew:* over a share of {rules.skew_share:g}, and never
retrains.

`reconcile_registry` holds MLflow's aliases *champion* and *challenger* and the pointer of the online service against
the ledger. What somebody moved by hand is written to the ledger, told by the connection `millrace_alerts`, and put
back; its log and its *verdict* say what it was. A rollback of less than ten minutes ago that has not reached the
online service yet is brought there without an alert. To serve another release, run `{use_case.name}_rollback`.
"""


def rollback(use_case: UseCaseSpec) -> str:
    """What the rollback DAG does and what to press."""
    return f"""### {use_case.name}: rollback
Puts an earlier release back in force: package, feature service, threshold and drift reference as one unit; then has
the online service load it and proves it with golden rows.

**Press** *Trigger*, give the release's number (empty: the one before) and why. The ledger keeps your name and reason.
Within a day of another rollback the number is asked for: `rollback_release` is red then and says who went back from
which release to which, and why.
The same by the command line, in seconds: `millrace rollback {use_case.name} --to <number> --because "<why>"`.
"""


def imports(use_case: UseCaseSpec, policy: PolicySpec) -> str:
    """What the import DAG does and what to press."""
    return f"""### {use_case.name}: a model from elsewhere
{use_case.description}

An ONNX file, an MLflow model, a skops file or a booster's own file becomes a candidate: it is held against the feature
service by its declared signature, sealed, and judged on the same holdout, by the same gates ({policy.tier} risk) and
people as a model that is trained here. Beside it train {", ".join(beside_import(use_case, policy)) or "none"}: the
gates compare with them.

**Trigger it** with the model, its signature and a holdout; `millrace import` does so too. Whoever starts it may not
approve it. **`import_model` is red** where file and signature do not fit: its log says what, and nothing is kept.
"""


def beside_import(use_case: UseCaseSpec, policy: PolicySpec) -> list[str]:
    """Candidates that train beside an imported model: baselines, then more up to the number the policy asks for."""
    ranked = sorted(use_case.candidates, key=lambda name: use_case.candidates[name].trainer != "baseline")
    count = max(policy.min_candidates - 1, sum(item.trainer == "baseline" for item in use_case.candidates.values()))
    return ranked[:count]
