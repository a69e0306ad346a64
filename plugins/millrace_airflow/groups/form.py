"""The forms that people fill in to start a run."""

from __future__ import annotations

from airflow.sdk import Param

from millrace.governance.person import SHORTEST_REASON
from millrace.spec import DomainSpec

_TEXT = ["null", "string"]
_LINES = ["null", "array"]


def replay_form(domain: DomainSpec) -> dict[str, Param]:
    """What a person on call says about a replay."""
    sources = list(domain.sources)
    return {
        "source": Param(
            sources[0],
            type="string",
            enum=sources,
            title="Source",
            description="Whose quarantine.",
        ),
        "action": Param(
            "revalidate",
            type="string",
            enum=["revalidate", "waive", "correct", "reopen"],
            values_display={
                "revalidate": "revalidate: judge the rows again, after a fix of contract or clean-up",
                "waive": "waive: let the rows pass as they are; needs a reason",
                "correct": "correct: put the rows of a file in their place",
                "reopen": "reopen: take a waiver or a correction back; needs a reason, and rows or reasons",
            },
            title="What to do",
            description="Rows that do not pass stay in quarantine, with their new reasons.",
        ),
        "reasons": Param(
            [],
            type=_LINES,
            items={"type": "string"},
            title="Only rows with these reasons",
            description="One reason code a line, as millrace quarantine list shows them. Empty: all.",
        ),
        "partitions": Param(
            [],
            type=_LINES,
            items={"type": "string"},
            title="Only these partitions",
            description=f"One key a line, such as {domain.first}. Empty: all.",
        ),
        "ids": Param(
            "",
            type=_TEXT,
            title="Only these rows",
            description="Row ids, with commas between. Empty: all.",
        ),
        "reason": Param(
            "",
            type=_TEXT,
            title="Why",
            description="Stays with the rows, beside your name. A waiver needs one, and so does reopening.",
        ),
        "corrections": Param(
            "",
            type=_TEXT,
            title="File of corrections",
            description="For a correction only: its name in the folder corrections of the installation's state.",
        ),
    }


def import_form(domain: DomainSpec) -> dict[str, Param]:
    """What a person says about a model that was trained elsewhere."""
    return {
        "source": Param(
            "",
            type="string",
            minLength=3,
            title="Model",
            description="Path of an ONNX, skops, xgboost or lightgbm file or of an MLflow model, where the task runs; "
            "or an address such as models:/name/3.",
        ),
        "signature": Param(
            "",
            type=["string", "object"],
            minLength=2,
            title="Signature",
            description="The declared signature: paste it as YAML or JSON, or give the path of its file where the task "
            "runs.",
        ),
        "holdout": Param(
            "",
            type="string",
            minLength=4,
            title="Holdout partition",
            description=f"Partition with labels that it is measured on, such as {domain.last or domain.first}.",
        ),
    }


def training_form(domain: DomainSpec) -> dict[str, Param]:
    """Which partition a person keeps back, where no request to retrain says so."""
    return {
        "holdout": Param(
            None,
            type=["null", "string"],
            title="Holdout partition",
            description=f"Last partition with labels, kept back for evaluation, such as {domain.last or domain.first}. "
            "Empty: the partition key of the run.",
        )
    }


def rollback_form() -> dict[str, Param]:
    """Where a person goes back to, and why."""
    return {
        "version": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            title="Release to go back to",
            description="Number of the release. Empty: the one before the release in force; within a day of "
            "another rollback the number is asked for.",
        ),
        "reason": Param(
            "",
            type="string",
            minLength=SHORTEST_REASON,
            title="Why",
            description=f"At least {SHORTEST_REASON} characters; goes to the ledger with your name.",
        ),
    }


def approval_form() -> dict[str, Param]:
    """What a person says with an answer to a request; the page takes no answer without it."""
    return {
        "comment": Param(
            "",
            type="string",
            title="Comment",
            description="Why you approve or reject; goes to the ledger with your name. The buttons wait for it.",
        )
    }
