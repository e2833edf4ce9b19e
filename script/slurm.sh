#!/usr/bin/env bash
# Full profile on one 8-GPU node: sbatch script/slurm.sh SUBMISSION [options of `python -m lib run`]
#
# A time limit is no loss: Slurm announces it with SIGUSR1, the run stops at its last checkpoint, the job queues itself again and
# continues there. Make the environment on the login node first (script/reproduce.sh, or environment.yml and PODIUM_PYTHON).
#SBATCH --job-name=podium
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=log/slurm-%j.out
set -euo pipefail

# NOTE Slurm runs a copy of this file from a spool folder; the checkout is where sbatch was called.
cd "${SLURM_SUBMIT_DIR:-$(dirname "${BASH_SOURCE[0]}")/..}"
[ -f script/environment.sh ] || { echo "podium: call sbatch in the checkout, as sbatch script/slurm.sh SUBMISSION" >&2 && exit 1; }
source script/environment.sh
[ $# -gt 0 ] || fail "no submission; sbatch script/slurm.sh SUBMISSION [options], names by python -m lib list"
ensure_environment

"$PYTHON" -m lib run "$@" --profile full &
run=$!
requeue=""

# Hand the signal on and remember whether it announced the end of the job's time.
# shellcheck disable=SC2329  # called by the traps
stop_run() {
    say "signal $1: the run stops at its last checkpoint"
    requeue="$2"
    kill -TERM "$run" 2>/dev/null || true
}
trap 'stop_run USR1 yes' USR1
trap 'stop_run TERM ""' TERM
trap 'stop_run INT ""' INT

# `wait` returns early when a signal arrives; the second one waits for the run itself.
status=0
wait "$run" || status=$?
while kill -0 "$run" 2>/dev/null; do
    status=0
    wait "$run" || status=$?
done
if [ -n "$requeue" ] && [ "$status" -ne 0 ]; then
    say "queued again: the next start continues at the checkpoint"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
