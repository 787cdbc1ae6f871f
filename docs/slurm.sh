#!/bin/bash
# Trains a study on SLURM, one job a row and seed. With the project's environment activated:
#     bash docs/slurm.sh     in the study's folder, on a file system that all nodes share
# Yours to set are the resources of one training:
#SBATCH --cpus-per-task=1
#SBATCH --mem=4G
#SBATCH --time=24:00:00
##SBATCH --gpus=1

# SIGINT so many seconds before the time is up: the training ends in order, and is queued again.
#SBATCH --signal=INT@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --job-name=deepnets
#SBATCH --output=trainings/slurm-%A-%a.log

set -euo pipefail

# More often than that a training is not queued again: its time is too short for an epoch.
restarts=100

list_trainings() {
    python -c '
from deepnets.config import params
study = params.load()
for row in study.runs:
    for seed in study.train.seeds:
        print(row, seed)'
}

submit() {
    dvc repro --quiet preprocess initialize
    local count array last
    count=$(list_trainings | wc -l)
    mkdir -p trainings # SLURM makes no folder for its logs
    array=$(sbatch --parsable --array="0-$((count - 1))" "$0")
    array=${array%%;*}
    last=$(sbatch --parsable --dependency="afterany:$array" \
        --output=trainings/slurm-%j.log "$0" collect)
    echo "$count trainings are queued as job $array; job ${last%%;*} collects them"
}

train() {
    local all row seed status=0
    all=$(list_trainings)
    read -r row seed <<<"$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" <<<"$all")"
    if [[ -z $row ]]; then
        echo "there is no training $SLURM_ARRAY_TASK_ID: params.yaml has $(wc -l <<<"$all")," \
            "numbered from 0" >&2
        exit 2
    fi
    echo "$row, seed $seed"
    # An SQLite file takes no processes of several nodes: there the last job tells MLflow.
    [[ ${MLFLOW_TRACKING_URI-} == http* ]] || export DEEPNETS_UNFOLLOWED=1
    # Where SLURM does not bind processes to cores.
    export DEEPNETS_CORES=$SLURM_CPUS_PER_TASK
    # Since SLURM 22.05 srun does not take the number over from the job.
    srun --cpus-per-task="$SLURM_CPUS_PER_TASK" deepnets training "$row" "$seed" || status=$?
    if ((status == 130 && ${SLURM_RESTART_COUNT:-0} < restarts)); then
        # By its number in the array: the job id of one of them stands for all.
        scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
    fi
    exit "$status"
}

collect() {
    # A row that was trained before params.yaml was edited makes room.
    deepnets adopt --replace trainings
    if dvc status train | grep train@; then
        echo "these rows are not trained yet, trainings/*.log say why: submit again, and what has" \
            "ended is not trained anew" >&2
        exit 1
    fi
    dvc repro
}

if [[ -n ${SLURM_ARRAY_TASK_ID-} ]]; then
    train
elif [[ ${1-} == collect ]]; then
    collect
else
    submit
fi
