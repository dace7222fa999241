#!/usr/bin/env bash
# Evaluate a checkpoint on several GPUs.
#
#   bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
set -euo pipefail

if [[ $# -lt 3 || ! $3 =~ ^[1-9][0-9]*$ ]]; then
    echo "usage: bash $0 CONFIG CHECKPOINT GPUS [options of tools/test.py]" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3

source "$(dirname "$0")/launch.sh"
launch "$gpus" test.py "$config" "$checkpoint" --launcher pytorch "$@"
