from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson

from millrace.validation.data_docs import DocsSite


def publish(site: DocsSite, partition: str) -> Path:
    return site.publish("orders", partition, document={"success": True}, page="<p>", mark="noted", line="3 rows <b>")


def test_result_page_and_line_of_the_index_are_written(tmp_path: Path) -> None:
    site = DocsSite(reports=tmp_path, domain="shop")
    path = publish(site, "2020-01")
    assert path == tmp_path / "shop" / "data_docs" / "orders" / "2020-01.html"
    assert path.read_text() == "<p>"
    stored = tmp_path / "shop" / "validation" / "orders" / "2020-01.json"
    assert orjson.loads(stored.read_bytes()) == {"success": True}
    assert '<a href="orders/2020-01.html">orders/2020-01</a></td><td>3 rows &lt;b&gt;' in site.index.read_text()


def test_a_source_without_partitions_is_called_all(tmp_path: Path) -> None:
    assert publish(DocsSite(reports=tmp_path, domain="shop"), "").name == "all.html"


def test_another_partition_touches_no_page_of_the_first(tmp_path: Path) -> None:
    site = DocsSite(reports=tmp_path, domain="shop")
    first = publish(site, "2020-01")
    written = first.stat().st_mtime_ns
    publish(site, "2020-02")
    assert first.stat().st_mtime_ns == written
    assert site.index.read_text().count("<a ") == 2


def test_the_index_loses_no_line_when_partitions_finish_at_once(tmp_path: Path) -> None:
    site = DocsSite(reports=tmp_path, domain="shop")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda day: publish(site, f"2020-01-{day:02d}"), range(1, 25)))
    assert site.index.read_text().count("<a ") == 24
