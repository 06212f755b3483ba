#!/bin/sh
# Builds the broker and its tools with nothing but a C++ compiler, starts it and shows a message
# going round.
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
for program in mqttd mqtt_pub mqtt_sub; do
  build examples/$program/main.cpp build/bin/$program
done

build/bin/mqttd -p "$port" &
broker=$!
heard=build/demo.out
trap 'kill $broker 2>/dev/null || :; wait $broker 2>/dev/null || :; rm -f $heard' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# A taken port ends mqttd at once; without this check another broker would answer.
sleep 0.3
if ! kill -0 $broker 2>/dev/null; then
  echo "mqttd could not start on port $port: see its message above." >&2
  echo "If the port is taken, choose another: MQTT_PORT=1884 sh examples/run.sh" >&2
  exit 1
fi

# The subscriber ends after one message; -d tells when the broker has confirmed its subscription.
echo "mqtt_sub -p $port -t 'demo/#' -v -q 1 -C 1"
build/bin/mqtt_sub -p "$port" -t 'demo/#' -v -q 1 -C 1 -W 10 -d >$heard &
subscriber=$!
for _ in 1 2 3 4 5 6 7 8 9 10; do
  if grep -q '^Subscribed' $heard; then break; fi
  sleep 0.2
done
echo "mqtt_pub -p $port -t demo/hello -q 1 -m 'hello, MQTT'"
build/bin/mqtt_pub -p "$port" -t demo/hello -q 1 -m 'hello, MQTT'
if ! wait $subscriber; then
  echo "the message did not come back:" >&2
  cat $heard >&2
  exit 1
fi
grep '^demo/' $heard
echo "the message went round"
[ $demo = no ] || exit 0

echo "mqttd serves on 127.0.0.1:$port; Ctrl-C ends it."
wait $broker
