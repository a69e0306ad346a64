"""Alerts for people, through Apprise: every chat and pager, by one Airflow connection."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowNotFoundException

from millrace_airflow.links import RUNBOOK

log = logging.getLogger(__name__)
CONNECTION = "millrace_alerts"
"""Id of the connection, of type `apprise`: its extra is `{"config": {"path": "<Apprise URL>", "tag": "<tag>"}}`."""
_BODY = "{{ dag.dag_id }}, task {{ ti.task_id }}, partition {{ partition_key or '(none)' }}: {{ exception or 'look' }}"


class AlertNotifier(BaseNotifier):
    """Tell somebody what happened, with a link to the runbook.

    Without the connection, or where no service takes it, the alert is a warning in the log. As `on_failure_callback`
    of a task or DAG it needs no argument: it names DAG, task, partition and error.

    Args:
        title: one line.
        body: what happened and what to do.
        connection: id of the Airflow connection.
        anchor: heading of the runbook that the link leads to, such as `uc_monitor`.
    """

    template_fields: Sequence[str] = ("title", "body", "connection", "anchor")

    def __init__(
        self,
        *,
        title: str = "Millrace: {{ dag.dag_id }} failed",
        body: str = _BODY,
        connection: str = CONNECTION,
        anchor: str = "",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.title = title
        self.body = body
        self.connection = connection
        self.anchor = anchor

    def notify(self, context: Any) -> None:
        """Send it, or log it."""
        send_alert(self.title, self.body, connection=self.connection, anchor=self.anchor)


def send_alert(title: str, body: str, *, connection: str = CONNECTION, anchor: str = "") -> bool:
    """Send an alert; True where every service of the connection took it. It never raises for a service that is away.

    Args:
        title: one line.
        body: what happened.
        connection: id of the Airflow connection; without one the alert stays in the log.
        anchor: heading of the runbook.
    """
    from airflow.providers.apprise.hooks.apprise import AppriseHook
    from apprise import Apprise, NotifyType

    text = f"{body}\n\nRunbook: {runbook(anchor)}"
    hook, services = AppriseHook(apprise_conn_id=connection), Apprise()
    try:
        hook.set_config_from_conn(hook.get_connection(connection), services)
        sent = services.notify(body=text, title=title, notify_type=NotifyType.WARNING)
    except AirflowNotFoundException:
        log.warning("%s: %s (nobody is told: Airflow has no connection %r)", title, body, connection)
        return False
    except (KeyError, ValueError, TypeError, OSError) as error:  # the connection holds no configuration of Apprise's
        log.warning("%s: %s (nobody is told: connection %r is wrong: %s)", title, body, connection, error)
        return False
    if not sent:
        log.warning("%s: %s (not delivered: a service of connection %r did not take it)", title, body, connection)
    return bool(sent)


def runbook(anchor: str = "") -> str:
    """Address of the runbook, at a heading of it."""
    from airflow.sdk.configuration import conf

    base = str(conf.get("api", "base_url", fallback="")).rstrip("/")
    return f"{base}{RUNBOOK}#{anchor}" if anchor else f"{base}{RUNBOOK}"
