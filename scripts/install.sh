#!/usr/bin/env bash
# Make .venv from the lock. Does nothing where that was done already for this place, this lock and this pyproject.toml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv="$PWD/.venv"
stamp="$venv/.millrace-installed"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_INPUT=1

exec 9<Makefile
flock 9 # two at once: the second waits, and finds it done

python="$(bash scripts/preflight.sh --print-python)"
wanted="$(printf '%s\n' "$venv"; sha256sum <constraints.txt; sha256sum <pyproject.toml)"

if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ] && "$venv/bin/python" -c 'import millrace' 2>/dev/null; then
    exit 0
fi
rm -f "$stamp" # from here on the environment counts as incomplete

# A virtual environment does not survive a move: its scripts name the old place.
made_at="$(sed -n 's/^command = .* -m venv \(--[a-z-]* \)*//p' "$venv/pyvenv.cfg" 2>/dev/null || true)"
if ! "$venv/bin/python" -c 'import sys, pip; raise SystemExit(sys.version_info[:2] != (3, 11))' 2>/dev/null \
    || { [ -n "$made_at" ] && [ "$made_at" != "$venv" ]; }; then
    echo "install: making .venv with $("$python" --version)"
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi

# torch for CPUs is a tenth of the size of the default build. pip finds it where its own configuration names a place
# (find-links); TORCH_INDEX names an index for torch alone.
if [ -n "${TORCH_INDEX:-}" ] && ! "$venv/bin/python" -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
    echo "install: torch from TORCH_INDEX"
    "$venv/bin/python" -m pip install --quiet --no-deps -c constraints.txt --index-url "$TORCH_INDEX" torch
fi

echo "install: pip installs $(grep -c == constraints.txt) locked packages at most (some minutes the first time)"
started=$SECONDS
if ! "$venv/bin/python" -m pip install --quiet -c constraints.txt -e ".[all,dev]"; then
    echo "install: pip failed; see above" >&2
    echo "  remedy: check the network or pip's configuration, then run it again: what was downloaded is kept" >&2
    exit 1
fi
printf '%s' "$((SECONDS - started))" >"$venv/.install_seconds"
printf '%s' "$wanted" >"$stamp"
echo "install: done in $((SECONDS - started)) s"
