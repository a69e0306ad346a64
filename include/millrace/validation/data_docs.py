"""Where results and pages lie, and the index of them, kept up line by line."""

from __future__ import annotations

import fcntl
import html
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import orjson

from millrace.document import write_atomically

Mark = Literal["held", "noted", "blocked"]
_SIGNS = {"held": "✔", "noted": "⚠", "blocked": "✘"}
STATIC = "all"
"""Stem of the files of a source without partitions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DocsSite:
    """Results and Data Docs of one domain under the folder of reports.

    Attributes:
        reports: folder of all reports.
        domain: name of the domain.
    """

    reports: Path
    domain: str

    def result(self, source: str, partition: str) -> Path:
        """Great Expectations' result document of a partition."""
        return self.reports / self.domain / "validation" / source / f"{partition or STATIC}.json"

    def page(self, source: str, partition: str) -> Path:
        """The page of a partition."""
        return self._folder / source / f"{partition or STATIC}.html"

    @property
    def index(self) -> Path:
        """The page that lists all pages."""
        return self._folder / "index.html"

    @property
    def _folder(self) -> Path:
        return self.reports / self.domain / "data_docs"

    def publish(
        self, source: str, partition: str, *, document: Mapping[str, Any], page: str, mark: Mark, line: str
    ) -> Path:
        """Store result and page of a partition and its line in the index; other pages are not touched.

        Args:
            source: name of the source.
            partition: key, or "" for a static source.
            document: Great Expectations' result.
            page: HTML of the page.
            mark: the outcome in a sign.
            line: the outcome in a few words.

        Returns:
            Path of the page.
        """
        path = self.page(source, partition)
        write_atomically(self.result(source, partition), orjson.dumps(document, option=orjson.OPT_INDENT_2))
        write_atomically(path, page.encode())
        with self._locked():
            lines = self._lines()
            entry = [mark, line]
            if lines.get(f"{source}/{path.stem}") != entry:
                lines[f"{source}/{path.stem}"] = entry
                write_atomically(self._folder / "index.json", orjson.dumps(lines, option=orjson.OPT_SORT_KEYS))
                write_atomically(self.index, _index_page(self.domain, lines).encode())
        return path

    def _lines(self) -> dict[str, list[str]]:
        path = self._folder / "index.json"
        lines: dict[str, list[str]] = orjson.loads(path.read_bytes()) if path.is_file() else {}
        return lines

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Partitions of a backfill are validated at the same time; the index takes one line after the other."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _index_page(domain: str, lines: Mapping[str, list[str]]) -> str:
    rows = "\n".join(
        f'<tr><td title="{mark}">{_SIGNS[mark]}</td><td><a href="{html.escape(name)}.html">{html.escape(name)}</a></td>'
        f"<td>{html.escape(line)}</td></tr>"
        for name, (mark, line) in sorted(lines.items())
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Data Docs of {html.escape(domain)}</title>
<style>body {{ font: 15px/1.45 system-ui, sans-serif; margin: 24px; color: #1f2933; }}
td, th {{ padding: 4px 12px 4px 0; text-align: left; border-top: 1px solid #e4e8ec; }}</style></head>
<body><h1>Data Docs of {html.escape(domain)}</h1>
<table><tr><th></th><th>source and partition</th><th>outcome</th></tr>
{rows}
</table></body></html>
"""
