#!/usr/bin/env bash
# Open JupyterLab on notebooks/notebook-reproduce.ipynb; options go to JupyterLab (such as --no-browser --port 8888).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
ensure_environment
cd "$ROOT"
exec "$PYTHON" -m jupyterlab --notebook-dir="$ROOT" "$@" notebooks/notebook-reproduce.ipynb
