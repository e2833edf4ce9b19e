#!/usr/bin/env bash
# Reproduce submissions end to end: make the environment on first use, run the seven stages, print the claims table.
#
#   script/reproduce.sh [SUBMISSION ...] [--profile tiny|full] [--jobs N] [--set KEY=VALUE]
#
# Without a name: every submission of the kit. All options are those of `python -m lib run`. Called again, it continues where it
# stopped and skips what is up to date. Exit status 0 only if every stage is done.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment
cd "$ROOT"
exec "$PYTHON" -m lib run "$@"
