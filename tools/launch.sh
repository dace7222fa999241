# Sourced by dist_train.sh and dist_test.sh: one process per GPU through torchrun.

tools_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# launch GPUS TOOL [arguments...]
launch() {
    local gpus=$1 tool=$2
    shift 2
    local nodes=${NNODES:-1} rendezvous
    if [[ $nodes == 1 && -z ${PORT:-} ]]; then
        rendezvous=(--standalone) # finds a free port: several jobs fit on one machine
    else
        rendezvous=(
            --node_rank="${NODE_RANK:-0}"
            --master_addr="${MASTER_ADDR:-127.0.0.1}"
            --master_port="${PORT:-29500}"
        )
    fi
    PYTHONPATH="$tools_dir/..${PYTHONPATH:+:$PYTHONPATH}" exec "${PYTHON:-python}" -m torch.distributed.run \
        --nnodes="$nodes" --nproc_per_node="$gpus" "${rendezvous[@]}" "$tools_dir/$tool" "$@"
}
