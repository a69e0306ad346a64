"""The production topology is accepted by Debian's docker-compose, which needs no engine to check it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SECRETS = sorted(set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text())))

needs_compose = pytest.mark.skipif(
    shutil.which("docker-compose") is None, reason="docker-compose is not installed: apt-get install docker-compose"
)


def _config(tmp_path: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    env = tmp_path / "secrets.env"
    env.write_text("".join(f"{name}=for-a-test\n" for name in names))
    command = ["docker-compose", "-f", str(COMPOSE), "--env-file", str(env), "config"]
    clean = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": str(tmp_path)}
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=clean, check=False, timeout=280)


@needs_compose
def test_compose_file_is_accepted(tmp_path: Path) -> None:
    done = _config(tmp_path, SECRETS)
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert set(services) == {
        *("postgres", "redis", "init", "api-server", "scheduler", "dag-processor"),
        *("triggerer", "worker", "mlflow", "serving"),
    }
    assert all("healthcheck" in service for name, service in services.items() if name != "init")


@needs_compose
@pytest.mark.parametrize("missing", SECRETS)
def test_a_missing_secret_is_named(tmp_path: Path, missing: str) -> None:
    done = _config(tmp_path, [name for name in SECRETS if name != missing])
    assert done.returncode != 0
    assert f"set {missing} in .env" in done.stderr


def test_every_secret_stands_in_the_example() -> None:
    lines = (ROOT / "docker" / "env.example").read_text().splitlines()
    assert sorted(line.removesuffix("=") for line in lines if line and not line.startswith("#")) == SECRETS


def test_nothing_is_published_beyond_loopback() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)
