"""Triggers: what only Airflow's triggerer can ask for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async


class KeptAnswerTrigger(BaseTrigger):
    """Read the answer that Airflow keeps to a task's request for approval; at once, and without changing it.

    A task cannot: Airflow 3.3 answers this question to the triggerer alone. A new attempt's request erases the answer.

    Args:
        ti_id: id of the task instance.
    """

    def __init__(self, *, ti_id: str) -> None:
        super().__init__()
        self.ti_id = ti_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Where the trigger is found, and what it is made with."""
        return "millrace_airflow.triggers.kept_answer.KeptAnswerTrigger", {"ti_id": self.ti_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """One event: the answer as `HITLOperator` hands it on, or nothing where there is none."""
        from airflow.sdk.execution_time.hitl import get_hitl_detail_content_detail

        try:
            kept = await sync_to_async(get_hitl_detail_content_detail)(ti_id=UUID(self.ti_id))
        except AirflowRuntimeError as error:
            self.log.info("Airflow keeps no request of %s: %s", self.ti_id, error)
            yield TriggerEvent({})
            return
        yield TriggerEvent(answer_of(kept))


def answer_of(kept: Any) -> dict[str, Any]:
    """An answer as plain values; {} where there is none."""
    if not kept.response_received or kept.responded_at is None:
        return {}
    user = kept.responded_by_user
    return {
        "chosen_options": list(kept.chosen_options or []),
        "params_input": dict(kept.params_input or {}),
        "responded_at": kept.responded_at.isoformat(),
        "responded_by_user": {"id": user.id, "name": user.name} if user else None,
    }
