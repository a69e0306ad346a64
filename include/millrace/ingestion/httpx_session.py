"""Requests to one host: with its credentials, with patience, bounded in size and time, and never led elsewhere."""

from __future__ import annotations

import email.utils
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion.base import Connection
from millrace.ingestion.connection import scrub
from millrace.spec.source import HttpSourceSpec

log = logging.getLogger(__name__)
MAX_PAGE_BYTES = 256 << 20
_ATTEMPTS = 5
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
_PATIENCE_S = 300.0
"""Later than that no attempt at a page begins."""
_REDIRECTS = 5
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_SETTLED = timedelta(seconds=60)
_REMEDIES = {
    401: "correct the credentials of the source's connection",
    403: "correct the credentials of the source's connection, or their rights",
    404: "correct `url` of the source",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A page as it came.

    Attributes:
        url: it came from, after redirects.
        body: unpacked.
        following: address of the next page in the Link header, if any.
    """

    url: httpx.URL
    body: bytes
    following: str | None


class _Passing(Exception):  # noqa: N818 - never leaves this module
    """What may pass: asked again after a pause, the service's own if it named one."""

    def __init__(self, what: str, pause_s: float | None = None) -> None:
        super().__init__(what)
        self.pause_s = pause_s


@contextmanager
def open_session(
    spec: HttpSourceSpec, connection: Connection | None, *, sleep: Callable[[float], None]
) -> Iterator[Session]:
    """A session that knows the credentials and is closed at the end; proxies of the environment are not used."""
    timeout = httpx.Timeout(spec.timeout_s)
    headers = {"accept": "application/json", "accept-encoding": "gzip, deflate", "user-agent": "millrace"}
    with (
        _unlogged(),
        httpx.Client(
            trust_env=False,
            timeout=timeout,
            headers={**headers, **spec.headers, **_secret_headers(connection)},
            verify=_authorities(connection),
        ) as client,
    ):
        yield Session(client=client, spec=spec, connection=connection, sleep=sleep)


def _authorities(connection: Connection | None) -> ssl.SSLContext | bool:
    """What certificates are checked against: the known authorities, and those of the file that `extra.verify` names.

    Raises:
        SourceError: there is no such file, it holds no certificate, or certificates are not to be checked at all.
    """
    given = None if connection is None else connection.extra.get("verify")
    if connection is None or given is None or str(given).strip().lower() == "true":
        return True
    where, remedy = f"connection {connection.name}, extra.verify", "name a PEM file of certificates, or leave it out"
    if not isinstance(given, str) or given.strip().lower() in {"", "false"}:
        raise SourceError(
            f"{given!r} names no file of authorities; certificates are always checked", where=where, remedy=remedy
        )
    context = httpx.create_ssl_context(trust_env=False)
    try:
        context.load_verify_locations(cafile=given)
    except (OSError, ssl.SSLError) as error:
        raise SourceError(f"no certificates can be read from it: {error}", where=where, remedy=remedy) from error
    return context


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep httpx from writing whole addresses into the log: their queries may be secret."""
    chatty = logging.getLogger("httpx")
    chatty.addFilter(_drop)
    try:
        yield
    finally:
        chatty.removeFilter(_drop)


def _drop(record: logging.LogRecord) -> bool:
    return record.levelno >= logging.WARNING


def _secret_headers(connection: Connection | None) -> dict[str, str]:
    if connection is None:
        return {}
    found = {str(name): str(value) for name, value in (connection.extra.get("headers") or {}).items()}
    if connection.login:
        request = httpx.Request("GET", "http://localhost")
        flow = httpx.BasicAuth(connection.login, connection.password).auth_flow(request)
        found["authorization"] = next(flow).headers["authorization"]
    elif connection.password:
        found["authorization"] = f"Bearer {connection.password}"
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Asks one host.

    Attributes:
        client: sends the headers, among them the credentials.
        spec: the source.
        connection: host and credentials, if any.
        sleep: waits some seconds.
    """

    client: httpx.Client
    spec: HttpSourceSpec
    connection: Connection | None
    sleep: Callable[[float], None]

    def address(self, url: str) -> httpx.URL:
        """The absolute address of the first page; a bare path starts at the connection's host.

        Raises:
            SourceError: it is none, carries credentials, or names another host than the connection.
        """
        base = _base(self.connection)
        text = url if "://" in url else f"{base.rstrip('/')}/{url.lstrip('/')}"
        try:
            found = httpx.URL(text)
            home = httpx.URL(base) if base else found
        except httpx.InvalidURL as error:
            raise self._refused(f"no address: {error}", url.partition("?")[0], "correct `url` of the source") from None
        if found.scheme not in {"http", "https"} or not found.host:
            raise self._refused("no http or https address", url.partition("?")[0], "correct `url` of the source")
        if found.userinfo:
            raise self._refused("the address carries credentials", shown(found), "put them into a connection")
        if not _same_host(home, found):
            what = f"the connection is for host {home.host!r}, the address for {found.host!r}"
            raise self._refused(what, shown(found), "correct `url` of the source, or its connection")
        return found

    def get(self, url: httpx.URL) -> Answer:
        """A page; asked for again where the service is busy or does not answer, for five minutes at most.

        Raises:
            SourceUnavailableError: it still is or does not after several attempts.
            SourceError: it refuses, leads to another host, or sends more than a page may have.
        """
        pause, end = _FIRST_PAUSE_S, time.monotonic() + _PATIENCE_S
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._get(url)
            except _Passing as passing:
                told = scrub(str(passing), self.connection)
                wanted = min(pause if passing.pause_s is None else max(pause, passing.pause_s), _LONGEST_PAUSE_S)
                if attempt == _ATTEMPTS or time.monotonic() + wanted > end:
                    raise SourceUnavailableError(
                        f"the service does not answer after {attempt} attempts: {told}",
                        where=shown(url),
                        remedy="run the task again once the service is well",
                    ) from None
                log.info("%s: %s; asked again in %.0f s", shown(url), told, wanted)
                self.sleep(wanted)
                pause *= 2
        raise AssertionError  # pragma: no cover - the loop returns or raises

    def validator(self, url: httpx.URL) -> str | None:
        """A strong validator of what a GET would give; None where the service gives none or does not answer.

        A time of change is one only where it lies a minute back (RFC 9110, 8.8.2.2): two changes fit into one second.
        """
        try:
            response = self.client.head(url)
        except httpx.HTTPError:
            return None
        if response.status_code != httpx.codes.OK:
            return None
        tag = response.headers.get("etag", "")
        if tag and not tag.startswith("W/"):
            return str(tag)
        changed, now = (_moment(response.headers.get(name)) for name in ("last-modified", "date"))
        if not tag and changed is not None and now is not None and now - changed >= _SETTLED:
            return changed.isoformat()
        return None

    def follow(self, here: httpx.URL, target: str) -> httpx.URL:
        """The address that `target` names, seen from `here`.

        Raises:
            SourceError: it is none, or leads to another host.
        """
        try:
            found = here.join(target)
        except httpx.InvalidURL as error:
            raise self._refused(f"no address follows: {error}", shown(here), "mend the service") from None
        if not _same_host(here, found) or found.userinfo:
            raise self._refused(
                f"the service leads to another host, {found.host!r}",
                shown(here),
                "where that is meant, make it the `url` of the source; credentials are sent to one host only",
            )
        return found

    def _get(self, url: httpx.URL) -> Answer:
        end = time.monotonic() + self.spec.timeout_s
        try:
            for _ in range(_REDIRECTS + 1):
                with self.client.stream("GET", url) as response:
                    if response.status_code in {301, 302, 303, 307, 308} and "location" in response.headers:
                        url = self.follow(url, response.headers["location"])
                        continue
                    self._check(response, url)
                    following = response.links.get("next", {}).get("url")
                    return Answer(url=url, body=self._body(response, url, end), following=following)
        except (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.DecodingError) as error:
            what = scrub(f"{type(error).__name__}: {error}", self.connection)
            raise self._refused(what, shown(url), "mend the service, or `url` of the source") from None
        except httpx.TransportError as error:
            if told := _distrust(error):
                remedy = 'name the file of your own authority in the connection\'s extra: {"verify": "/path/ca.pem"}'
                raise self._refused(f"its certificate is not trusted: {told}", shown(url), remedy) from None
            raise _Passing(f"{type(error).__name__}: {error}") from None
        raise self._refused("it redirects in circles", shown(url), "correct `url` of the source")

    def _check(self, response: httpx.Response, url: httpx.URL) -> None:
        status = response.status_code
        if status in _BUSY:
            raise _Passing(f"status {status}", _retry_after(response))
        if not response.is_success:
            remedy = _REMEDIES.get(status, "correct the source, or mend the service")
            raise self._refused(f"the service answers with status {status}", shown(url), remedy)

    def _body(self, response: httpx.Response, url: httpx.URL, end: float) -> bytes:
        body = bytearray()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > MAX_PAGE_BYTES:
                remedy = "ask for fewer records a page (a parameter in `url`)"
                raise self._refused(f"a page has more than {MAX_PAGE_BYTES >> 20} MiB", shown(url), remedy)
            if time.monotonic() > end:
                raise _Passing(f"a page took longer than {self.spec.timeout_s:g} s")
        return bytes(body)

    def _refused(self, what: str, where: str, remedy: str) -> SourceError:
        return SourceError(scrub(what, self.connection), where=where, remedy=remedy)


def shown(url: httpx.URL) -> str:
    """An address without what may be secret in it."""
    return str(url.copy_with(query=None, fragment=None, userinfo=b""))


def _distrust(error: BaseException) -> str:
    """Why a certificate is not trusted, where that is what lies behind an error; else ""."""
    behind: BaseException | None = error
    while behind is not None:
        if isinstance(behind, ssl.SSLCertVerificationError):
            return behind.verify_message
        behind = behind.__cause__ or behind.__context__
    return ""


def _base(connection: Connection | None) -> str:
    """The address of a connection's host, "" where it names none."""
    if connection is None or not connection.host:
        return ""
    host = connection.host
    if "://" not in host:
        scheme = connection.schema or (connection.kind if connection.kind in {"http", "https"} else "https")
        host = f"{scheme}://{host}"
    return f"{host.rstrip('/')}:{connection.port}" if connection.port else host


def _same_host(here: httpx.URL, there: httpx.URL) -> bool:
    """Whether two addresses are of one service; from http to https is no step aside, the other way is."""
    if here.host != there.host:
        return False
    upgraded = (here.scheme, there.scheme) == ("http", "https") and here.port is None and there.port is None
    return upgraded or (here.scheme, here.port) == (there.scheme, there.port)


def _retry_after(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "").strip()
    if text.isdigit():
        return float(text[:9])
    moment = _moment(text)
    return None if moment is None else max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _moment(text: str | None) -> datetime | None:
    try:
        found = email.utils.parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
