"""A small client of Airflow's REST API: start runs, watch them, answer what people are asked."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import httpx

from millrace.errors import ServiceError

Json = dict[str, Any]
_ENDED = {"success", "failed"}
_OUTAGE_S = 60.0
_LONGEST_PAUSE_S = 3.0


class AirflowError(ServiceError):
    """Airflow refused or failed a request, or a run did not end in time. A retry helps where Airflow was busy."""


class _NoTokenError(Exception):
    """Airflow is not there to give a token."""


class AirflowClient:
    """Talks to one Airflow as one user; renews its token when it runs out.

    Args:
        url: base address, such as `http://127.0.0.1:8080`.
        user: name.
        password: of that user.
        timeout_s: of one request.
        outage_s: how long API server and database may be away (they are started again) before that is an error.
    """

    def __init__(
        self, url: str, user: str, password: str, *, timeout_s: float = 30.0, outage_s: float = _OUTAGE_S
    ) -> None:
        self._url = url.rstrip("/")
        self._user = user
        self._password = password
        self._outage_s = outage_s
        self._http = httpx.Client(base_url=self._url, timeout=timeout_s, trust_env=False)
        self._token = ""

    def __enter__(self) -> AirflowClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def health(self) -> Json:
        """`/monitor/health`; empty where nothing answers."""
        try:
            answer = self._http.get("/api/v2/monitor/health")
            found: Json = answer.json() if answer.is_success else {}
        except (httpx.HTTPError, ValueError):
            return {}
        return found

    def missing(self, dag_ids: tuple[str, ...] = ()) -> list[str]:
        """What keeps Airflow from being healthy: components, then DAGs of `dag_ids` that it does not know yet."""
        health = self.health()
        needed = ("metadatabase", "scheduler", "dag_processor", "triggerer")
        sick = [name for name in needed if (health.get(name) or {}).get("status") != "healthy"]
        return sick or [dag_id for dag_id in dag_ids if not self.knows(dag_id)]

    def knows(self, dag_id: str) -> bool:
        """Whether a DAG is there, parsed and not stale."""
        answer = self._send("GET", f"/api/v2/dags/{quote(dag_id)}", allow=(404,))
        return answer.status_code == httpx.codes.OK and not answer.json().get("is_stale")

    def import_errors(self) -> list[Json]:
        """DAG files that did not import: `filename` and `stack_trace`."""
        return list(self.get("/api/v2/importErrors")["import_errors"])

    def get(self, path: str, **params: Any) -> Json:
        """Any GET of the API; returns its JSON."""
        found: Json = self._send("GET", path, params={k: v for k, v in params.items() if v is not None}).json()
        return found

    def post(self, path: str, body: Mapping[str, Any]) -> Json:
        """Any POST of the API; returns its JSON."""
        found: Json = self._send("POST", path, json=dict(body)).json()
        return found

    def patch(self, path: str, body: Mapping[str, Any]) -> Json:
        """Any PATCH of the API; returns its JSON."""
        found: Json = self._send("PATCH", path, json=dict(body)).json()
        return found

    def trigger(
        self,
        dag_id: str,
        *,
        partition_key: str | None = None,
        conf: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        note: str | None = None,
    ) -> Json:
        """Start a run, once, whatever is lost on the way; returns it (`dag_run_id`, `state`, ...)."""
        name = run_id or f"manual__{datetime.now(UTC).isoformat()}_{secrets.token_hex(4)}"
        body: Json = {"logical_date": None, "conf": dict(conf or {}), "dag_run_id": name}
        body |= {k: v for k, v in (("partition_key", partition_key), ("note", note)) if v}
        # A name of ours that is taken tells that an earlier attempt arrived, though its answer did not.
        allow = () if run_id else (httpx.codes.CONFLICT,)
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns"
        answer = self._send("POST", path, json=body, allow=allow, repeat=not run_id)
        if answer.status_code == httpx.codes.CONFLICT:
            return self.run(dag_id, name)
        found: Json = answer.json()
        return found

    def backfill(
        self,
        dag_id: str,
        first: datetime,
        last: datetime,
        *,
        max_active_runs: int = 4,
        reprocess: str = "none",
    ) -> Json:
        """Start a backfill over partition dates `first` to `last`; returns it (`id`, ...).

        Args:
            dag_id: a DAG with a cron-partitioned timetable.
            first: first partition date.
            last: last partition date, included.
            max_active_runs: of this backfill at once.
            reprocess: `none`, `failed` or `completed`: which partitions that have run already run again.
        """
        body = {
            "dag_id": dag_id,
            "from_date": first.isoformat(),
            "to_date": last.isoformat(),
            "max_active_runs": max_active_runs,
            "reprocess_behavior": reprocess,
            "run_on_latest_version": True,
        }
        return self.post("/api/v2/backfills", body)

    def open_backfills(self, dag_id: str) -> list[Json]:
        """Backfills of a DAG that have not ended."""
        found = self.get("/api/v2/backfills", dag_id=dag_id, order_by="-id", limit=20)["backfills"]
        return [item for item in found if item.get("completed_at") is None]

    def runs(
        self,
        dag_id: str = "~",
        *,
        partition_key: str | None = None,
        after: datetime | None = None,
        states: tuple[str, ...] = (),
    ) -> list[Json]:
        """Runs of a DAG (`~`: of all), newest first: of one partition, and queued at or after `after`."""
        params: Json = {"order_by": "-run_after", "state": list(states) or None}
        params["run_after_gte"] = None
        found = self._pages(f"/api/v2/dags/{quote(dag_id, safe='~')}/dagRuns", "dag_runs", params)
        since = after.timestamp() if after else None
        return [
            run
            for run in found
            if (partition_key is None or run.get("partition_key") == partition_key)
            and (since is None or _moment(run.get("queued_at")) >= since)
        ]

    def run(self, dag_id: str, run_id: str) -> Json:
        """One run."""
        return self.get(f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}")

    def wait_run(
        self,
        dag_id: str,
        run_id: str,
        *,
        patience_s: float = 600.0,
        pause_s: float = 0.3,
        watch: Callable[[Json], None] = lambda run: None,
    ) -> Json:
        """Wait for a run to end; returns it, whether it succeeded or failed.

        Raises:
            AirflowError: it did not end in time.
        """
        end = time.monotonic() + patience_s
        while True:
            run = self.run(dag_id, run_id)
            watch(run)
            if run["state"] in _ENDED:
                return run
            if time.monotonic() > end:
                raise AirflowError(
                    f"{dag_id} {run_id} is still {run['state']} after {patience_s:.0f} s",
                    where=f"{self._url}/dags/{dag_id}/runs/{run_id}",
                    remedy="look at its tasks there",
                )
            time.sleep(pause_s)

    def tasks(self, dag_id: str, run_id: str) -> list[Json]:
        """The task instances of a run (`task_id`, `map_index`, `state`, times)."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='~')}/taskInstances"
        return self._pages(path, "task_instances", {})

    def xcom(self, dag_id: str, run_id: str, task_id: str, *, key: str = "return_value", map_index: int = -1) -> Any:
        """A value that a task returned; None where it returned none."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}/taskInstances/{quote(task_id)}"
        answer = self._send(
            "GET",
            f"{path}/xcomEntries/{quote(key)}",
            params={"map_index": map_index, "deserialize": False},
            allow=(404,),
        )
        return answer.json()["value"] if answer.is_success else None

    def log(self, dag_id: str, run_id: str, task_id: str, *, attempt: int = 1, map_index: int = -1) -> str:
        """The log of one attempt, a line an event."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}/taskInstances/{quote(task_id)}"
        content = self.get(f"{path}/logs/{attempt}", map_index=map_index, full_content=True)["content"]
        return "\n".join(str(line.get("event", line)) if isinstance(line, dict) else str(line) for line in content)

    def pending_answers(self, dag_id: str = "~", run_id: str = "~") -> list[Json]:
        """What waits for a person."""
        path = f"/api/v2/dags/{quote(dag_id, safe='~')}/dagRuns/{quote(run_id, safe='~')}/hitlDetails"
        return self._pages(path, "hitl_details", {"response_received": False})

    def answer(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        options: list[str],
        *,
        params: Mapping[str, Any] | None = None,
        map_index: int = -1,
    ) -> Json:
        """Answer a human-in-the-loop task as this client's user."""
        path = f"/api/v2/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}/taskInstances/{quote(task_id)}"
        body = {"chosen_options": options, "params_input": dict(params or {})}
        return self.patch(f"{path}/{map_index}/hitlDetails", body)

    def pause(self, dag_id: str, *, paused: bool) -> None:
        """Pause or unpause a DAG."""
        self.patch(f"/api/v2/dags/{quote(dag_id)}", {"is_paused": paused})

    def _pages(self, path: str, key: str, params: Mapping[str, Any]) -> list[Json]:
        found: list[Json] = []
        while True:
            page = self.get(path, **params, limit=100, offset=len(found))
            found += page[key]
            if not page[key] or len(found) >= page.get("total_entries", 0):
                return found

    def _send(
        self, method: str, path: str, *, allow: tuple[int, ...] = (), repeat: bool = False, **options: Any
    ) -> httpx.Response:
        """One request; what may be said twice is repeated through an outage, else only where it was not delivered."""
        end, pause, repeat, renewed = time.monotonic() + self._outage_s, 0.2, repeat or method == "GET", False
        while True:
            last = time.monotonic() + pause > end
            try:
                answer = self._http.request(method, path, headers=self._bearer(), **options)
            except (httpx.ConnectError, _NoTokenError) as error:
                if last:
                    raise self._unreachable(error) from error
            except httpx.HTTPError as error:
                if last or not repeat:
                    raise self._unreachable(error) from error
            else:
                if answer.status_code == httpx.codes.UNAUTHORIZED and not renewed:
                    self._token, renewed = "", True
                elif not (answer.is_server_error and repeat) or last:
                    return self._checked(answer, allow)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_S)

    def _bearer(self) -> dict[str, str]:
        if not self._token:
            try:
                answer = self._http.post("/auth/token", json={"username": self._user, "password": self._password})
            except httpx.HTTPError as error:  # the request itself was not sent
                raise _NoTokenError(str(error)) from error
            if answer.is_server_error:
                raise _NoTokenError(f"{answer.status_code} of /auth/token")
            if not answer.is_success:
                raise AirflowError(
                    f"Airflow gives {self._user!r} no token: {answer.status_code}",
                    where=f"{self._url}/auth/token",
                    remedy="compare user and password with var/secrets/airflow_passwords.json",
                )
            self._token = answer.json()["access_token"]
        return {"Authorization": f"Bearer {self._token}"}

    def _checked(self, answer: httpx.Response, allow: tuple[int, ...]) -> httpx.Response:
        if answer.is_success or answer.status_code in allow:
            return answer
        try:
            detail = answer.json().get("detail", "")
        except ValueError:
            detail = answer.text[:300]
        raise AirflowError(
            f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {detail}",
            where=self._url,
            remedy="look into var/logs/api-server.log",
        )

    def _unreachable(self, error: Exception) -> AirflowError:
        return AirflowError(
            f"Airflow does not answer: {error}", where=self._url, remedy="`make status` shows what runs; `make up`"
        )


def _moment(text: str | None) -> float:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() if text else float("inf")
