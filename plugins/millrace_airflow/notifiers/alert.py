"""Alerts for people, through Apprise: every chat and pager, by one Airflow connection."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from airflow.sdk import BaseNotifier
from airflow.sdk.exceptions import AirflowNotFoundException

from millrace_airflow.links import RUNBOOK

log = logging.getLogger(__name__)
CONNECTION = "millrace_alerts"
"""Id of the connection, of type `apprise`: its extra is `{"config": {"path": "<Apprise URL>", "tag": "<tag>"}}`."""
_BODY = """{{ dag.dag_id }}, task {{ ti.task_id if ti is defined else '(unknown)' }}, partition \
{{ (partition_key if partition_key is defined else none) or '(none)' }}: \
{{ (exception if exception is defined else none) or 'its log has the error and the remedy' }}"""


class AlertNotifier(BaseNotifier):
    """Tell somebody what happened, with a link to the runbook.

    Without the connection, or where no service takes it, the alert is a warning in the log. As `on_failure_callback`
    of a task or DAG it needs no argument: it names DAG, task, partition, run, and of a task the error. One of a DAG is
    called once a failed run, in the DAG processor.

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

    def __call__(self, *args: Any) -> None:
        """Render and send a copy: rendering keeps no templates, and one DAG's notifier may be called for two runs."""
        super(AlertNotifier, copy.copy(self)).__call__(*args)

    def notify(self, context: Any) -> None:
        """Send it, with the address of the run where there is one, or log it."""
        dag, run = context.get("dag"), context.get("run_id")
        place = f"\n\nRun: {_base()}/dags/{dag.dag_id}/runs/{quote(str(run))}" if dag and run else ""
        send_alert(self.title, self.body + place, connection=self.connection, anchor=self.anchor)


def send_alert(title: str, body: str, *, connection: str = CONNECTION, anchor: str = "") -> bool:
    """Send an alert; True where every service of the connection took it. It never raises, for it tells of a fault.

    What Airflow knows to be secret does not leave in it; the connection's addresses hold tokens, and count as such.

    Args:
        title: one line.
        body: what happened.
        connection: id of the Airflow connection; without one the alert stays in the log.
        anchor: heading of the runbook.
    """
    from airflow.providers.apprise.hooks.apprise import AppriseHook
    from airflow.sdk.log import mask_secret, redact
    from apprise import Apprise, NotifyType

    text = f"{body}\n\nRunbook: {runbook(anchor)}"
    hook, services = AppriseHook(apprise_conn_id=connection), Apprise()
    try:
        given = hook.get_connection(connection)
        for address in _addresses(hook.get_config_from_conn(given)):
            mask_secret(address)  # Apprise logs one that it cannot read
        hook.set_config_from_conn(given, services)
        sent = services.notify(body=str(redact(text)), title=str(redact(title)), notify_type=NotifyType.WARNING)
    except AirflowNotFoundException:
        log.warning("%s: %s (nobody is told: Airflow has no connection %r)", title, body, connection)
        return False
    except (KeyError, ValueError, TypeError, OSError) as error:  # the connection holds no configuration of Apprise's
        log.warning("%s: %s (nobody is told: connection %r is wrong: %s)", title, body, connection, error)
        return False
    except Exception:
        log.exception("%s: %s (nobody is told: connection %r cannot be used)", title, body, connection)
        return False
    if not sent:
        log.warning("%s: %s (not delivered: a service of connection %r did not take it)", title, body, connection)
    return bool(sent)


def _addresses(config: Any) -> list[str]:
    """The addresses in a configuration of Apprise's, as far as it is one."""
    items = config if isinstance(config, list) else [config]
    return [item["path"] for item in items if isinstance(item, dict) and isinstance(item.get("path"), str)]


def runbook(anchor: str = "") -> str:
    """Address of the runbook, at a heading of it."""
    return f"{_base()}{RUNBOOK}#{anchor}" if anchor else f"{_base()}{RUNBOOK}"


def _base() -> str:
    from airflow.sdk.configuration import conf

    return str(conf.get("api", "base_url", fallback="")).rstrip("/")
