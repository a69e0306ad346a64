#!/usr/bin/env bash
# Resolve every extra anew and write constraints.txt. The newest versions that pyproject.toml allows; ray and celery too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

python="$(bash scripts/preflight.sh --print-python)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
echo "lock: pip resolves all extras (minutes)"
# Airflow's own constraints hold its dependencies together; what it does not name is free.
"$work/venv/bin/python" -m pip install --quiet --dry-run --ignore-installed --report "$work/report.json" \
    ${LOCK_CONSTRAINTS:+-c "$LOCK_CONSTRAINTS"} ".[all,dev,celery,ray]"
"$work/venv/bin/python" - "$work/report.json" constraints.txt <<'PYTHON'
import json
import re
import sys
from pathlib import Path

report, lock = Path(sys.argv[1]), Path(sys.argv[2])
header = [line for line in lock.read_text().splitlines() if line.startswith("#")] if lock.exists() else []
pins = {}
for item in json.loads(report.read_text())["install"]:
    name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
    if name != "millrace":
        pins[name] = item["metadata"]["version"].split("+")[0]  # torch==2.13.0 admits 2.13.0+cpu
draft = lock.with_suffix(".draft")
draft.write_text("\n".join([*header, *(f"{name}=={pins[name]}" for name in sorted(pins))]) + "\n")
draft.replace(lock)
print(f"lock: {len(pins)} packages in {lock}")
PYTHON
echo "lock: now run 'make test', then commit constraints.txt"
