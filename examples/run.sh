#!/bin/sh
# Builds the broker with nothing but a C++ compiler, starts it and shows a message going round.
#
#   sh examples/run.sh          then serves on 127.0.0.1 until Ctrl-C
#   sh examples/run.sh --demo   then exits
#
# Environment: MQTT_PORT (1883), CXX (c++).
set -eu
cd "$(dirname "$0")/.."
port=${MQTT_PORT:-1883}
demo=no
case "${1:-}" in
  "") ;;
  --demo) demo=yes ;;
  *) echo "usage: sh examples/run.sh [--demo]" >&2; exit 2 ;;
esac

# build SOURCE PROGRAM: one compile line, only when a source is newer than the program.
build() {
  if [ -x "$2" ] && [ -z "$(find mqtt.hpp ports examples -name '*.?pp' -newer "$2")" ]; then
    return
  fi
  echo "${CXX:-c++} -std=c++17 -O2 -I. $1 -o $2"
  ${CXX:-c++} -std=c++17 -O2 -I. "$1" -o "$2"
}

mkdir -p build/bin
build examples/mqttd/main.cpp build/bin/mqttd
build examples/round_trip.cpp build/bin/round_trip

build/bin/mqttd -p "$port" &
broker=$!
trap 'kill $broker 2>/dev/null || :; wait $broker 2>/dev/null || :' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A taken port ends mqttd at once; without this check another broker would answer the round trip.
sleep 0.3
if ! kill -0 $broker 2>/dev/null; then
  echo "mqttd could not start on port $port: see its message above." >&2
  echo "If the port is taken, choose another: MQTT_PORT=1884 sh examples/run.sh" >&2
  exit 1
fi
build/bin/round_trip -p "$port"
[ $demo = no ] || exit 0

echo "mqttd serves on 127.0.0.1:$port; Ctrl-C ends it."
wait $broker
