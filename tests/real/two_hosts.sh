#!/bin/bash
# Two hosts in miniature: two network namespaces with a cable between them, a rank in each. Runs end
# in the same weights however they are started; a rank that is killed, stopped or cut off ends the
# other one in time; the run goes on.
#
#     tests/real/two_hosts.sh [FOLDER]        (as root; some minutes; `make test-two-hosts`)
#
# Where namespaces are not allowed, the hosts are two addresses of loopback, and no cable is cut.
# JOUST and TORCHRUN name the programs. Ends with 1 where something is not as it should be.

set -u
cd "$(dirname "$0")/../.."
JOUST=${JOUST:-$PWD/target/release/joust}
TORCHRUN=${TORCHRUN:-$PWD/.venv/bin/torchrun}
DIR=$(realpath "${1:-$(mktemp -d)}")
LIMIT_S=10
# beyond the limit: the step under way, the end of the program
GRACE_S=20
failures=0
port=29600

say() { printf '%s\n' "$*"; }
fail() { say "FAILED: $*"; failures=$((failures + 1)); }

NAMES=(joust-host0 joust-host1)
if ip netns add "${NAMES[0]}" 2>/dev/null && ip netns add "${NAMES[1]}"; then
    HAS_CABLE=1
    ADDRESSES=(10.77.0.1 10.77.0.2)
    trap 'ip netns del ${NAMES[0]}; ip netns del ${NAMES[1]}' EXIT
    ip link add joust-c0 netns "${NAMES[0]}" type veth peer name joust-c1 netns "${NAMES[1]}"
    for host in 0 1; do
        ip -n "${NAMES[$host]}" addr add "${ADDRESSES[$host]}/24" dev "joust-c$host"
        ip -n "${NAMES[$host]}" link set lo up
        ip -n "${NAMES[$host]}" link set "joust-c$host" up
    done
    say "hosts: network namespaces, ${ADDRESSES[*]}"
else
    HAS_CABLE=0
    ADDRESSES=(127.0.0.1 127.0.0.2)
    say "hosts: addresses of loopback, because network namespaces are not allowed here"
fi

# on HOST COMMAND...: becomes the command on a host
on() {
    local host=$1
    shift
    if [ $HAS_CABLE = 1 ]; then exec ip netns exec "${NAMES[$host]}" "$@"; else exec "$@"; fi
}

train() {
    printf '%s\n' train configs/quickstart.toml train.steps=6 train.prompts_per_step=6 \
        eval.every=0 eval.max_prompts=1 checkpoint.every=1 checkpoint.keep_last=0 \
        rollout.engine.prefix_cache=false run.ranks.timeout_s=$LIMIT_S run.output_dir="$DIR" \
        run.name="$1" --resume
}

# start NAME: a rank on each host, by plain variables; their processes are in PIDS
start() {
    port=$((port + 1))
    mapfile -t args < <(train "$1")
    for host in 0 1; do
        (
            export RANK=$host WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1
            export MASTER_ADDR=${ADDRESSES[0]} MASTER_PORT=$port
            on $host "$JOUST" "${args[@]}"
        ) >"$DIR/$1.$host.out" 2>"$DIR/$1.$host.log" &
        PIDS[host]=$!
        # a rank that is killed is no news
        disown
    done
}

# wait_for FILE TEXT
wait_for() {
    for _ in $(seq 1200); do
        grep -q "$2" "$1" 2>/dev/null && return
        sleep 0.05
    done
    fail "$1 never says $2"
}

# end_within SECONDS HOST...: the ranks on these hosts end by themselves
end_within() {
    local seconds=$1 began=$SECONDS host
    shift
    for host in "$@"; do
        while kill -0 "${PIDS[$host]}" 2>/dev/null; do
            if [ $((SECONDS - began)) -gt "$seconds" ]; then
                fail "rank $host has not ended within $seconds s"
                kill -KILL "${PIDS[$host]}"
            fi
            sleep 0.1
        done
    done
    TOOK=$((SECONDS - began))
}

# one_error FILE: there is one line of error, which is shown
one_error() {
    local n
    n=$(grep -c '^error: ' "$1")
    [ "$n" = 1 ] || fail "$1 has $n lines of error"
    say "    $(grep '^error: ' "$1" | head -1)"
}

weights() { (cd "$DIR/$1/checkpoints/step_00006" && sha256sum ./*.safetensors */*.safetensors) | sha256sum; }
same_as_whole() {
    if [ "$(weights "$1")" = "$(weights whole)" ]; then say "    $1: the weights of an unbroken run"
    else fail "$1 has other weights than an unbroken run"; fi
}

say "plain variables: an unbroken run"
start whole
end_within 300 0 1
[ -d "$DIR/whole/checkpoints/step_00006" ] || fail "no run: $(cat "$DIR"/whole.*.log)"

say "torchrun on both hosts"
torchrun() {
    port=$((port + 1))
    mapfile -t args < <(train "$1")
    for host in 0 1; do
        on $host "$TORCHRUN" --no-python --nnodes 2 --nproc-per-node 1 --max-restarts 2 \
            --node-rank $host --master-addr "${ADDRESSES[0]}" --master-port $port \
            "$JOUST" "${args[@]}" >"$DIR/$1.$host.out" 2>"$DIR/$1.$host.log" &
        PIDS[host]=$!
    done
}
torchrun by-torchrun
end_within 300 0 1
same_as_whole by-torchrun

say "torchrun --max-restarts 2, two ranks are killed one after the other"
torchrun killed
for host in 1 0; do
    step=$((4 - host * 2))
    until [ -d "$DIR/killed/checkpoints/step_0000$step" ]; do sleep 0.05; done
    victim=$(pgrep -f "^$JOUST .*run.name=killed " | while read -r pid; do
        tr '\0' '\n' <"/proc/$pid/environ" | grep -qx "RANK=$host" && echo "$pid"
    done)
    # shellcheck disable=SC2086
    kill -KILL $victim || fail "no rank $host to kill"
done
end_within 300 0 1
same_as_whole killed

# kill_at SIGNAL VICTIM DELAY: after a step's line and a delay; the other one ends, the run goes on
kill_at() {
    local name="signal-$1-$2-$3" other=$((1 - $2))
    start "$name"
    wait_for "$DIR/$name.0.log" '^2/6 '
    sleep "$3"
    kill "-$1" "${PIDS[$2]}"
    end_within $((LIMIT_S + GRACE_S)) $other
    say "  rank $2 gets $1, $3 s after step 2: the other one ends after $TOOK s"
    one_error "$DIR/$name.$other.log"
    kill -KILL "${PIDS[$2]}" 2>/dev/null
    start "$name"
    end_within 300 0 1
    same_as_whole "$name"
}
say "signals"
for delay in ${DELAYS:-0 0.1 0.2 0.3 0.4 0.5 0.6 0.8}; do kill_at KILL 1 "$delay"; done
kill_at KILL 0 0.2
kill_at STOP 1 0.2
kill_at STOP 0 0.2

if [ $HAS_CABLE = 1 ]; then
    say "the cable is cut"
    start cut
    wait_for "$DIR/cut.0.log" '^2/6 '
    ip -n "${NAMES[1]}" link set joust-c1 down
    end_within $((LIMIT_S + GRACE_S)) 0 1
    say "  both end after $TOOK s"
    one_error "$DIR/cut.0.log"
    one_error "$DIR/cut.1.log"
    ip -n "${NAMES[1]}" link set joust-c1 up
    start cut
    end_within 300 0 1
    same_as_whole cut
fi

say "$failures failures; logs in $DIR"
[ $failures = 0 ]
