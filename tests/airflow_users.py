"""Who a token is of, asked of Airflow's own login and auth routes and nothing else of it: for tests of the CLI."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE_S = 120.0
PASSWORDS: Mapping[str, str] = {"ann": "ann's password", "olive": "olive's password", "paul": "paul's password"}


@dataclass(frozen=True, slots=True)
class Users:
    """A running Airflow that knows three people and nothing else.

    Attributes:
        url: its base address.
    """

    url: str

    def token(self, user: str, kind: str = "") -> str:
        """A token of one of them, as Airflow gives it; one of kind `/cli` is good for a second."""
        about = {"username": user, "password": PASSWORDS[user]}
        answer = httpx.post(f"{self.url}/auth/token{kind}", json=about, trust_env=False, timeout=_PATIENCE_S)
        return str(answer.raise_for_status().json()["access_token"])

    def environ(self, user: str) -> dict[str, str]:
        """What the environment of a command holds that acts as one of them."""
        return {"MILLRACE_AIRFLOW_URL": self.url, "MILLRACE_AIRFLOW_TOKEN": self.token(user)}


@contextlib.contextmanager
def serve(folder: Path) -> Iterator[Users]:
    """Start it."""
    (folder / "passwords.json").write_text(json.dumps(dict(PASSWORDS)))
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:admin" for user in PASSWORDS),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(folder / "passwords.json"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret of a test that is long enough to sign with, and a bit longer still",
        "AIRFLOW__API_AUTH__JWT_CLI_EXPIRATION_TIME": "1",
        "AIRFLOW__API_AUTH__JWT_LEEWAY": "0",
    }
    with (folder / "log").open("wb") as log, socket.create_server(("127.0.0.1", 0)) as listening:
        handed = listening.fileno()
        argv = [sys.executable, str(Path(__file__)), str(handed)]
        process = subprocess.Popen(argv, cwd=ROOT, env=environ, stdout=log, stderr=log, pass_fds=[handed])
        try:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            _wait(url, process, folder / "log")
            yield Users(url)
        finally:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"{url}/ui/auth/me", trust_env=False).status_code == httpx.codes.UNAUTHORIZED:
                return
        time.sleep(0.05)
    raise RuntimeError(f"Airflow's users did not start:\n{log.read_text()[-3000:]}")


def _main(handed: int) -> None:
    import uvicorn
    from airflow import settings
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.core_api.routes.ui.auth import auth_router
    from airflow.models.revoked_token import RevokedToken
    from fastapi import FastAPI

    settings.initialize()
    RevokedToken.__table__.create(settings.engine)
    app = FastAPI()
    app.include_router(auth_router, prefix="/ui")
    init_auth_manager(app)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([socket.socket(fileno=handed)])


if __name__ == "__main__":
    _main(int(sys.argv[1]))
