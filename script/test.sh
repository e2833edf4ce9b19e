#!/usr/bin/env bash
# Run the tests: script/test.sh [unit|engine|notebooks|browser|all] [options of pytest]
#
#   unit        everything without processes of its own: metrics, readers, recorded cases, architecture, packaging
#   engine      stages killed and resumed, two drivers at once, a full disk
#   notebooks   every notebook through papermill
#   browser     JupyterLab in chromium; PODIUM_BROWSER_REQUIRED=1 makes a missing chromium a failure instead of a skip
# Default: all four, in this order; a failing part does not stop the next, the exit status is that of the first to fail.
#   GOLDEN_DIR          folder of recorded cases instead of tests/golden/cases
#   PODIUM_REAL_DATA    folder with published files, by submission; without it the tests that read them are skipped
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

part=all
case "${1:-}" in
    unit | engine | notebooks | browser | all) part="$1" && shift ;;
    '' | -*) ;;
    *) fail "no part $1; give unit, engine, notebooks, browser or all, then options of pytest" ;;
esac

# Folders given relative to where the command was typed.
for name in GOLDEN_DIR PODIUM_REAL_DATA; do
    folder="${!name:-}"
    [ -n "$folder" ] || continue
    [ -d "$folder" ] || fail "$name is $folder, which is no folder"
    export "$name=$(cd "$folder" && pwd -P)"
done
ensure_environment
cd "$ROOT"

# Tiny models gain nothing from more than two threads, and several processes run at once.
cores="$("$PYTHON" -c 'import os; print(os.cpu_count())')"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores < 2 ? cores : 2))}"

summary="$(mktemp "${TMPDIR:-/tmp}/podium.XXXXXX")"
trap 'rm -f "$summary" "$summary.part"' EXIT
first_failure=0

# run_part NAME MARKERS [options of pytest]
run_part() {
    local name="$1" markers="$2" status=0
    shift 2
    say "tests: $name"
    "$PYTHON" -m pytest -m "$markers" "$@" 2>&1 | tee "$summary.part" || status=$?
    # 5: no test selected; that is an answer to a choice of one's own (-k), otherwise tests have gone missing.
    [ "$status" -ne 5 ] || [ $# -eq 0 ] || status=0
    printf '%-10s %s\n' "$name" "$(grep -E '(passed|failed|error|skipped|deselected|no tests ran).* in [0-9.]+s' "$summary.part" | tail -n 1)" >>"$summary"
    [ "$first_failure" -ne 0 ] || first_failure=$status
}

is_wanted() { [ "$part" = all ] || [ "$part" = "$1" ]; }

! is_wanted unit || run_part unit "not engine and not notebook and not browser" "$@"
! is_wanted engine || run_part engine "engine" "$@"
! is_wanted notebooks || run_part notebooks "notebook and not browser" "$@"
! is_wanted browser || run_part browser "browser" "$@"

printf '\n'
cat "$summary"
exit "$first_failure"
