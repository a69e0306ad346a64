"""The Airflow plugin: links, the timetable of data DAGs, and the pages that tasks made, behind Airflow's login."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from millrace_airflow.links import ALL_LINKS
from millrace_airflow.timetable import PartitionTimetable


class LazyApp:
    """An ASGI app built at its first request, so that only the API server pays for it."""

    def __init__(self) -> None:
        self._app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Build the app at the first call, then hand on."""
        if self._app is None:
            from millrace_airflow.pages import build_app

            self._app = build_app()
        await self._app(scope, receive, send)


class MillracePlugin(AirflowPlugin):
    """Registers Millrace with Airflow."""

    name = "millrace"
    timetables = [PartitionTimetable]  # noqa: RUF012
    operator_extra_links = list(ALL_LINKS)  # noqa: RUF012
    fastapi_apps = [{"app": LazyApp(), "url_prefix": "/millrace", "name": "millrace"}]  # noqa: RUF012
