"""Jobs of a Ray cluster: a process there that goes on when whoever asked for it is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from shlex import join
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from ray.job_submission import JobStatus, JobSubmissionClient

from millrace.engine.ray_session import environment
from millrace.errors import EngineError

log = logging.getLogger(__name__)
logging.getLogger("ray.dashboard.modules.job.sdk").setLevel(logging.WARNING)
UNKNOWN = "UNKNOWN"
_NOT_FOUND = "status code 404"
_TAKEN = "already"
_NOT_READY = "No available agent"
_ANSWER_S = 30.0
_TAIL_S = 300.0
_POLL_S = 1.0
_READY_S = 120.0
_AWAY_S = 180.0
_CONFUSING = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


@dataclass(slots=True, kw_only=True)
class RayJobs:
    """The jobs of one cluster.

    Attributes:
        address: of the cluster's dashboard, `http://<host>:8265`.
        token: that the cluster asks for ("" where it asks for nothing).
    """

    address: str
    token: str = field(default="", repr=False)
    _kept: JobSubmissionClient | None = field(init=False, default=None, repr=False)

    def submit(
        self, command: Sequence[str], *, name: str, cores: float = 0, cards: float = 0, variables: Mapping[str, str]
    ) -> str:
        """Ask for a job; one of the same name that is there already stands for it.

        Args:
            command: what runs.
            name: of the job, never used before on this cluster but for the same work.
            cores: that are kept for the command itself.
            cards: graphics cards, likewise.
            variables: of its environment; everyone who may look at the cluster sees them.

        Returns:
            The name.

        Raises:
            EngineError: the cluster does not answer or refuses the job.
        """
        until = time.monotonic() + _READY_S
        with self._told():
            while True:
                try:
                    self._client().submit_job(
                        entrypoint=f"exec {join(command)}",
                        submission_id=name,
                        entrypoint_num_cpus=cores,
                        entrypoint_num_gpus=cards,
                        runtime_env={"env_vars": dict(variables)},
                    )
                except RuntimeError as error:
                    if _TAKEN in str(error):
                        return name
                    if _NOT_READY not in str(error) or time.monotonic() > until:
                        raise
                    log.info("the cluster has just started and takes no job yet")
                    time.sleep(_POLL_S)
                else:
                    return name

    def status(self, name: str) -> str:
        """PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED, or UNKNOWN where the cluster knows of no such job.

        Raises:
            EngineError: the cluster does not answer.
        """
        return self._look(name)[0]

    def message(self, name: str) -> str:
        """What the cluster says of the job: why it waits, or how it failed.

        Raises:
            EngineError: the cluster does not answer.
        """
        return self._look(name)[1]

    def stop(self, name: str) -> None:
        """Ask the cluster to end a job, at once: SIGTERM, and SIGKILL three seconds later. One that ended stays so.

        Raises:
            EngineError: the cluster does not answer.
        """
        with self._told():
            try:
                self._client().stop_job(name)
            except RuntimeError as error:
                if _NOT_FOUND not in str(error):
                    raise

    def follow(self, name: str, tell: Callable[[str], None]) -> str:
        """Hand on each line that a job prints, from the first one, until it ended; its last status.

        Raises:
            EngineError: the cluster has not answered for three minutes.
        """
        return asyncio.run(self._follow(name, _Lines(tell)))

    async def _follow(self, name: str, lines: _Lines) -> str:
        answered = time.monotonic()
        while True:
            try:
                await self._read(name, lines)
            except (EngineError, RuntimeError, OSError, TimeoutError, aiohttp.ClientError) as error:
                log.debug("the log of job %s broke off: %s", name, error)
            try:
                status = await asyncio.to_thread(self.status, name)
                answered = time.monotonic()
            except EngineError:
                if time.monotonic() - answered > _AWAY_S:
                    raise
                self._kept, status = None, ""
            if status == UNKNOWN or (status and JobStatus(status).is_terminal()):
                lines.end()
                return status
            await asyncio.sleep(_POLL_S)

    async def _read(self, name: str, lines: _Lines) -> None:
        """Read the log until the job ends or the connection does; a silent one is asked for anew."""
        lines.rewind()
        with self._told():
            client = self._client()
        async with asyncio.timeout(_TAIL_S), aclosing(client.tail_job_logs(name)) as chunks:
            async for chunk in chunks:
                lines.read(chunk)

    def _look(self, name: str) -> tuple[str, str]:
        with self._told():
            try:
                found = self._client().get_job_info(name)
            except RuntimeError as error:
                if _NOT_FOUND not in str(error):
                    raise
                return UNKNOWN, ""
        return str(found.status), found.message or ""

    def _client(self) -> JobSubmissionClient:
        if self._kept is None:
            headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
            # Ray would take the address of these variables in place of ours.
            with environment(dict.fromkeys(set(_CONFUSING) & set(os.environ), self.address)):
                self._kept = _Client(self.address, headers=headers)
        return self._kept

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            if urlsplit(self.address).scheme not in {"http", "https"}:
                raise ValueError("it is no http or https address")
            yield
        except (OSError, RuntimeError, ValueError) as error:
            raise self._unreachable(error) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in {"ray", "requests", "aiohttp"}:
                raise
            raise self._unreachable(error) from error

    def _unreachable(self, error: BaseException) -> EngineError:
        told = " ".join(str(error).split())[:300] or type(error).__name__
        return EngineError(
            f"the jobs of the Ray cluster cannot be asked for: {told}",
            where=self.address,
            remedy="is the cluster's dashboard up at `jobs` of compute.connection, and is the connection's password "
            "its token? Then run the task again",
        )


class _Client(JobSubmissionClient):
    """Ray's own, which would wait for an answer for ever."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> Any:
        return super()._do_request(method, endpoint, **{"timeout": _ANSWER_S, **options})


@dataclass(slots=True)
class _Lines:
    """A log that may be read from its beginning several times, and is told once."""

    tell: Callable[[str], None]
    _told: int = 0
    _read: int = 0
    _rest: str = ""

    def rewind(self) -> None:
        """What comes next is the beginning."""
        self._read = 0

    def read(self, chunk: str) -> None:
        """Tell the whole lines that are new."""
        fresh = chunk[max(0, self._told - self._read) :]
        self._read += len(chunk)
        self._told = max(self._told, self._read)
        *lines, self._rest = (self._rest + fresh).split("\n")
        for line in lines:
            self.tell(line)

    def end(self) -> None:
        """Tell what is left."""
        if self._rest:
            self.tell(self._rest)
        self._rest = ""
