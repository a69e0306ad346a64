from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from tests.unit.serving import sample
from tests.unit.serving.conftest import World

from millrace.serving.guard import BLOCKED

_PATIENCE_S = 120.0
IN_PROCESS = """
import asyncio, sys
from pathlib import Path
from millrace.serving.guard import BLOCKED, block_modules
block_modules()
import httpx, orjson
from millrace.serving.app import InferenceApp
from millrace.serving.repository import Repository

folder, store, body = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]).read_bytes()
repository = Repository(folder, store)
app = InferenceApp(repository)
repository.load("flight_delay")

async def ask():
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://service") as client:
        for kind in orjson.loads(body):
            answer = await client.post("/v2/models/flight_delay/infer", json=kind)
            print(answer.json()["outputs"][0]["data"], answer.json()["parameters"]["feature_source"])
asyncio.run(ask())
loaded = sorted({name.split(".")[0] for name, module in sys.modules.items() if module is not None} & set(BLOCKED))
print("loaded:", loaded)
for name in BLOCKED:
    try:
        __import__(name)
    except ImportError:
        continue
    print("importable:", name)
"""


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(sample.ROOT / "include"), "MILLRACE_SERVING_TOKEN": ""}


def test_a_process_that_predicts_holds_none_of_the_blocked_libraries(world: World, tmp_path: Path) -> None:
    import orjson

    sample.point(tmp_path, world.package)
    rows = world.rows.slice(0, 2)
    names = (world.package.features.columns, sample.key_names(world.package))
    body = [{"inputs": sample.v2_inputs(world.spec, rows, which)} for which in names]
    (tmp_path / "body.json").write_bytes(orjson.dumps(body))
    argv = [sys.executable, "-c", IN_PROCESS, str(tmp_path), str(world.online_store), str(tmp_path / "body.json")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=240, env=environ())
    full, keyed, loaded = done.stdout.splitlines()
    expected = world.package.predictor().predict({name: rows.column(name) for name in world.package.features.columns})
    assert full == f"{expected.tolist()} request"
    assert keyed.endswith(" online")
    assert loaded == "loaded: []"


def test_a_blocked_library_that_is_there_already_is_told() -> None:
    code = f"import {BLOCKED[1]}; from millrace.serving.guard import block_modules; block_modules()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240, env=environ()
    )
    assert done.returncode == 1
    assert "pandas already imported" in done.stderr


def test_the_service_starts_serves_and_stops_in_peace(world: World, tmp_path: Path) -> None:
    folder = tmp_path / "a folder with a space"
    sample.point(folder, world.package)
    body = {"inputs": sample.v2_inputs(world.spec, world.rows.slice(0, 1), world.package.features.columns)}
    with sample.live_service(folder, log=tmp_path / "log") as live:
        asked = httpx.post(f"{live.url}/v2/models/flight_delay/infer", json=body, trust_env=False, timeout=_PATIENCE_S)
        assert asked.is_success
        used = Path(f"/proc/{live.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        assert (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK") < 3.0
        with httpx.Client(base_url=live.url, trust_env=False, timeout=_PATIENCE_S) as idle:
            idle.get("/v2/health/live")  # a connection kept alive must not hold the stop up
            live.process.send_signal(signal.SIGTERM)
            assert live.process.wait(120) == 0
    assert "Traceback" not in live.log.read_text()


def test_a_release_is_swapped_without_a_failed_request(world: World, tmp_path: Path) -> None:
    sample.point(tmp_path, world.package)
    body = {"inputs": sample.v2_inputs(world.spec, world.rows.slice(0, 1), world.package.features.columns)}
    stop, answered = threading.Event(), {number: threading.Event() for number in range(1, 6)}
    environ = {"MILLRACE_SERVING_TOKEN": "token of a test"}
    with (
        sample.live_service(tmp_path, log=tmp_path / "log", environ=environ) as live,
        httpx.Client(base_url=live.url, trust_env=False, timeout=_PATIENCE_S) as client,
        ThreadPoolExecutor(1) as pool,
    ):

        def keep_asking() -> list[int]:
            seen = []
            while not stop.is_set():
                answer = client.post("/v2/models/flight_delay/infer", json=body)
                assert answer.status_code == 200, answer.text
                seen.append(answer.json()["parameters"]["release"])
                answered[seen[-1]].set()
            return seen

        asking = pool.submit(keep_asking)
        try:
            for release in range(2, 6):
                sample.point(tmp_path, world.package, release=release)
                load = "/v2/repository/models/flight_delay/load"
                assert client.post(load).status_code == 401
                answer = client.post(load, headers={"Authorization": "Bearer token of a test"})
                assert answer.json()["version"] == str(release)
                assert answered[release].wait(_PATIENCE_S), asking
        finally:
            stop.set()
    seen = asking.result()
    assert seen == sorted(seen)


def test_a_port_that_is_taken_is_an_error_that_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        argv = [sys.executable, "-m", "millrace.serving", "--port", port, "--dir", str(tmp_path)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=240, env=environ())
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr
