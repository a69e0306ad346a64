"""CPU seconds of parsing all DAG files above importing airflow.sdk, in fresh processes."""

from __future__ import annotations

import tempfile

from tests.benchmarks.pairs import Sample, compare
from tests.benchmarks.process import ROOT, run_python
from tests.benchmarks.row import Row

GOAL_S = 1.0
FORBIDDEN = (
    *("pandas", "numpy", "mlflow", "feast", "great_expectations", "evidently"),
    *("torch", "xgboost", "lightgbm", "sklearn", "duckdb"),
)

# CPU time counts the whole process, start of the interpreter included, on both sides alike.
_IMPORT = """
import gc, json, runpy, sys, time
from airflow.sdk import DAG
from tests.benchmarks.process import peak_mb
base = peak_mb()
"""
_PARSE = "for path in sys.argv[2:]:\n    runpy.run_path(path)\n"
_TELL = (
    "found = [name for name in json.loads(sys.argv[1]) if name in sys.modules]\n"
    "told = {'cpu_s': time.process_time(), 'forbidden': found, 'peak_mb': peak_mb() - base}\n"
    "print(json.dumps({**told, 'dags': len({item.dag_id for item in gc.get_objects() if isinstance(item, DAG)})}))"
)


def run(scale: float) -> list[Row]:
    """Parse every DAG file `scale` times (at least once) in one process.

    Raises:
        AssertionError: a heavy library was imported on the way, or no DAG came out.
    """
    files = [str(path) for path in sorted((ROOT / "dags").glob("*.py"))] * max(1, round(scale))
    with tempfile.TemporaryDirectory(prefix="millrace-parse-") as home:
        found = compare(lambda: _fresh(_PARSE, files, home), lambda: _fresh("", [], home), pairs=5)
    above = found.ours - found.other
    return [
        Row(
            name="parse",
            scale=scale,
            ours=above,
            other=found.other,
            other_is="CPU of a process that imports airflow.sdk's DAG and ends",
            unit="s CPU",
            goal=GOAL_S,
            goal_kind="absolute",
            peak_mb=found.peak_mb,
        )
    ]


def _fresh(work: str, files: list[str], home: str) -> Sample:
    names = "[" + ",".join(f'"{name}"' for name in FORBIDDEN) + "]"
    env = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
    env["AIRFLOW__CORE__PLUGINS_FOLDER"] = str(ROOT / "plugins")
    told = run_python("-c", _IMPORT + work + _TELL, names, *files, env=env, timeout_s=120)
    if told["forbidden"]:
        raise AssertionError(f"parsing imports {', '.join(told['forbidden'])}: move the import into the task")
    if bool(told["dags"]) != bool(files):
        raise AssertionError(f"{told['dags']} DAGs came out of {len(files)} files")
    return Sample(figure=told["cpu_s"], peak_mb=told["peak_mb"])
