# Makes the Python environment .venv from requirements.lock, once; to be sourced by the scripts beside it.
#
# Needs Python >= 3.11 with pip, nothing else; touches nothing outside .venv and log/. Package indexes, proxies and certificates
# are those of this machine's own settings. After `ensure_environment`, ROOT is the checkout and PYTHON the interpreter to use.
#   PODIUM_PYTHON   use this interpreter as it is and install nothing (a conda environment made from environment.yml)
#   PODIUM_VENV     where the environment lies instead of .venv

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
VENV="${PODIUM_VENV:-$ROOT/.venv}"
NEEDED_GIB=8  # about 6 installed, most of it torch with its CUDA libraries; uv's download cache shares the same disk blocks

say() { printf '%s  %s\n' "$(date +%H:%M:%S)" "$*" >&2; }

fail() {
    printf 'podium: %s\n' "$*" >&2
    exit 1
}

# Set PYTHON; make or renew the environment unless its stamp says that it was made from the present lock for this place.
ensure_environment() {
    if [ -n "${PODIUM_PYTHON:-}" ]; then
        PYTHON="$PODIUM_PYTHON"
        is_python "$PYTHON" || fail "PODIUM_PYTHON is $PYTHON, which is no Python >= 3.11; unset it to use .venv"
        return
    fi
    PYTHON="$VENV/bin/python"
    is_up_to_date && return
    mkdir -p "$ROOT/log" || fail "cannot write to $ROOT; make it writable or clone elsewhere"
    # One script makes it, another started meanwhile waits. The descriptor is closed again: what runs later must not hold the lock.
    if command -v flock >/dev/null; then
        exec 9>"$ROOT/log/.environment.lock"
        flock -n 9 || { say "another script is making the environment; waiting for it" && flock 9; }
    fi
    is_up_to_date || (make_environment) || exit 1
    exec 9>&-
}

is_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

is_up_to_date() {
    [ -x "$PYTHON" ] && [ -f "$VENV/.stamp" ] && [ "$(cat "$VENV/.stamp")" = "$(stamp "$PYTHON")" ]
}

# sha256 of what the environment is made from, and the place of the checkout that is installed editable.
stamp() {
    "$1" - "$ROOT" <<'PYTHON' 2>/dev/null
import hashlib, pathlib, sys
root = pathlib.Path(sys.argv[1])
print(hashlib.sha256(b"".join((root / name).read_bytes() for name in ("requirements.lock", "pyproject.toml"))).hexdigest(), root)
PYTHON
}

# Runs in a subshell: `fail` ends it, and the trap removes the downloaded uv.
make_environment() {
    local base uv began=$SECONDS
    base="$(find_python)" || fail "no Python >= 3.11 with pip found (looked for python3, python, python3.11 to python3.14); install one"
    check_disk "$base"
    work="$(mktemp -d "${TMPDIR:-/tmp}/podium.XXXXXX")" || fail "cannot make a folder in ${TMPDIR:-/tmp}; set TMPDIR to a writable one"
    trap 'rm -rf "$work"' EXIT
    say "making the Python environment in $VENV (the first time some minutes: 3 GB to download)"
    follow_pip "$base"
    uv="$(find_uv "$base" "$work")" || fail "cannot install uv with $base -m pip; see the lines above, and whether this machine reaches a package index"
    is_python "$PYTHON" || "$uv" venv --quiet --clear --no-python-downloads --python "$base" "$VENV" || fail "cannot make $VENV with $base; see the line above"
    rm -f "$VENV/.stamp"
    say "installing the packages of requirements.lock"
    install_packages "$uv" \
        || fail "cannot install requirements.lock; see the lines above, then run this command again: it continues with what is downloaded"
    "$uv" pip install --quiet --python "$PYTHON" --no-deps --no-build-isolation --editable "$ROOT" \
        || fail "cannot install the kit itself into $VENV; see the lines above"
    stamp "$PYTHON" >"$VENV/.stamp" || fail "cannot write $VENV/.stamp; is the disk full?"
    say "environment ready after $((SECONDS - began)) s"
}

# Exactly the packages of the lock, compiled: a stage is a process of its own, and importing torch and open_clip from source takes
# each of them twice as long where Python may not keep what it compiled. Without a terminal uv's list of all names is left out.
install_packages() {
    local sync=("$1" pip sync --python "$PYTHON" --compile-bytecode --require-hashes "$ROOT/requirements.lock")
    if [ -t 2 ]; then
        "${sync[@]}"
        return
    fi
    "${sync[@]}" 2> >(grep -vE '^ ([+~-] |Downloaded |  )' >&2)
}

# The first Python >= 3.11 on PATH that has pip (or needs none, because uv is there).
find_python() {
    local name
    for name in python3 python python3.11 python3.12 python3.13 python3.14; do
        is_python "$name" || continue
        { is_uv uv || "$name" -m pip --version >/dev/null 2>&1; } || continue
        command -v "$name"
        return
    done
    return 1
}

is_uv() { "$1" --version >/dev/null 2>&1; }

# uv as this machine has it, else one downloaded by pip into the folder given, so that nothing of the system changes.
find_uv() {
    if is_uv uv; then
        command -v uv
        return
    fi
    say "fetching uv"
    PIP_ROOT_USER_ACTION=ignore "$1" -m pip install --quiet --disable-pip-version-check --target "$2" uv >&2 && printf '%s\n' "$2/bin/uv"
}

# uv does not read pip's settings: hand on the index and the certificates that pip uses here, unless uv has its own.
follow_pip() {
    local index="${PIP_INDEX_URL:-$("$1" -m pip config get global.index-url 2>/dev/null)}"
    local certificates="${PIP_CERT:-$("$1" -m pip config get global.cert 2>/dev/null)}"
    [ -z "$index" ] || export UV_DEFAULT_INDEX="${UV_DEFAULT_INDEX:-${UV_INDEX_URL:-$index}}"
    [ -z "$certificates" ] || export SSL_CERT_FILE="${SSL_CERT_FILE:-$certificates}"
    export UV_HTTP_TIMEOUT="${UV_HTTP_TIMEOUT:-300}"
}

check_disk() {
    local free
    free="$("$1" -c 'import shutil, sys; print(shutil.disk_usage(sys.argv[1]).free // 2**30)' "$ROOT")"
    [ "$free" -ge "$NEEDED_GIB" ] || fail "$free GiB free in $ROOT, the environment needs $NEEDED_GIB; free some, or set PODIUM_VENV to a folder on a larger disk"
}
