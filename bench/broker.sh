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
#   --all          all four, each over its own scenarios
#   --layers       WebSocket, TLS and both beside plain TCP: time, then instructions, and ratios to
#                  plain of the same run; an mqttd with TLS is built for it (libssl-dev, openssl)
#   --scale        time and instructions of a publish to mqttd against how many wildcard
#                  subscriptions it searches, or how many retained messages, sessions of absent
#                  clients and idle connections lie beside the pair that it goes between
#   --million      with --memory and --scale: also a million (of what is not a connection)
#   --broker CMD   what to measure instead of build/bin/mqttd; %p in it is replaced by the port
#   --only NAME    only this server: mqttd, relay or mosquitto; may be repeated
#   --port N       first of the ports used (21900)
#   --log FILE     keep every line the generator printed
#
# After its table each mode prints lines `name value unit`: mqttd's names bare, others' with relay_,
# mosquitto_, plain_, ws_, tls_ or wss_ before them. Times and latencies are us, of the broker's CPU
# per delivered message where not said otherwise; bytes are per thing kept.
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
    --callgrind | --syscalls | --memory | --all | --layers | --scale) mode=${1#--} ;;
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
# compile PROGRAM "SOURCE OF CHANGE..." ARGUMENT...: if a source is newer than the program.
compile() {
  local program=$build/$1
  # shellcheck disable=SC2086
  if [ ! -x "$program" ] || [ -n "$(find $2 -newer "$program" -print -quit)" ]; then
    ${CXX:-c++} -std=c++17 -Wall -Wextra -o "$program" "${@:3}" || exit 1
  fi
}
generator=broker_load
if [ "$mode" = layers ]; then
  generator=broker_load_tls
  compile broker_load_tls 'bench/broker_load.cpp bench/load_layers.hpp' -O2 -DBENCH_TLS \
    bench/broker_load.cpp -lssl -lcrypto
  compile mqttd_tls 'mqtt.hpp ports examples/mqttd' -O3 -DNDEBUG -DMQTT_TLS -I. \
    examples/mqttd/main.cpp -lssl -lcrypto
  openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/certificate.pem" 2>"$work/openssl.log" ||
    { cat "$work/openssl.log" >&2; exit 1; }
else
  compile broker_load 'bench/broker_load.cpp bench/load_layers.hpp' -O2 bench/broker_load.cpp
  compile relay bench/relay.cpp -O2 bench/relay.cpp
fi

mosquitto=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v mosquitto)
servers=(mqttd relay)
if [ $peer = yes ]; then
  if [ -n "$mosquitto" ]; then
    servers+=(mosquitto)
  else
    echo 'SKIPPED: mosquitto is not installed' >&2
  fi
fi
case $mode in
  layers) servers=(plain ws tls wss) ;;
  scale) servers=(mqttd) ;;
esac
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

layered_configuration() {
  printf '%s\n' "listener $port 127.0.0.1" 'allow_anonymous true'
  case $1 in ws | wss) echo 'protocol websockets' ;; esac
  case $1 in
    tls | wss) printf '%s\n' "certfile $work/certificate.pem" "keyfile $work/key.pem" ;;
  esac
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
    plain | ws | tls | wss)
      layered_configuration "$name" >"$work/mqttd.conf"
      command="$build/mqttd_tls -c $work/mqttd.conf" ;;
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
  case $server in
    ws | tls) set -- "--$server" "$@" ;;
    wss) set -- --ws --tls "$@" ;;
  esac
  [ -z "$beside" ] || set -- --beside "$beside" "$@"
  # shellcheck disable=SC2086
  (ulimit -n "$(ulimit -Hn)"; exec timeout 600 taskset -c 1 "$build/$generator" --port "$port" \
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
    END {
      middle = NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2
      printf middle < 1000 ? "%.4g\n" : "%.0f\n", middle
    }'
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

# public_name ROW: "name unit" of a row of the table.
public_name() {
  local scenario suffix unit
  case $1 in
    instructions_* | syscalls_*) scenario=${1#*_} unit=${1%%_*} suffix=$unit ;;
    lat0_cpu) scenario=lat0 unit=us suffix=cpu_us ;;
    *_cpu) scenario=${1%_cpu} unit=us suffix=us ;;
    *_p50 | *_p99) scenario=${1%_*} unit=us suffix=${1##*_}_us ;;
    *_start_rss) scenario=idle unit=bytes suffix=start_rss_bytes ;;
    *_private) scenario=${1%_private} unit=bytes suffix=bytes ;;
  esac
  scenario=$(sed -E 's/^lat0/latency/; s/^(pairs|fanin|fanout)([012])/\1_qos\2/; s/0w1$/0_window1/
    s/0k([0-9]+)$/0_\1k/; s/^wild/wild_/; s/^(wild_[^_]*)_sub$/\1_subscription/
    s/^subs[0-9]+[km]$/subscription/; s/^retained[0-9]+[km]/retained/
    s/^idle[0-9]+k$/idle_connection/; s/^idle[0-9]+k_/idle_/' <<<"$scenario")
  echo "${scenario}_$suffix $unit"
}

# print_lines ROW...: the same as lines; with a plain server ratios to it, too.
print_lines() {
  local row name prefix number plain label unit
  echo
  for name in "${servers[@]}"; do
    prefix=${name}_
    [ "$name" != mqttd ] || prefix=''
    for row in "$@"; do
      number=$(median "$work/$name.$row")
      case $row in *_user) continue ;; esac  # counted in ticks of 10 ms
      [ "$number" != - ] || continue
      read -r label unit < <(public_name "$row")
      echo "$prefix$label $number $unit"
      case $name in
        ws | tls | wss)
          plain=$(median "$work/plain.$row")
          [ "$plain" = - ] || awk -v name="$prefix${label}_ratio" -v a="$number" -v b="$plain" \
            'BEGIN { printf "%s %.2f x\n", name, a / b }' ;;
      esac
    done
  done
}

# Runs every scenario on every server, round by round, and collects the named suffixes.
measure() {
  local round scenario line_name rows
  rm -f "$work/rows"
  for ((round = 1; round <= rounds; ++round)); do
    for scenario in "${scenarios[@]}"; do
      for server in "${servers[@]}"; do
        start_server "$server" "$scenario" || continue
        if run_load "$scenario" "$server_pid" --seconds "$seconds"; then
          while read -r line_name number _; do
            case $line_name in
              *_cpu | *_user | *_p50 | *_p99 | *_private | *_start_rss)
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
  print_lines "${rows[@]}"
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
  local counter=$1 unit=$2 scenario few few_total few_count many_count rows=()
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
  print_lines "${rows[@]}"
}

# One size of one kind: "MICROSECONDS INSTRUCTIONS".
measure_size() {
  local kind=$1 size=$2 scenario=pairs0 row
  beside=$kind$size
  if [ "$kind" = wild ]; then scenario=wild$size beside=''; fi
  rm -f "$work/mqttd.${scenario}_cpu" "$work/mqttd.instructions_$scenario"
  scenarios=("$scenario")
  measure >"$work/tables"
  count_difference count_instructions instructions 5000 >>"$work/tables"
  beside=''
  grep '^FAILED' "$work/tables" >&2
  echo "$(median "$work/mqttd.${scenario}_cpu") $(median "$work/mqttd.instructions_$scenario")"
}

# The machine's limit of descriptors ends connections at 19k; sessions of mqttd go with them.
scale() {
  local size kind us instructions label sizes=(1k 10k 19k 100k)
  [ $million = no ] || sizes+=(1m)
  printf '%-6s%18s%18s%18s%18s\n' size wild retained sessions idle
  for size in "${sizes[@]}"; do
    printf '%-6s' "$size"
    for kind in wild retained sessions idle; do
      case $kind$size in
        wild19k | retained19k | sessions100k | sessions1m | idle100k | idle1m)
          printf '%18s' -
          continue ;;
      esac
      measure_size $kind "$size" >"$work/size"
      read -r us instructions <"$work/size"
      printf '%8s us%7.0f' "$us" "$instructions"
      case $kind in wild) label=wild_$size ;; *) label=pairs_qos0_beside_${size}_$kind ;; esac
      printf '%s\n' "${label}_us $us us" "${label}_instructions $instructions instructions" \
        >>"$work/lines_of_scale"
    done
    echo
  done
  echo
  cat "$work/lines_of_scale"
}

need() {
  command -v "$1" >/dev/null && return
  echo "SKIPPED: $1 is not installed" >&2
  exit 2
}

# run_mode MODE: over the scenarios asked for, else over its own.
run_mode() {
  local scenarios=("${scenarios[@]}") servers=("${servers[@]}") index
  case $1 in
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
    layers)
      need valgrind
      [ ${#scenarios[@]} -gt 0 ] || scenarios=(pairs0 pairs1 fanout0)
      measure
      count_difference count_instructions instructions 5000 ;;
    scale)
      need valgrind
      scale ;;
  esac
}

failed=0 beside=''
need taskset
if [ $mode = all ]; then
  for each in time memory callgrind syscalls; do run_mode $each; done
else
  run_mode $mode
fi
exit $failed
