"""A decision from start to end, for tests: an evaluation, its verdict in the ledger, and what follows from it."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

from millrace.artifact import ModelRef, Verdict
from millrace.evaluation.base import Evaluation
from millrace.governance.ledger import Entry, Ledger
from millrace.governance.policy import policy_digest
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
            evidence=digest(f"evidence {name} {champion} {evidence}"),
            reference=digest("reference"),
            policy=policy_digest(self.policy),
            card="",
        )

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
