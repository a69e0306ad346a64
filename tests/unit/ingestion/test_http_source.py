"""Pages of JSON as a source, over a real server on the loopback."""

from __future__ import annotations

import base64
import contextlib
import gzip
import ipaddress
import json
import logging
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.ports import reserved_port
from tests.unit.ingestion.one_pass import FEBRUARY, FIRST, JANUARY, LAST, no_connections, notes_of, rejects_of, rows_of

from millrace.errors import SourceError, SourceUnavailableError
from millrace.ingestion import httpx_session
from millrace.ingestion.base import Connection
from millrace.ingestion.http_source import HttpSource
from millrace.spec.source import HttpSourceSpec

Reply = tuple[int, dict[str, str], bytes]
Answers = Callable[["Asked"], Reply]


class Asked:
    """One request: method, path, parameters of the query and headers."""

    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        self.method = handler.command
        self.path = parts.path
        self.params = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        self.headers = {name.lower(): value for name, value in handler.headers.items()}


class Service:
    """A service whose answers a test decides; it remembers what was asked."""

    def __init__(self) -> None:
        self.answer: Answers = lambda _: page([])
        self.asked: list[Asked] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                asked = Asked(self)
                service.asked.append(asked)
                status, headers, body = service.answer(asked)
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "content-length" not in {name.lower() for name in headers}:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: a test says what it has to say itself."""

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # a reader may hang up before a page has ended
                    super().handle()

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def page(content: Any, status: int = 200, **headers: str) -> Reply:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(content).encode()


@pytest.fixture
def service() -> Iterator[Service]:
    found = Service()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def source(service: Service, waits: list[float]) -> Callable[..., HttpSource]:
    def make(path: str = "/items", connection: Connection | None = None, **changes: Any) -> HttpSource:
        spec = {
            **{"kind": "http", "url": path if "://" in path else service.url + path, "key": ["id"]},
            **{"columns": {"id": "int32", "price": "float64"}, **changes},
        }
        if connection is not None:
            spec["connection"] = connection.name
        return HttpSource(
            spec=HttpSourceSpec.model_validate(spec),
            connections=no_connections if connection is None else lambda _: connection,
            first=FIRST,
            last=LAST,
            sleep=waits.append,
        )

    return make


Make = Callable[..., HttpSource]
ITEMS = [{"id": index, "price": index / 4 if index % 3 else None} for index in range(10)]


def test_one_page_is_read_in_its_order(service: Service, source: Make) -> None:
    service.answer = lambda _: page({"data": {"items": [{**item, "more": 1} for item in ITEMS]}})
    reader = source(records="data.items")
    assert rows_of(reader) == ITEMS
    assert notes_of(reader) == ["not declared, so not read: more"]


def test_the_address_is_filled_with_the_partition(service: Service, source: Make) -> None:
    service.answer = lambda asked: page([{"id": 1, "price": 1, **asked.params, "path": asked.path}])
    reader = source("/items/{partition}?from={start}&to={end}")
    rows_of(reader, FEBRUARY)
    assert service.asked[-1].path == "/items/2020-02"
    assert service.asked[-1].params == {"from": "2020-02-01T00:00:00Z", "to": "2020-03-01T00:00:00Z"}


def cut(asked: Asked, name: str, size: int = 4) -> tuple[int, list[dict[str, Any]]]:
    start = int(asked.params.get(name, 0))
    return start, ITEMS[start : start + size]


def test_pages_are_followed_by_address(service: Service, source: Make) -> None:
    def answer(asked: Asked) -> Reply:
        start, items = cut(asked, "from")
        following = f"?from={start + 4}" if start == 0 else f"{service.url}/items?from={start + 4}"
        return page({"items": items, "paging": {"next": following} if start < 8 else None})

    service.answer = answer
    assert rows_of(source(records="items", next="paging.next")) == ITEMS


def test_pages_are_followed_by_cursor(service: Service, source: Make) -> None:
    def answer(asked: Asked) -> Reply:
        start, items = cut(asked, "after")
        assert asked.params["kind"] == "all"
        return page({"items": items, "cursor": start + 4 if start < 8 else None})

    service.answer = answer
    assert rows_of(source("/items?kind=all", records="items", next="cursor", cursor_param="after")) == ITEMS


def test_pages_are_followed_by_the_link_header(service: Service, source: Make) -> None:
    def answer(asked: Asked) -> Reply:
        start, items = cut(asked, "from")
        return page(items, **({"Link": f'</items?from={start + 4}>; rel="next"'} if start < 8 else {}))

    service.answer = answer
    assert rows_of(source(next="link")) == ITEMS


def test_pages_are_counted_until_one_is_empty(service: Service, source: Make) -> None:
    service.answer = lambda asked: page(ITEMS[int(asked.params["page"]) * 4 :][:4])
    assert rows_of(source(page_param="page", first_page=0)) == ITEMS
    assert [asked.params["page"] for asked in service.asked] == ["0", "1", "2", "3"]


def test_a_busy_service_is_asked_again_after_as_long_as_it_wishes(
    service: Service, source: Make, waits: list[float]
) -> None:
    replies = [
        page({}, 503),
        page({}, 429, Retry_After="7"),
        page({}, 500, Retry_After=format_datetime(datetime.now(UTC) + timedelta(hours=3), usegmt=True)),
        page(ITEMS),
    ]
    service.answer = lambda _: replies[len(service.asked) - 1]
    assert rows_of(source()) == ITEMS
    assert waits == [1, 7, 60]


def test_a_service_that_stays_busy_or_away_asks_for_another_try(
    service: Service, source: Make, waits: list[float]
) -> None:
    service.answer = lambda _: page({}, 502)
    with pytest.raises(SourceUnavailableError, match="502"):
        rows_of(source("/items?token=hunter2"))
    assert waits == [1, 2, 4, 8]
    with reserved_port() as port:
        away = f"http://127.0.0.1:{port}/items?token=hunter2"
        with pytest.raises(SourceUnavailableError, match="ConnectError") as caught:
            rows_of(source(away))
        assert source(away).fingerprint(JANUARY) is None
    assert "hunter2" not in str(caught.value)


def test_a_page_cut_off_in_the_middle_is_asked_for_again(service: Service, source: Make) -> None:
    def answer(_: Asked) -> Reply:
        status, headers, body = page(ITEMS, Connection="close")
        return status, {**headers, "Content-Length": str(len(body) + (10 if len(service.asked) == 1 else 0))}, body

    service.answer = answer
    assert rows_of(source()) == ITEMS
    assert len(service.asked) == 2


def test_a_page_that_drips_longer_than_it_may_is_given_up(
    service: Service, source: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx_session, "_ATTEMPTS", 1)
    given_up = threading.Event()

    def answer_afterwards(_: Asked) -> Reply:
        given_up.wait(120)
        return page(ITEMS)

    service.answer = answer_afterwards
    try:
        with pytest.raises(SourceUnavailableError, match="ReadTimeout"):
            rows_of(source(timeout_s=0.1))
    finally:
        given_up.set()


@pytest.mark.parametrize(
    ("status", "told"), [(401, "credentials"), (403, "credentials"), (404, "url"), (410, "source")]
)
def test_a_refusal_names_the_address_without_its_query(service: Service, source: Make, status: int, told: str) -> None:
    service.answer = lambda _: page({}, status)
    with pytest.raises(SourceError, match=str(status)) as caught:
        rows_of(source("/items?token=hunter2"))
    assert type(caught.value) is SourceError
    assert caught.value.where == f"{service.url}/items"
    assert told in caught.value.remedy
    assert "hunter2" not in str(caught.value)


def test_credentials_go_to_the_host_and_into_no_message_or_log(
    service: Service, source: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    service.answer = lambda _: page(ITEMS)
    host = service.url.removeprefix("http://")
    basic = Connection(
        name="shop", kind="http", host=host.partition(":")[0], port=int(host.partition(":")[2]), login="u"
    )
    assert rows_of(source(url="items?key=hunter3", connection=basic)) == ITEMS
    assert service.asked[-1].headers["authorization"] == "Basic " + base64.b64encode(b"u:").decode()
    bearer = Connection(
        name="shop", kind="http", host=service.url, password="hunter2", extra={"headers": {"X-Key": "hunter4"}}
    )
    assert rows_of(source("/items", connection=bearer, headers={"X-Shop": "7"})) == ITEMS
    headers = service.asked[-1].headers
    assert (headers["authorization"], headers["x-key"], headers["x-shop"]) == ("Bearer hunter2", "hunter4", "7")
    service.answer = lambda _: page({}, 403)
    with pytest.raises(SourceError) as caught:
        rows_of(source("/items?key=hunter3", connection=bearer))
    assert "hunter" not in str(caught.value)
    assert not [item for item in caplog.records if "hunter" in item.getMessage() and item.name != "httpcore.http11"]


def test_no_page_and_no_redirect_leads_to_another_host(service: Service, source: Make) -> None:
    other = Service()
    try:
        for answer in (
            page({"items": ITEMS, "next": f"{other.url}/items"}),
            page({"items": ITEMS, "next": "//evil.example/items"}),
            page({}, 302, Location=f"{other.url}/items"),
            page({}, 302, Location="file:///etc/passwd"),
        ):
            service.answer = lambda _, answer=answer: answer
            with pytest.raises(SourceError, match="another host"):
                rows_of(source(records="items", next="next"))
        assert other.asked == []
    finally:
        other.server.shutdown()
        other.server.server_close()


def test_a_redirect_on_the_same_host_is_followed_and_a_circle_of_them_is_not(service: Service, source: Make) -> None:
    service.answer = lambda asked: page(ITEMS) if asked.path == "/new" else page({}, 307, Location="/new")
    assert rows_of(source()) == ITEMS
    service.answer = lambda _: page({}, 307, Location="/items")
    with pytest.raises(SourceError, match="circles"):
        rows_of(source())


def test_pages_that_lead_in_a_circle_end_in_an_error(service: Service, source: Make) -> None:
    service.answer = lambda asked: page({"items": ITEMS, "next": "?p=2" if asked.params.get("p") == "1" else "?p=1"})
    with pytest.raises(SourceError, match="in a circle"):
        rows_of(source(records="items", next="next"))
    service.answer = lambda _: page(ITEMS)
    with pytest.raises(SourceError, match="in a circle"):
        rows_of(source(page_param="page"))
    service.answer = lambda asked: page([{"id": int(asked.params["page"]), "price": 1}])
    with pytest.raises(SourceError, match="more than 3 pages"):
        rows_of(source(page_param="page", max_pages=3))


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"<html>", "not JSON"),
        (b'[{"id": NaN}]', "not JSON"),
        (b'{"items": {}}', "no list of records"),
        (b'{"rows": []}', "no list of records"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_a_page_that_is_not_what_the_spec_says_is_an_error_with_its_number(
    service: Service, source: Make, body: bytes, told: str
) -> None:
    service.answer = lambda _: (200, {}, body)
    with pytest.raises(SourceError, match=told) as caught:
        rows_of(source(records="items"))
    assert "page 1" in caught.value.where


def test_no_content_is_no_records(service: Service, source: Make) -> None:
    service.answer = lambda _: (204, {}, b"")
    assert rows_of(source()) == []
    service.answer = lambda _: page({"items": None})
    assert rows_of(source(records="items")) == []


def test_records_that_do_not_fit_are_set_aside_as_they_came(service: Service, source: Make) -> None:
    service.answer = lambda _: (
        200,
        {},
        b'[{"id": 1, "price": "2.5"}, {"id": 1.5, "price": 1}, 7, {"price": 1, "id": "\\ud800"}, {"id": 5}]',
    )
    assert rows_of(source()) == [{"id": 1, "price": 2.5}, {"id": 5, "price": None}]
    assert [(row["line"], row["reason"], row["raw"]) for row in rejects_of(source())] == [
        (2, "type", '{"id":1.5,"price":1}'),
        (3, "parse", "7"),
        (4, "type", '{"id":"\\ud800","price":1}'),
    ]


def test_decimals_of_json_become_the_nearest_number_of_the_declared_width(service: Service, source: Make) -> None:
    service.answer = lambda _: page([{"id": 1, "price": 0.1}, {"id": 2, "price": 1e39}, {"id": 3, "price": 3}])
    reader = source(columns={"id": "int32", "price": "float32"})
    assert [row["price"] for row in rows_of(reader)] == [pytest.approx(0.1, rel=1e-6), 3.0]
    assert [row["line"] for row in rejects_of(reader)] == [2]


def test_a_field_that_no_record_of_any_page_has_is_a_missing_column(service: Service, source: Make) -> None:
    service.answer = lambda asked: page([[{"id": 1}], [{"id": 2}], []][int(asked.params["page"])])
    with pytest.raises(SourceError, match="column 'price' is missing"):
        rows_of(source(page_param="page", first_page=0))
    service.answer = lambda asked: page([[{"id": 1}], [{"id": 2, "price": 1}], []][int(asked.params["page"])])
    assert [row["price"] for row in rows_of(source(page_param="page", first_page=0))] == [None, 1.0]


def test_a_page_larger_than_allowed_is_refused_before_it_is_held(
    service: Service, source: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx_session, "MAX_PAGE_BYTES", 1 << 20)
    bomb = gzip.compress(b"[" + b" " * (64 << 20) + b"]")
    service.answer = lambda _: (200, {"Content-Encoding": "gzip"}, bomb)
    with pytest.raises(SourceError, match="a page has more than 1 MiB"):
        rows_of(source())


def test_a_strong_etag_is_the_fingerprint_of_a_single_page(service: Service, source: Make) -> None:
    tag = ['"a"']
    service.answer = lambda _: page(ITEMS, ETag=tag[0])
    reader = source()
    before = reader.fingerprint(JANUARY)
    assert before is not None
    assert reader.fingerprint(JANUARY) == before
    assert service.asked[-1].method == "HEAD"
    tag[0] = '"b"'
    assert reader.fingerprint(JANUARY) != before
    tag[0] = 'W/"b"'
    assert reader.fingerprint(JANUARY) is None


def test_several_pages_and_pages_without_validator_have_no_fingerprint(service: Service, source: Make) -> None:
    service.answer = lambda _: page(ITEMS, ETag='"a"')
    assert source(page_param="page").fingerprint(JANUARY) is None
    assert source(next="link").fingerprint(JANUARY) is None
    service.answer = lambda _: page(ITEMS)
    assert source().fingerprint(JANUARY) is None
    service.answer = lambda _: page(ITEMS, 405, ETag='"a"')
    assert source().fingerprint(JANUARY) is None


def test_a_time_of_change_is_a_fingerprint_once_it_lies_a_minute_back(service: Service, source: Make) -> None:
    now = datetime(2020, 1, 1, 12, tzinfo=UTC)

    def answer(age_s: float) -> Answers:
        changed = format_datetime(now - timedelta(seconds=age_s), usegmt=True)
        return lambda _: page(ITEMS, Last_Modified=changed, Date=format_datetime(now, usegmt=True))

    service.answer = answer(3600)
    old = source().fingerprint(JANUARY)
    service.answer = answer(5)
    assert source().fingerprint(JANUARY) is None
    service.answer = answer(7200)
    assert None not in {old, source().fingerprint(JANUARY)}
    assert source().fingerprint(JANUARY) != old


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("items", "no http or https address"),
        ("ftp://127.0.0.1/items", "no http or https address"),
        ("http://user:hunter2@127.0.0.1/items", "carries credentials"),
        ("http://[::1/items", "no address"),
    ],
)
def test_an_address_that_is_none_is_refused_before_anything_is_sent(source: Make, url: str, told: str) -> None:
    reader = source("http://127.0.0.1/")
    spec = reader.spec.model_copy(update={"url": url})
    with pytest.raises(SourceError, match=told) as caught:
        rows_of(HttpSource(spec=spec, connections=no_connections))
    assert "hunter2" not in caught.value.what


def test_credentials_of_one_host_are_not_sent_to_another(service: Service, source: Make) -> None:
    with pytest.raises(SourceError, match="the connection is for host"):
        rows_of(source("/items", connection=Connection(name="x", kind="http", host="api.example", password="p")))
    assert service.asked == []


def test_a_page_without_a_single_object_is_all_set_aside(service: Service, source: Make) -> None:
    service.answer = lambda _: page([1, "x", None, [2]])
    assert rows_of(source()) == []
    assert [(row["line"], row["reason"]) for row in rejects_of(source())] == [(n, "parse") for n in (1, 2, 3, 4)]


def test_truth_values_are_no_numbers(service: Service, source: Make) -> None:
    service.answer = lambda _: page([{"id": True, "price": False}])
    assert [(row["reason"], row["column"]) for row in rejects_of(source())] == [("type", "id")]


def test_keys_of_a_personal_source_are_counted_and_not_named(service: Service, source: Make) -> None:
    service.answer = lambda _: page([{"id": 1, "price": 2.5, "ann@home": 1}])
    assert notes_of(source(pii={"price": "drop"})) == ["not declared, so not read: 1 fields"]


def test_no_attempt_begins_once_patience_has_ended(
    service: Service, source: Make, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx_session, "_PATIENCE_S", 1.5)
    service.answer = lambda _: page([], status=503)
    with pytest.raises(SourceUnavailableError, match="after 2 attempts"):
        rows_of(source())
    assert (len(service.asked), waits) == (2, [1.0])


def test_a_private_authority_is_one_that_the_connection_names(
    service: Service, source: Make, tmp_path: Path, waits: list[float]
) -> None:
    pem, key = _certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem, key)
    service.server.socket = context.wrap_socket(service.server.socket, server_side=True)
    service.answer = lambda _: page(ITEMS)
    host = f"https://127.0.0.1:{service.server.server_port}"

    def connection(**extra: Any) -> Connection:
        return Connection(name="partner", kind="http", host=host, extra=extra)

    trusted = source(f"{host}/items", connection(verify=str(pem)))
    assert rows_of(trusted) == ITEMS
    with pytest.raises(SourceError, match="its certificate is not trusted") as caught:
        rows_of(source(f"{host}/items", connection()))
    assert "ca.pem" in caught.value.remedy
    assert waits == [], "no certificate mends by itself"
    for given, told in (("false", "always checked"), (False, "always checked"), ("/nowhere.pem", "no certificates")):
        with pytest.raises(SourceError, match=told):
            rows_of(source(f"{host}/items", connection(verify=given)))


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of an authority that nobody else knows, for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a private authority")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.IPv4Address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem, private = folder / "authority.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
    return pem, private
