"""Replay: rows out of quarantine, and the partitions that are stale by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk.configuration import conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from millrace.errors import SpecError
from millrace.settings import Settings
from millrace_airflow.operators.base import DomainOperator, acting_user, tell_verdict

if TYPE_CHECKING:
    from millrace.validation.correction import Action

STALE = "stale"
"""Key in XCom of the partitions whose clean rows a replay changed."""
_ACTIONS = ("revalidate", "waive", "correct", "reopen")


class ReplayQuarantineOperator(DomainOperator):
    """Judge quarantined rows again, waive them, or put corrected ones in their place; what passes becomes clean.

    Lists are given as texts with commas, as the form of the DAG hands them over; an empty one means no restriction.

    Args:
        source: name of the source in the domain's spec.
        action: `revalidate`, `waive`, `correct` or `reopen`.
        reasons: reason codes; rows that have one of them.
        partitions: keys.
        ids: `row_id` of single rows.
        reason: why; a waiver needs one, and so does reopening.
        corrections: file with the corrected rows, below the installation's folder of corrections.
    """

    template_fields: Sequence[str] = (
        *("domain", "source", "action", "reasons"),
        *("partitions", "ids", "reason", "corrections"),
    )

    def __init__(
        self,
        *,
        source: str,
        action: str = "revalidate",
        reasons: str = "",
        partitions: str = "",
        ids: str = "",
        reason: str = "",
        corrections: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.action = action
        self.reasons = reasons
        self.partitions = partitions
        self.ids = ids
        self.reason = reason
        self.corrections = corrections

    def execute(self, context: Any) -> dict[str, Any]:
        """Return counts; the keys of all partitions whose clean rows changed stand under XCom's key `stale`.

        Raises:
            SpecError: a waiver without a reason, or a file of corrections that is none or lies elsewhere.
        """
        corrections = self._check()
        from millrace.step.replay import replay

        report = replay(
            self.domain_spec(),
            self.source,
            settings=self.settings,
            reasons=_items(self.reasons),
            partitions=_items(self.partitions),
            ids=_items(self.ids),
            action=cast("Action", self.action),
            by=acting_user(context),
            reason=self.reason.strip(),
            corrections=correction_file(corrections, self.settings) if corrections else None,
        )
        context["ti"].xcom_push(key=STALE, value=list(report.stale))
        self._note(list(report.stale))
        plain = report.to_dict()
        tell_verdict(context, _line(plain, len(report.stale)))
        return plain

    def _note(self, changed: list[str]) -> None:
        """Raw rows and quarantine were judged; the clean rows of the partitions that changed were written."""
        domain = self.domain_spec()
        self.note_tables(domain.raw_table(self.source), domain.quarantine_table(self.source))
        self.lineage.write_tables(self.settings.lake, domain.clean_table(self.source), changed)

    def _check(self) -> str:
        """Name of the file of corrections, "" where none is meant."""
        corrections = self.corrections.strip()
        if self.action not in _ACTIONS:
            raise SpecError(
                f"no action {self.action!r}", where=f"task {self.task_id}", remedy=f"one of {', '.join(_ACTIONS)}"
            )
        if self.action in ("waive", "reopen") and not self.reason.strip():
            raise SpecError(
                "a waiver needs a reason" if self.action == "waive" else "reopening needs a reason",
                where=f"source {self.source!r} of domain {self.domain!r}",
                remedy="trigger the DAG again and fill in *Why*; it stays with the rows, beside your name",
            )
        if (self.action == "correct") != bool(corrections):
            raise SpecError(
                "a correction needs its file" if not corrections else f"{self.action} takes no file of corrections",
                where=f"source {self.source!r} of domain {self.domain!r}",
                remedy="trigger the DAG again with action *correct* and the file, or without both",
            )
        return corrections


class ListStalePartitionsOperator(DomainOperator):
    """Hand on the partitions that a replay made stale, one mapped group each; skipped where there is none.

    Those are the partitions whose clean rows it changed, and later ones whose features look back on them.

    Args:
        changed: what `ReplayQuarantineOperator` left under XCom's key `stale`.
    """

    template_fields: Sequence[str] = ("domain", "partition", "changed")

    def __init__(self, *, changed: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.changed = changed

    def execute(self, context: Any) -> list[str]:
        """Return their keys.

        Raises:
            AirflowSkipException: nothing became clean, so nothing is stale.
            AirflowFailException: they are more than Airflow maps in one run.
        """
        from millrace.step.stale import stale_features

        domain = self.domain_spec()
        stale = stale_features(domain, list(self.changed), settings=self.settings)
        self.note_tables(*(domain.feature_table(name) for name in domain.feature_tables))
        if not stale:
            raise AirflowSkipException("no clean rows changed, so nothing downstream is stale")
        most = conf.getint("core", "max_map_length")
        if len(stale) > most:
            raise AirflowFailException(
                f"{len(stale)} partitions are stale, {stale[0]} to {stale[-1]}; Airflow maps {most} at once: "
                f"start a backfill of {self.domain}_data over them"
            )
        return stale


def _line(plain: Mapping[str, Any], changed: int) -> str:
    told = f"{plain['merged']} of {plain['matched']} rows became clean"
    told += f", {plain['still_open']} stay in quarantine" if plain["still_open"] else ""
    told += f", {plain['dismissed']} are dismissed" if plain["dismissed"] else ""
    return f"{told}; {changed} partitions changed"


def correction_file(name: str, settings: Settings) -> Path:
    """The file of that name, or absolute path, below the folder of corrections; nothing else can be named in a form.

    Raises:
        SpecError: it lies elsewhere or is not there.
    """
    folder = (settings.var / "corrections").resolve()
    path = (folder / name).resolve()
    if ".." in PurePosixPath(name).parts or not path.is_relative_to(folder):
        raise SpecError(
            f"{name!r} does not lie in the folder of corrections",
            where=str(folder),
            remedy="put the file there and give its name",
        )
    if not path.is_file():
        raise SpecError(f"no file {name!r}", where=str(folder), remedy="put the file there, or correct the name")
    return path


def _items(text: str) -> list[str] | None:
    """The items of a text with commas; None where there is none."""
    return [item.strip() for item in text.split(",") if item.strip()] or None
