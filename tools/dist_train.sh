#!/usr/bin/env bash
# Train on several GPUs: a baseline, a search or a pruned model, whatever the config is.
#
#   bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
#
# On several machines, on each: NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 bash tools/dist_train.sh ...
set -euo pipefail

if [[ $# -lt 2 || ! $2 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: bash $0 CONFIG GPUS [options of tools/train.py]" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2

source "$(dirname "$0")/launch.sh"
launch "$gpus" train.py "$config" --launcher pytorch "$@"
