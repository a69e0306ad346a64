"""Retries by class of error: waiting mends an unreachable registry, never a wrong spec or a failed contract."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.retry_policy import ExceptionRetryPolicy, RetryAction, RetryRule

from millrace.errors import MillraceError


def _retryable(root: type[MillraceError]) -> list[type[BaseException] | str]:
    found: list[type[BaseException] | str] = [root] if root.retryable else []
    for child in root.__subclasses__():
        found += _retryable(child)
    return found


RETRY_POLICY = ExceptionRetryPolicy(
    rules=[
        RetryRule(
            exception=_retryable(MillraceError),
            action=RetryAction.RETRY,
            reason="something outside did not answer; waiting can mend it",
        ),
        RetryRule(
            exception=MillraceError,
            action=RetryAction.FAIL,
            reason="the same input gives the same error; mend what the message names, then clear the task",
        ),
    ]
)

RETRIES: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=10), "retry_policy": RETRY_POLICY}
"""What every task of Millrace gets; in a DAG's `default_args`, since a mapped operator asks only those."""
