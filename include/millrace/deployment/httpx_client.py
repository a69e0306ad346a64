"""A client of the online service: load a release, ask which one is served, predict."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from millrace.errors import DeploymentError

log = logging.getLogger(__name__)
_BUSY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceClient:
    """The online service at an address.

    Attributes:
        url: base address.
        token: bearer token for loading; "" where none is asked.
        attempts: how often a service that does not answer is asked.
        pause_s: first pause between attempts; it doubles each time, up to 2 s.
        timeout_s: how long one answer may take.
    """

    url: str
    token: str = ""
    attempts: int = 5
    pause_s: float = 0.2
    timeout_s: float = 30.0

    def load(self, model: str) -> dict[str, Any]:
        """Have the service load what the pointer of a model names; version and package that it serves then.

        Raises:
            DeploymentError: it refuses the release, or does not answer.
        """
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        path = f"/v2/repository/models/{model}/load"
        return self._holding({"version": str, "package": str}, path, self._ask("POST", path, {}, headers))

    def metadata(self, model: str) -> dict[str, Any]:
        """What the service says of a model: `versions`, and `parameters` with `package` among them.

        Raises:
            DeploymentError: it does not serve it, or does not answer.
        """
        path = f"/v2/models/{model}"
        return self._holding({"versions": list, "parameters": dict}, path, self._ask("GET", path))

    def predict(
        self, model: str, columns: Mapping[str, Sequence[Any]], datatypes: Mapping[str, str], *, request_id: str = ""
    ) -> dict[str, Any]:
        """The response of the Open Inference Protocol for columns of values.

        Args:
            model: name of the model.
            columns: input → values, null where missing.
            datatypes: input → datatype of the protocol.
            request_id: the client's own name of the request; "" for none.

        Raises:
            DeploymentError: the request is refused, or the service does not answer.
        """
        inputs = [
            {"name": name, "shape": [len(values)], "datatype": datatypes[name], "data": list(values)}
            for name, values in columns.items()
        ]
        named = {"id": request_id} if request_id else {}
        path = f"/v2/models/{model}/infer"
        answer = self._ask("POST", path, {**named, "inputs": inputs})
        return self._holding({"parameters": dict, "outputs": list}, path, answer)

    def _holding(self, wanted: Mapping[str, type], path: str, response: httpx.Response) -> dict[str, Any]:
        """The JSON object that an answer holds, with keys of these types."""
        try:
            found = response.json()
        except ValueError:
            found = None
        if isinstance(found, dict) and all(isinstance(found.get(name), kind) for name, kind in wanted.items()):
            return found
        raise DeploymentError(
            "what answers is not the online service",
            where=f"{self.url}{path}",
            remedy="correct MILLRACE_SERVING_URL, or see what stands between here and the service",
        )

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        fault = ""
        with self._connect() as client:
            for attempt in range(self.attempts):
                if attempt:
                    time.sleep(min(2.0, self.pause_s * 2 ** (attempt - 1)))
                try:
                    response = client.request(method, path, json=body, headers=headers)
                except httpx.RequestError as error:
                    fault = f"{type(error).__name__}: {error}"
                    log.info("online service at %s, attempt %d: %s", self.url, attempt + 1, fault)
                    continue
                if response.is_success:
                    return response
                fault = _error_of(response)
                if response.status_code not in _BUSY:
                    raise DeploymentError(
                        f"the online service answers {response.status_code}: {fault}",
                        where=f"{self.url}{path}",
                        remedy="see the message; the service's log tells more",
                    )
        raise DeploymentError(
            f"the online service does not answer ({self.attempts} attempts): {fault}",
            where=f"{self.url}{path}",
            remedy="start it (`make up`), or correct MILLRACE_SERVING_URL; then run the task again",
        )

    def _connect(self) -> httpx.Client:
        try:
            return httpx.Client(base_url=self.url, timeout=self.timeout_s, trust_env=False)
        except httpx.InvalidURL as error:
            raise DeploymentError(
                f"this is no address of an online service: {error}",
                where=self.url,
                remedy="correct MILLRACE_SERVING_URL",
            ) from error


def _error_of(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]
