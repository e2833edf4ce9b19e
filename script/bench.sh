#!/usr/bin/env bash
# Measure the kit against its targets: script/bench.sh [ranking|captions|scorers|render|blocks|llava|chain|a3r_learning ...], default all of them, shortest first.
#
# Each is a program of tests/bench; exit status 1 if one misses a target. Times mean something on an otherwise idle machine only.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment
cd "$ROOT"
[ $# -gt 0 ] || set -- ranking captions scorers render blocks llava chain a3r_learning
status=0
for name in "$@"; do
    [ -f "tests/bench/bench_$name.py" ] || fail "no bench $name; there are: $(printf '%s ' tests/bench/bench_*.py | sed 's|tests/bench/bench_||g; s|\.py *| |g; s| $||')"
    say "bench $name"
    "$PYTHON" -m "tests.bench.bench_$name" || status=1
done
exit $status
