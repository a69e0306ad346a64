"""A decision from start to end, for tests: an evaluation, its verdict in the ledger, and what follows from it."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from millrace.artifact import ModelRef, Verdict, digest_of
from millrace.document import store_document
from millrace.evaluation.base import Evaluation
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.policy import policy_digest
from millrace.governance.release import Release, Releases
from millrace.governance.state import moment_of, writing
from millrace.registry.base import RegisteredModel
from millrace.settings import Settings
from millrace.spec import DomainSpec, PolicySpec, UseCaseSpec, load_domain, load_policy, load_use_case


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Case:
    """flight_delay under one policy, in one installation."""

    settings: Settings
    use_case: UseCaseSpec
    domain: DomainSpec
    policy: PolicySpec

    @classmethod
    def of(cls, settings: Settings, tier: str = "low") -> Case:
        use_case = load_use_case(settings.dags, "flight_delay")
        return cls(
            settings=settings,
            use_case=use_case,
            domain=load_domain(settings.dags, "flights"),
            policy=load_policy(settings.dags, tier),
        )

    def evaluation(self, name: str, holdout: str, champion: int = 0, evidence: str = "") -> Evaluation:
        model = ModelRef(
            use_case="flight_delay",
            candidate="xgboost",
            trainer="xgboost",
            digest=digest(name),
            trained_through=self.domain.partition(holdout).shift(-1).key,
            holdout=holdout,
        )
        return Evaluation(
            use_case="flight_delay",
            challenger=model,
            champion=champion,
            holdout=holdout,
            rows=1000,
            metric="auc",
            metrics={"xgboost": {"value": 0.7}},
            evidence=self.bundle(model, champion, evidence),
            reference=digest("reference"),
            policy=policy_digest(self.policy),
            card="",
        )

    def bundle(self, model: ModelRef, champion: int, note: str = "") -> str:
        """A bundle of evidence that says what governance asks of it, with its card beside it."""
        folder = self.settings.var / "evidence"
        found = store_document(
            folder,
            {
                "use_case": self.use_case.name,
                "use_case_digest": digest_of(self.use_case.model_dump(mode="json")),
                "policy": policy_digest(self.policy),
                "owners": self.use_case.owners,
                "reference": digest("reference"),
                "feature_service": self.use_case.features.name,
                "challenger": model.candidate,
                "candidates": [
                    {
                        "name": model.candidate,
                        "package": model.digest,
                        "trainer": model.trainer,
                        "trained_through": model.trained_through,
                    }
                ],
                "versus_champion": {"release": champion},
                "time": {"holdout": model.holdout},
                "note": note,
            },
        )
        for kind in ("html", "md"):
            (folder / f"{found}.{kind}").write_text("A card.")
        return found

    def judge(self, evaluation: Evaluation, outcome: str = "pass") -> Verdict:
        """The verdict, also in the ledger."""
        verdict = Verdict(
            outcome=outcome,
            subject=evaluation.challenger.digest,
            reasons=[f"said so: {outcome}"],
            evidence=evaluation.evidence,
        )
        self.judged(evaluation, outcome)
        return verdict

    def judged(self, evaluation: Evaluation, outcome: str) -> Entry:
        return Ledger(self.settings).append(
            "gates_evaluated",
            use_case="flight_delay",
            subject=evaluation.challenger.digest,
            effective_at=self.domain.partition(evaluation.holdout).end,
            actor="system",
            payload={"outcome": outcome, "evidence": evaluation.evidence, "policy": evaluation.policy},
        )

    def note_registered(self, evaluation: Evaluation, version: int = 1) -> RegisteredModel:
        """The version of the registry, also in the ledger."""
        Ledger(self.settings).append(
            "registered",
            use_case="flight_delay",
            subject=evaluation.challenger.digest,
            effective_at=self.domain.partition(evaluation.holdout).end,
            actor="system",
            payload={"version": version, "evidence": evaluation.evidence, "policy": evaluation.policy},
        )
        return self.registered(evaluation, version)

    def registered(self, evaluation: Evaluation, version: int = 1) -> RegisteredModel:
        return RegisteredModel(
            name="flight_delay",
            version=version,
            digest=evaluation.challenger.digest,
            run_id="",
            evidence=evaluation.evidence,
            policy=evaluation.policy,
        )

    def seal(self, evaluation: Evaluation) -> Path:
        """A folder that stands for the package."""
        folder = self.settings.packages / evaluation.challenger.digest
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text('{"library": {"name": "xgboost", "version": "3.2.0"}}')
        (folder / "model.ubj").write_bytes(evaluation.challenger.digest.encode())
        return folder


def record_proven(settings: Settings, release: Release, *, owners: list[str] | None = None) -> Release:
    """Put a release in force with all that proves it: evidence, policy, verdict, registration and approval.

    Returns:
        The release as it was written, with the digests of the evidence and the policy that were made for it.
    """
    policy = {"tier": "test", "approvals": 0}
    policy_of = store_document(settings.var / "policies", policy)
    bundle = {
        **{name: getattr(release, name) for name in ("use_case", "reference", "feature_service")},
        "use_case_digest": "",
        "policy": policy_of,
        "owners": owners or [],
        "challenger": release.candidate,
        "candidates": [
            {
                "name": release.candidate,
                **{name: getattr(release, name) for name in ("package", "trainer", "trained_through")},
            }
        ],
        "versus_champion": {"release": release.replaces},
        "time": {"holdout": release.holdout},
    }
    release = dataclasses.replace(release, evidence=store_document(settings.var / "evidence", bundle), policy=policy_of)
    about = {"evidence": release.evidence, "policy": release.policy}
    ledger = Ledger(settings)

    def write(kind: str, **said: Any) -> int:
        return ledger.append(
            kind,
            use_case=release.use_case,
            subject=release.package,
            effective_at=moment_of(release.effective_at),
            actor="policy:test" if kind == "approved" else "system",
            payload={**about, **said},
            connection=connection,
        ).seq

    with writing(settings) as connection:
        note = {
            "verdict": write("gates_evaluated", outcome="pass"),
            "registered": write("registered", version=release.registry_version),
            "approvals": [write("approved", by="policy")],
        }
        Releases(settings).add(release, actor="test", note=note, connection=connection)
    return release


@functools.cache
def empty_mlflow() -> bytes:
    """A database as MLflow makes it on first use, which takes seconds."""
    from millrace.registry.mlflow_client import connect

    with tempfile.TemporaryDirectory() as folder:
        connect(Settings.load({"MILLRACE_ROOT": folder, "MILLRACE_VAR": folder}))
        return (Path(folder) / "mlflow" / "mlflow.db").read_bytes()


def lay_mlflow(settings: Settings) -> None:
    """Give an installation an MLflow database that is ready."""
    Path(settings.mlflow_url.removeprefix("sqlite:///")).write_bytes(empty_mlflow())
