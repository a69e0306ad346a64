"""Reports, Data Docs and model cards over HTTP, for people who are logged in to Airflow."""

import re
from itertools import pairwise
from pathlib import Path

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse

from millrace.settings import settings

# Reports carry scripts of their libraries: the sandbox gives them an origin of their own, away from Airflow's cookie.
_HEADERS = {"Content-Security-Policy": "sandbox allow-scripts allow-popups", "X-Content-Type-Options": "nosniff"}
_STYLE = (
    "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3rem .6rem;vertical-align:top;text-align:left}"
    "pre,code{background:#f4f4f4}pre{padding:.8rem;overflow:auto}</style>"
)


def build_app() -> FastAPI:
    """The app under `/millrace`."""
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[Depends(requires_access_view(AccessView.WEBSITE))],
    )

    @app.get("/reports/{path:path}")
    def report(path: str) -> FileResponse:
        return _page(settings().reports, path)

    @app.get("/evidence/{path:path}")
    def evidence(path: str) -> FileResponse:
        return _page(settings().var / "evidence", path)

    @app.get("/docs/{name}")
    def document(name: str) -> HTMLResponse:
        return _document(settings().root / "docs", name)

    return app


def _document(folder: Path, name: str) -> HTMLResponse:
    from markdown_it import MarkdownIt

    found = (folder / f"{name.removesuffix('.md')}.md").resolve()
    if not found.is_relative_to(folder.resolve()) or not found.is_file():
        raise HTTPException(404, f"no document {name!r}; there are those in docs/")
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    tokens = markdown.parse(found.read_text(encoding="utf-8"))
    for opening, heading in pairwise(tokens):
        if opening.type == "heading_open":
            opening.attrSet("id", _anchor(heading.content))
    body = markdown.renderer.render(tokens, markdown.options, {})
    return HTMLResponse(
        f"<!doctype html><meta charset=utf-8><title>{found.stem}</title>{_STYLE}{body}", headers=_HEADERS
    )


def _anchor(heading: str) -> str:
    """The name of a heading in links, as GitHub forms it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def _page(folder: Path, path: str) -> FileResponse:
    found = (folder / path).resolve()
    if not found.is_relative_to(folder.resolve()) or not found.is_file():
        raise HTTPException(404, f"no page {path!r}: it is made by the task that links to it")
    return FileResponse(found, headers=_HEADERS)
