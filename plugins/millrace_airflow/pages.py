"""Reports, Data Docs and model cards over HTTP, for people who are logged in to Airflow."""

from pathlib import Path

from airflow.api_fastapi.auth.managers.models.resource_details import AccessView
from airflow.api_fastapi.core_api.security import requires_access_view
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse

from millrace.settings import settings

# Reports carry scripts of their libraries: the sandbox gives them an origin of their own, away from Airflow's cookie.
_HEADERS = {"Content-Security-Policy": "sandbox allow-scripts allow-popups", "X-Content-Type-Options": "nosniff"}


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

    return app


def _page(folder: Path, path: str) -> FileResponse:
    found = (folder / path).resolve()
    if not found.is_relative_to(folder.resolve()) or not found.is_file():
        raise HTTPException(404, f"no page {path!r}: it is made by the task that links to it")
    return FileResponse(found, headers=_HEADERS)
