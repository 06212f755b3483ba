#!/bin/sh
# Runs the benches; each row is one line "name value unit".
#
#   sh bench/run.sh codec             time, and instructions per operation under callgrind
#   sh bench/run.sh footprint [...]   Cortex-M3 text, RAM and stack (bench/footprint/run.sh)
#   sh bench/run.sh broker [...]      the broker under load (bench/broker.sh), beside a relay that
#                                     parses nothing and Mosquitto; without options all of it
#   sh bench/run.sh layers [...]      WebSocket and TLS beside plain TCP (bench/broker.sh --layers)
#   sh bench/run.sh scale [...]       cost against size (bench/broker.sh --scale)
#   sh bench/run.sh client [...]      our client, libmosquitto and Paho C (bench/client.sh)
#   sh bench/run.sh                   codec and footprint
#
# CXX names another compiler. Times mean little on a shared machine; instructions repeat exactly.
set -u
cd "$(dirname "$0")/.." || exit 2
CXX=${CXX:-g++}
out=build/bench
mkdir -p $out

# need COMMAND-OR-FILE PACKAGE: installs the package where it may, else says what is missing.
need() {
  command -v "$1" >/dev/null 2>&1 || [ -e "$1" ] && return 0
  sudo=
  [ "$(id -u)" = 0 ] || sudo='sudo -n'
  if command -v apt-get >/dev/null 2>&1; then
    echo "installing $2" >&2
    $sudo apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$2" \
      >$out/install.log 2>&1 && return 0
    $sudo apt-get update -qq >$out/install.log 2>&1 &&
      $sudo apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$2" \
        >>$out/install.log 2>&1 && return 0
  fi
  echo "needed: $1 (Debian: $2)" >&2
  exit 1
}

codec() {
  need "$CXX" g++
  need /usr/include/benchmark/benchmark.h libbenchmark-dev
  need valgrind valgrind
  $CXX -std=c++17 -O2 -DNDEBUG -I. bench/codec.cpp -o $out/codec -lbenchmark -lpthread || exit 1
  echo "# time, nanoseconds"
  $out/codec --benchmark_format=csv 2>$out/codec.log |
    awk -F, '/^"/ { gsub(/"/, "", $1); printf "%s_time %.1f ns\n", $1, $4 }' || exit 1
  echo "# instructions per operation"
  count=1000
  valgrind --tool=callgrind --callgrind-out-file=$out/callgrind.out \
    $out/codec --instructions $count >$out/callgrind.log 2>&1 ||
    { cat $out/callgrind.log >&2; exit 1; }
  callgrind_annotate --inclusive=yes --threshold=100 $out/callgrind.out >$out/annotate.txt ||
    exit 1
  awk -v count=$count '
    match($0, /:row_[a-z0-9_]+/) {
      name = substr($0, RSTART + 5, RLENGTH - 5)
      cost = $1
      gsub(/,/, "", cost)
      cost += 0
      if (!(name in rows) || cost > rows[name]) { rows[name] = cost }
    }
    END {
      for (name in rows) {
        if (name != "empty") {
          printf "%s %.0f instructions\n", name, (rows[name] - rows["empty"]) / count
        }
      }
    }' $out/annotate.txt | sort
}

footprint() { sh bench/footprint/run.sh "$@"; }

broker() {
  [ $# -gt 0 ] || set -- --all --peer
  need valgrind valgrind
  need strace strace
  case " $* " in *' --peer '*) (need /usr/sbin/mosquitto mosquitto) ;; esac
  CXX=$CXX bash bench/broker.sh "$@"
}

layers() {
  need valgrind valgrind
  need openssl openssl
  need /usr/include/openssl/ssl.h libssl-dev
  CXX=$CXX bash bench/broker.sh --layers "$@"
}

scale() {
  need valgrind valgrind
  CXX=$CXX bash bench/broker.sh --scale "$@"
}

client() {
  need "$CXX" g++
  need valgrind valgrind
  need /usr/include/mosquitto.h libmosquitto-dev
  need /usr/include/MQTTAsync.h libpaho-mqtt-dev
  CXX=$CXX bash bench/client.sh "$@"
}

what=${1:-all}
[ $# = 0 ] || shift
case $what in
  codec) codec ;;
  footprint) footprint "$@" ;;
  broker) broker "$@" ;;
  layers) layers "$@" ;;
  scale) scale "$@" ;;
  client) client "$@" ;;
  all) codec; footprint ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
