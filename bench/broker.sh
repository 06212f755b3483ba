#!/bin/bash
# Measures the broker beside a relay that parses nothing, and beside Mosquitto on request.
#
#   bench/broker.sh [options] [SCENARIO...]
#
#   --peer         also mosquitto, if installed
#   --rounds N     interleaved rounds (3)
#   --seconds S    of each run (0.5)
#   --v5           MQTT 5 instead of 3.1.1
#   --callgrind    user instructions per message instead of time
#   --syscalls     system calls per message instead of time
#   --memory       subscriptions, retained messages, idle connections, wildcard cost
#   --million      with --memory: also a million wildcard subscriptions
#   --broker CMD   what to measure instead of build/bin/mqttd; %p in it is replaced by the port
#   --only NAME    only this server: mqttd, relay or mosquitto; may be repeated
#   --port N       first of the ports used (21900)
#   --log FILE     keep every line the generator printed
#
# Broker on core 0, generator on core 1, a fresh process for every run. Times mean something only
# as ratios to the relay of the same run. Exit: 0 clean, 1 when a message was lost, doubled, out of
# order or corrupt, or a server failed; 2 wrong arguments. Speed alone never fails the run.
set -u
cd "$(dirname "$0")/.." || exit 2

rounds=3 seconds=0.5 mode=time first_port=21900 million=no peer=no log='' version=''
broker='build/bin/mqttd -p %p'
only=()
scenarios=()
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; }
while [ $# -gt 0 ]; do
  case $1 in
    --peer) peer=yes ;;
    --v5) version=--v5 ;;
    --callgrind | --syscalls | --memory) mode=${1#--} ;;
    --million) million=yes ;;
    -h | --help) usage; exit 0 ;;
    --rounds | --seconds | --broker | --only | --port | --log)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      case $1 in
        --rounds) rounds=$2 ;;
        --seconds) seconds=$2 ;;
        --broker) broker=$2 ;;
        --only) only+=("$2") ;;
        --port) first_port=$2 ;;
        --log) log=$2 ;;
      esac
      shift ;;
    -*) usage >&2; exit 2 ;;
    *) scenarios+=("$1") ;;
  esac
  shift
done

work=$(mktemp -d)
server_pid=''
tracer_pid=''
stop_server() {
  local pid=${server_pid:-} tries=0
  server_pid=''
  [ -n "$pid" ] || return 0
  kill -TERM "$pid" 2>/dev/null
  while kill -0 "$pid" 2>/dev/null && [ $tries -lt 200 ]; do
    sleep 0.05
    tries=$((tries + 1))
    # A child that has ended answers kill -0 until it is waited for.
    case $(cut -d' ' -f3 "/proc/$pid/stat" 2>/dev/null) in Z | '') break ;; esac
  done
  if [ $tries -ge 200 ]; then
    echo "server $pid ignored SIGTERM for 10 s" >&2
    failed=1
    kill -KILL "$pid" 2>/dev/null
  fi
  wait "${tracer_pid:-$pid}" 2>/dev/null
  tracer_pid=''
}
trap 'stop_server; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

build=${BUILD_DIR:-build/bench}
mkdir -p "$build"
for program in broker_load relay; do
  if [ ! -x "$build/$program" ] || [ "bench/$program.cpp" -nt "$build/$program" ]; then
    ${CXX:-c++} -std=c++17 -O2 -Wall -Wextra -o "$build/$program" "bench/$program.cpp" || exit 1
  fi
done

mosquitto=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v mosquitto)
servers=(mqttd relay)
if [ $peer = yes ]; then
  if [ -n "$mosquitto" ]; then
    servers+=(mosquitto)
  else
    echo 'SKIPPED: mosquitto is not installed' >&2
  fi
fi
[ ${#only[@]} -eq 0 ] || servers=("${only[@]}")
if [[ " ${servers[*]} " == *' mqttd '* ]] && [[ $broker == build/bin/mqttd* ]] &&
  [ ! -x build/bin/mqttd ]; then
  echo 'build/bin/mqttd is missing: build it first, or name a broker with --broker' >&2
  exit 2
fi

# Bash opens the port; a listener answers at once.
listening() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

next_port=$first_port
free_port() {
  port=$next_port
  while listening "$port"; do
    port=$((port + 1))
  done
  next_port=$((port + 1))
  [ $next_port -lt 32700 ] || next_port=$first_port
}

# start_server NAME SCENARIO [WRAPPER...]: sets server_pid and port.
start_server() {
  local name=$1 scenario=$2 command
  shift 2
  free_port
  case $name in
    mqttd) command=${broker//%p/$port} ;;
    relay)
      command="$build/relay --port $port"
      # With many publishers on one subscriber the limit is one write per turn.
      case $scenario in fanin*) command="$command --per-turn" ;; esac ;;
    mosquitto)
      printf '%s\n' "listener $port 127.0.0.1" 'allow_anonymous true' 'set_tcp_nodelay true' \
        'max_queued_messages 0' 'max_inflight_messages 0' 'persistence false' 'log_type none' \
        "user $(id -un)" >"$work/mosquitto.conf"
      command="$mosquitto -c $work/mosquitto.conf" ;;
    *) echo "unknown server $name" >&2; exit 2 ;;
  esac
  # shellcheck disable=SC2086
  (ulimit -n "$(ulimit -Hn)"; exec taskset -c 0 "$@" $command) >"$work/server.log" 2>&1 &
  server_pid=$!
  local tries=0
  until listening "$port"; do
    tries=$((tries + 1))
    if [ $tries -gt 200 ] || ! kill -0 "$server_pid" 2>/dev/null; then
      echo "$name does not listen on $port:" >&2
      tail -5 "$work/server.log" >&2
      failed=1
      stop_server
      return 1
    fi
    sleep 0.05
  done
}

# run_load SCENARIO PID [OPTION...]: the generator's lines go to $work/lines.
run_load() {
  local scenario=$1 pid=$2 status
  shift 2
  # shellcheck disable=SC2086
  (ulimit -n "$(ulimit -Hn)"; exec timeout 600 taskset -c 1 "$build/broker_load" --port "$port" \
    --pid "$pid" $version "$@" "$scenario") >"$work/lines" 2>"$work/errors"
  status=$?
  if [ -n "$log" ]; then
    sed "s/^/$server $scenario /" "$work/lines" "$work/errors" >>"$log"
  fi
  if [ $status -ne 0 ]; then
    echo "FAILED: $scenario on $server, status $status"
    sed 's/^/    /' "$work/errors"
    grep 'lost=' "$work/lines" | sed 's/^/    /'
    failed=1
  fi
  return $status
}

# The value of a line `name value unit`.
value_of() { awk -v name="$1" '$1 == name { print $2 }' "$work/lines"; }

# median FILE: of its numbers, "-" when there are none.
median() {
  [ -s "$1" ] || { echo -; return; }
  sort -g "$1" | awk '{ v[NR] = $1 }
    END { printf "%.4g\n", NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

# Targets of the table: an absolute number, or "xR" for R times the relay of the same run.
target_of() {
  case $1 in
    pairs0_cpu) echo 0.22 ;; pairs1_cpu) echo 1.0 ;; pairs2_cpu) echo 2.1 ;;
    fanin0_cpu) echo 0.36 ;;
    fanout0_cpu | fanout1_cpu) echo 0.55 ;; fanout2_cpu) echo 1.2 ;;
    pairs0w1_cpu | pairs0k4_cpu | pairs0k64_cpu) echo x1.15 ;; lat0_p50) echo x1.1 ;;
    wild1k_cpu) echo 4 ;; wild100k_cpu) echo 5 ;; wild1m_cpu) echo 6 ;;
    subs100k_private | wild100k_sub_private | wild1m_sub_private) echo 128 ;;
    retained100k_private | idle*k_private) echo 256 ;;
    retained100k_deliver_cpu) echo 0.8 ;; retained100k_store_cpu) echo 2 ;;
    idle*k_start_rss) echo 2097152 ;;
    instructions_pairs0) echo 900 ;; instructions_pairs1) echo 1600 ;;
    instructions_fanout0) echo 300 ;;
    syscalls_pairs0) echo x1.05 ;; syscalls_pairs1) echo x1.2 ;;
    *) echo - ;;
  esac
}

# print_rows ROW...: one line a row, from the files $work/SERVER.ROW.
print_rows() {
  local row name number relay ours target
  printf '%-26s' row
  printf '%12s' "${servers[@]}" ratio target
  echo
  for row in "$@"; do
    printf '%-26s' "$row"
    ours=- relay=-
    for name in "${servers[@]}"; do
      number=$(median "$work/$name.$row")
      printf '%12s' "$number"
      case $name in mqttd) ours=$number ;; relay) relay=$number ;; esac
    done
    target=$(target_of "$row")
    awk -v ours="$ours" -v relay="$relay" -v target="$target" 'BEGIN {
      ratio = ours != "-" && relay != "-" && relay > 0 ? ours / relay : 0
      limit = target ~ /^x/ ? substr(target, 2) * relay : target
      verdict = target == "-" || ours == "-" || limit == 0 ? "" : ours <= limit ? "ok" : "OVER"
      printf "%12s%12s  %s\n", ratio ? sprintf("%.2f", ratio) : "-", target, verdict }'
  done
}

# Runs every scenario on every server, round by round, and collects the named suffixes.
measure() {
  local round scenario line_name
  for ((round = 1; round <= rounds; ++round)); do
    for scenario in "${scenarios[@]}"; do
      for server in "${servers[@]}"; do
        start_server "$server" "$scenario" || continue
        if run_load "$scenario" "$server_pid" --seconds "$seconds"; then
          while read -r line_name number _; do
            case $line_name in
              *_cpu | *_user | *_p50 | *_private | *_start_rss)
                echo "$number" >>"$work/$server.$line_name"
                grep -qx "$line_name" "$work/rows" 2>/dev/null ||
                  echo "$line_name" >>"$work/rows" ;;
            esac
          done <"$work/lines"
        fi
        stop_server
      done
    done
  done
  [ -s "$work/rows" ] || return
  mapfile -t rows <"$work/rows"
  print_rows "${rows[@]}"
}

# count_instructions: the broker under callgrind; prints the total of the process's user code.
count_instructions() {
  rm -f "$work"/callgrind.out*
  start_server "$server" "$1" valgrind --tool=callgrind \
    --callgrind-out-file="$work/callgrind.out" || return 1
  run_load "$1" 0 --messages "$2" --stall 60
  local status=$?
  stop_server
  total=$(awk '/^(summary|totals):/ { print $2; exit }' "$work/callgrind.out" 2>/dev/null)
  [ "$status" -eq 0 ] && [ -n "$total" ]
}

# count_calls: the broker as a child of strace, which writes its summary when the broker ends.
count_calls() {
  rm -f "$work/calls"
  start_server "$server" "$1" strace -f -c -o "$work/calls" || return 1
  tracer_pid=$server_pid
  server_pid=$(cut -d' ' -f1 "/proc/$tracer_pid/task/$tracer_pid/children")
  run_load "$1" 0 --messages "$2" --stall 60
  local status=$?
  stop_server
  total=$(awk '$NF == "total" { print $4 }' "$work/calls" 2>/dev/null)
  [ "$status" -eq 0 ] && [ -n "$total" ]
}

# Two runs that differ only in the number of messages: their difference has no start-up in it.
count_difference() {
  local counter=$1 unit=$2 scenario few few_total few_count many_count
  for scenario in "${scenarios[@]}"; do
    for server in "${servers[@]}"; do
      few=$3
      [ "$server" != mosquitto ] || few=2000  # ten times the work for each message
      "$counter" "$scenario" "$few" || { failed=1; continue; }
      few_total=$total few_count=$(value_of "${scenario}_delivered")
      "$counter" "$scenario" $((few * 11)) || { failed=1; continue; }
      many_count=$(value_of "${scenario}_delivered")
      awk -v a="$few_total" -v b="$total" -v c="$few_count" -v d="$many_count" \
        'BEGIN { printf "%.4f\n", (b - a) / (d - c) }' >"$work/$server.${unit}_$scenario"
    done
    rows+=("${unit}_$scenario")
  done
  print_rows "${rows[@]}"
}

need() {
  command -v "$1" >/dev/null && return
  echo "SKIPPED: $1 is not installed" >&2
  exit 2
}

failed=0
rows=()
need taskset
case $mode in
  time)
    [ ${#scenarios[@]} -gt 0 ] || scenarios=(pairs0 pairs1 pairs2 pairs0w1 pairs0k4 pairs0k64
      fanin0 fanout0 fanout1 fanout2 lat0)
    measure ;;
  memory)
    servers=("${servers[@]/relay/}")
    for index in "${!servers[@]}"; do
      [ -n "${servers[index]}" ] || unset "servers[$index]"
    done
    if [ ${#scenarios[@]} -eq 0 ]; then
      scenarios=(wild1k wild100k subs100k retained100k idle20k)
      [ $million = no ] || scenarios+=(wild1m)
    fi
    measure ;;
  callgrind)
    need valgrind
    [ ${#scenarios[@]} -gt 0 ] || scenarios=(pairs0 pairs1 fanout0)
    count_difference count_instructions instructions 20000 ;;
  syscalls)
    need strace
    [ ${#scenarios[@]} -gt 0 ] || scenarios=(pairs0 pairs0w1 pairs1 fanin0 fanout0 fanout1
      pairs0k4 pairs0k64)
    count_difference count_calls syscalls 5000 ;;
esac
exit $failed
