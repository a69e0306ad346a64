#!/usr/bin/env bash
# Is everything there that pip cannot bring? Prints what is missing, with the one line that mends it.
#   PYTHON=/path/to/python3.11 chooses an interpreter.
set -uo pipefail

fail() { printf 'preflight: %s\n' "$1" >&2; printf '  remedy: %s\n' "$2" >&2; exit 1; }

# A candidate counts where it runs and is 3.11 (a pyenv shim may be on PATH and still refuse).
works() { "$1" -c 'import sys; raise SystemExit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in python3.11 /usr/bin/python3.11 /usr/local/bin/python3.11 python3 python; do
        if works "$candidate"; then "$candidate" -c 'import sys; print(sys.executable)'; return 0; fi
    done
    return 1
}

if [ -n "${PYTHON:-}" ]; then
    command -v "$PYTHON" >/dev/null 2>&1 || fail "PYTHON=$PYTHON is not a command" "give the path of a Python 3.11"
    works "$PYTHON" || fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 | head -n 1), but Millrace needs Python 3.11" \
        "give the path of a Python 3.11, such as PYTHON=/usr/bin/python3.11"
    python="$PYTHON"
else
    python="$(find_python || true)"
fi

missing=()
if [ -z "$python" ]; then
    found="$(python3 --version 2>&1 || echo 'no python3')"
    printf 'preflight: Python 3.11 is needed, found: %s\n' "$found" >&2
    missing+=(python3.11 python3.11-venv)
else
    # Debian ships ensurepip in python3.11-venv; without it a venv is made, but empty of pip.
    "$python" -c 'import venv, ensurepip' >/dev/null 2>&1 || missing+=(python3.11-venv)
    # lightgbm and xgboost load it at import.
    "$python" -c 'import ctypes; ctypes.CDLL("libgomp.so.1")' >/dev/null 2>&1 || missing+=(libgomp1)
fi
command -v git >/dev/null 2>&1 || missing+=(git)
command -v make >/dev/null 2>&1 || missing+=(make)
command -v setpriv >/dev/null 2>&1 || missing+=(util-linux)

if [ "${#missing[@]}" -gt 0 ]; then
    sudo=""
    [ "$(id -u)" -eq 0 ] || sudo="sudo "
    printf 'preflight: missing: %s\n' "${missing[*]}" >&2
    printf '  remedy: %sapt-get install -y %s\n' "$sudo" "${missing[*]}" >&2
    exit 1
fi
if [ "${1:-}" = "--print-python" ]; then printf '%s\n' "$python"; else printf 'preflight: %s, all there\n' "$("$python" --version)"; fi
