#!/bin/bash
# Measures clients through build/bin/mqttd on 127.0.0.1: ours, libmosquitto and Paho C.
#
#   bench/client.sh [--count N] [--rounds N] [--port N]
#
#   --count N      messages of a run by time (100000)
#   --rounds N     interleaved rounds by time, the median counts (3)
#   --port N       of the broker (21800)
#
# Each publishes and receives messages of 64 bytes at QoS 0 and at QoS 1 with 16 under way; a second
# process, always ours, is at the other end. Rows, for the peers with libmosquitto_ or paho_ before:
#
#   client_publish_qos0_us             CPU of the client's process, user and system, per message
#   client_publish_qos0_instructions   user instructions per message under callgrind: what a run of
#                                      11 times the messages takes more
#
# Broker and second process on core 0, client on core 1. Exit: 0 clean, 1 when a message was lost,
# doubled, out of order, changed or not acknowledged, 2 wrong arguments or nothing to measure with.
set -u
cd "$(dirname "$0")/.." || exit 2

count=100000 rounds=3 port=21800
while [ $# -gt 0 ]; do
  case $1 in
    --count | --rounds | --port)
      [ $# -ge 2 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
      printf -v "${1#--}" '%s' "$2"
      shift 2 ;;
    *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
  esac
done

build=build/bench
mkdir -p $build
work=$(mktemp -d)
broker_pid=''
trap '[ -z "$broker_pid" ] || kill "$broker_pid"; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

clients=(client client_mosquitto client_paho)
compile() {
  ${CXX:-c++} -std=c++17 -O2 -DNDEBUG -Wall -Wextra -I. "bench/$1.cpp" -o "$build/$1" "${@:2}" ||
    exit 1
}
compile client
compile client_mosquitto -lmosquitto
compile client_paho -lpaho-mqtt3a -pthread

if [ ! -x build/bin/mqttd ]; then
  echo 'build/bin/mqttd is missing: build it first' >&2
  exit 2
fi
# A receiver at QoS 0 cannot hold the publisher back: all that it has not read yet is queued.
printf '%s\n' "listener $port 127.0.0.1" 'allow_anonymous true' 'max_queued_messages 0' \
  'log_type error' >"$work/mqttd.conf"
taskset -c 0 build/bin/mqttd -c "$work/mqttd.conf" >"$work/mqttd.log" 2>&1 &
broker_pid=$!
tries=0
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do
  tries=$((tries + 1))
  if [ $tries -gt 100 ] || ! kill -0 $broker_pid 2>/dev/null; then
    echo "mqttd does not listen on $port:" >&2
    cat "$work/mqttd.log" >&2
    exit 1
  fi
  sleep 0.05
done

# run CLIENT ROLE QOS COUNT [WRAPPER...]: one run; its output in $work/output.
run() {
  local client=$1 role=$2 qos=$3 messages=$4 other=receive
  shift 4
  [ "$role" = publish ] || other=publish
  if ! taskset -c 1 "$@" $build/"$client" "$role" "$qos" "$messages" "$port" \
    "taskset -c 0 $build/client $other $qos $messages $port" >"$work/output" 2>"$work/errors"; then
    echo "FAILED: $client $role, QoS $qos, $messages messages"
    tail -3 "$work/errors"
    failed=1
    return 1
  fi
}

row_of() {  # CLIENT ROLE QOS
  local prefix
  case $1 in client) prefix='' ;; client_mosquitto) prefix=libmosquitto_ ;; *) prefix=paho_ ;; esac
  echo "${prefix}client_$2_qos$3"
}

measure_time() {
  local round client role qos
  for ((round = 0; round < rounds; ++round)); do
    for role in publish receive; do
      for qos in 0 1; do
        for client in "${clients[@]}"; do
          run "$client" $role $qos "$count" || continue
          awk -v count="$count" '$1 == "cpu" { print $2 / count }' "$work/output" \
            >>"$work/$(row_of "$client" $role $qos)"
        done
      done
    done
  done
}

# total CLIENT ROLE QOS COUNT: sets instructions to all that the client's process executed.
total() {
  run "$@" valgrind --tool=callgrind --callgrind-out-file="$work/callgrind.out" || return 1
  instructions=$(awk '/^(summary|totals):/ { print $2; exit }' "$work/callgrind.out")
  [ -n "$instructions" ]
}

report() {  # CLIENT ROLE QOS
  local row few messages=2000
  [ "$1" != client_paho ] || messages=500  # its threads wait a lot for each other under callgrind
  row=$(row_of "$@")
  [ -s "$work/$row" ] || return
  sort -g "$work/$row" |
    awk -v row="$row" '{ v[NR] = $1 } END { printf "%s_us %.3f us\n", row, v[int((NR + 1) / 2)] }'
  total "$@" $messages || return
  few=$instructions
  total "$@" $((messages * 11)) || return
  echo "${row}_instructions $(((instructions - few) / messages / 10)) instructions"
}

failed=0
measure_time
for client in "${clients[@]}"; do
  for role in publish receive; do
    for qos in 0 1; do report "$client" $role $qos; done
  done
done
exit $failed
