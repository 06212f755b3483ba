#!/bin/sh
# Runs the tests and closes with "N passed, N failed".
#
#   sh tests/run.sh            everything; installs what is missing where it may (about 15 minutes)
#   sh tests/run.sh quick      what every commit runs; installs nothing (under 3 minutes)
#   sh tests/run.sh STEP...    the named steps
#
# A step is a function step_NAME whose output goes to build/tests/NAME.log. Lines "ok NAME",
# "FAIL NAME" and "skip NAME" (or SKIPPED) in it, and doctest's summary, are counted; a step without
# any counts as one by its exit status. With CI=true a skip is a failure of the run.
set -u
cd "$(dirname "$0")/.." || exit 1

quick_steps="rules shapes_quick unit"
all_steps="tidy shapes unit unit_asan unit_tls fuzz programs interop firmware demo clone trace bench"
logs=build/tests
passed=0 failed=0 skipped=0

has() { command -v "$1" >/dev/null 2>&1; }

# --- installing ---------------------------------------------------------------------------------

# Debian packages; a package is also good when the command behind the colon is there.
packages="g++:g++ cmake:cmake python3:python3 git:git pkg-config:pkg-config valgrind:valgrind
  clang:clang++ clang-tidy:clang-tidy clang-format:clang-format mosquitto-clients:mosquitto_pub
  mosquitto:/usr/sbin/mosquitto gcc-arm-none-eabi:arm-none-eabi-gcc nodejs:node npm:npm
  qemu-system-arm:qemu-system-arm openssl:openssl chromium:chromium libssl-dev
  doctest-dev libbenchmark-dev libclang-rt-14-dev libnewlib-arm-none-eabi python3-paho-mqtt
  dpkg-dev libmbedtls-dev liblwip-dev avr-libc gcc-xtensa-lx106:xtensa-lx106-elf-g++
  picolibc-xtensa-lx106-elf gcc-riscv64-unknown-elf:riscv64-unknown-elf-g++
  picolibc-riscv64-unknown-elf qemu-system-misc:qemu-system-riscv32
  g++-s390x-linux-gnu:s390x-linux-gnu-g++ qemu-user:qemu-s390x arduino-builder:arduino-builder
  arduino-core-avr arduino-ctags:arduino-ctags"

installed() {
  case $1 in *:*) has "${1#*:}" && return ;; esac
  dpkg-query -W -f '${Status}' "${1%%:*}" 2>/dev/null | grep -q 'ok installed'
}

install_missing() {
  has apt-get || return 0
  missing=
  for package in $packages; do
    installed "$package" || missing="$missing ${package%%:*}"
  done
  [ -n "$missing" ] || return 0
  sudo=
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || { echo "note: not installed:$missing"; return 0; }
    sudo=sudo
  fi
  echo "installing$missing"
  # shellcheck disable=SC2086  # words are wanted
  $sudo apt-get update -qq >$logs/install.log 2>&1 &&
    $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 \
      install -y -qq --no-install-recommends $missing >>$logs/install.log 2>&1 ||
    { echo "note: installing failed"; tail -5 $logs/install.log; }
}

# --- steps --------------------------------------------------------------------------------------

step_rules() { python3 tests/tidy/rules.py; }
step_tidy() { sh tests/tidy/run.sh; }
step_shapes() { sh tests/build/run.sh; }
step_shapes_quick() { sh tests/build/run.sh quick; }

# configure DIRECTORY OPTION...
configure() {
  directory=$1
  shift
  cmake -S . -B "$directory" -DCMAKE_COMPILE_WARNING_AS_ERROR=ON "$@"
}

# unit DIRECTORY OPTION...: builds the unit tests and runs them.
unit() {
  if ! has cmake; then echo "skip unit tests: no cmake"; return; fi
  configure "$@" -DMQTT_BUILD_BENCH=OFF -DMQTT_BUILD_EXAMPLES=OFF || return
  if grep -q 'DOCTEST_INCLUDE_DIR.*NOTFOUND' "$directory/CMakeCache.txt"; then
    echo "skip unit tests: no doctest (Debian: doctest-dev)"
    return
  fi
  cmake --build "$directory" -j2 && "$directory/bin/mqtt_tests" --no-colors
}

step_unit() {
  unit build/unit -DCMAKE_CXX_COMPILER=g++ -DCMAKE_BUILD_TYPE= -DCMAKE_CXX_FLAGS=-O0
}

step_unit_asan() {
  if ! has clang++; then echo "skip unit tests under clang's sanitizers: no clang++"; return; fi
  sanitize="-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
  unit build/unit_asan -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE= \
    "-DCMAKE_CXX_FLAGS=-O1 -g1 $sanitize"
}

# The same with OpenSSL below the loop.
step_unit_tls() {
  if ! echo '#include <openssl/ssl.h>' | g++ -E -x c++ - >/dev/null 2>&1; then
    echo "skip unit tests with TLS: no OpenSSL (Debian: libssl-dev)"
    return
  fi
  unit build/unit_tls -DCMAKE_CXX_COMPILER=g++ -DCMAKE_BUILD_TYPE= -DCMAKE_CXX_FLAGS=-O0 \
    -DMQTT_TLS=ON
}

# A short run of the fuzz targets, without libFuzzer: the same inputs every time.
step_fuzz() {
  mkdir -p build/fuzz
  for target in codec broker; do
    echo "-std=c++17 -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -DSTANDALONE -I. -Itests \
      tests/fuzz/${target}_fuzz.cpp -o build/fuzz/${target}_fuzz"
  done | xargs -P 2 -L 1 g++ || return
  judged "codec_fuzz" build/fuzz/codec_fuzz mutate 1000000
  judged "broker_fuzz" build/fuzz/broker_fuzz 100000
}
judged() {  # NAME COMMAND...
  name=$1
  shift
  if timeout 300 "$@"; then echo "ok $name"; else echo "FAIL $name"; fi
}

# Everything as a user builds it, warnings being errors; leaves mqttd for the interop scripts.
step_programs() {
  configure build -DMQTT_BUILD_TESTS=OFF &&
    cmake --build build -j2
}

python_with_paho() {
  for python in python3 /usr/bin/python3; do
    if $python -c 'import paho.mqtt' 2>/dev/null; then echo $python; return; fi
  done
  echo python3
}

# A script prints lines as a step does, or none; exit status 0 passed, 77 skipped, else failed.
step_interop() {
  [ -x build/bin/mqttd ] || step_programs || return
  python=$(python_with_paho)
  for script in tests/interop/*_test.py; do
    [ -e "$script" ] || { echo "FAIL interop: no scripts"; return; }
    output=$logs/$(basename "$script" .py).out
    MQTTD=$PWD/build/bin/mqttd PYTHONDONTWRITEBYTECODE=1 \
      timeout 600 "$python" "$script" >"$output" 2>&1
    status=$?
    cat "$output"
    case $status in
      0) grep -q '^ok ' "$output" || echo "ok $script" ;;
      77) echo "skip $script" ;;
      *) grep -q '^FAIL ' "$output" || echo "FAIL $script: exit status $status" ;;
    esac
  done
}

# Boards under QEMU, lwIP, Arduino, and compilers without a C++ library.
step_firmware() { sh tests/firmware/run.sh; }

# Below 32768, where no client's socket can be in TIME-WAIT.
free_port() {
  python3 - <<'PYTHON'
import random, socket
while True:
    port = random.randrange(20000, 32000)
    with socket.socket() as s:
        if s.connect_ex(("127.0.0.1", port)) != 0:
            print(port)
            break
PYTHON
}

step_demo() {
  port=$(free_port)
  MQTT_PORT=$port timeout 120 sh examples/run.sh --demo || return
  # The same port is free again, and while it is taken the script says so.
  python3 -m http.server --bind 127.0.0.1 "$port" >/dev/null 2>&1 &
  taker=$!
  sleep 1
  MQTT_PORT=$port timeout 120 sh examples/run.sh --demo >$logs/taken.out 2>&1
  status=$?
  kill $taker
  cat $logs/taken.out
  if [ $status != 1 ] || ! grep -q 'If the port is taken' $logs/taken.out; then
    echo "exit $status on a taken port, not 1 and a sentence"
    return 1
  fi
}

# What is committed is enough: a clone runs the demo with a compiler alone and stays clean.
step_clone() {
  rm -rf build/clone
  git clone -q . build/clone || return
  (cd build/clone && MQTT_PORT=$(free_port) timeout 240 sh examples/run.sh --demo) || return
  dirty=$(git -C build/clone status --porcelain)
  if [ -n "$dirty" ]; then echo "the demo leaves behind: $dirty"; return 1; fi
  rm -rf build/clone
}

step_trace() { python3 tests/trace.py; }

# bench NAME ROW...: `bench/run.sh NAME` prints a "ROW value unit" line for each.
bench() {
  name=$1
  shift
  sh bench/run.sh "$name" >$logs/bench.out 2>&1
  cat $logs/bench.out
  if grep '^needed:' $logs/bench.out; then
    echo "skip bench $name"
    return
  fi
  for row in "$@"; do
    if grep -Eq "^$row [0-9.]+ [^ ]+\$" $logs/bench.out; then
      echo "ok bench row $row"
    else
      echo "FAIL bench row $row"
    fi
  done
}

step_bench() {
  bench codec publish_encode_16 publish_encode_256 publish_encode_4096 publish_decode_256 \
    publish_v5_decode_256 publish_v5_decode_4_properties connect_encode connect_decode
  bench footprint m3_codec_text m3_broker_text m3_broker_ram
}

# --- running ------------------------------------------------------------------------------------

count() { grep -cE "$1" "$log"; }

# doctest_count COLUMN: of "[doctest] test cases: 9 | 8 passed | 1 failed | 0 skipped".
doctest_count() {
  sed -n 's/^\[doctest\] test cases: *//p' "$log" |
    awk -F'|' -v column="$1" '{ sum += $column } END { print sum + 0 }'
}

run_step() {
  log=$logs/$1.log
  start=$(date +%s)
  "step_$1" >"$log" 2>&1 </dev/null
  status=$?
  p=$(($(count '^ok ') + $(doctest_count 2)))
  f=$(($(count '^FAIL ') + $(doctest_count 3)))
  s=$(($(count '^(skip|SKIPPED) ') + $(doctest_count 4)))
  if [ $status != 0 ] && [ $f = 0 ]; then f=1; fi
  if [ $((p + f + s)) = 0 ]; then p=1; fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  seconds=$(($(date +%s) - start))
  if [ $f = 0 ]; then
    echo "ok $1 ($p passed, ${seconds} s)"
  else
    echo "FAIL $1 ($f of $((p + f)) failed, ${seconds} s)"
    grep -E -A 3 '^FAIL ' "$log" | sed 's/^/  | /'
    echo "  | the end of the log:"
    tail -n 100 "$log" | sed 's/^/  | /'
  fi
  grep -E '^(skip|SKIPPED|note) ' "$log"
}

mkdir -p $logs
case "${1:-all}" in
  quick) steps=$quick_steps ;;
  all) steps=$all_steps; install_missing ;;
  *) steps=$* ;;
esac
for step in $steps; do
  case $(command -v "step_$step") in
    "") echo "no step $step; there are: rules shapes_quick $all_steps" >&2; exit 2 ;;
  esac
  run_step "$step"
done

if [ $skipped = 0 ]; then
  echo "$passed passed, $failed failed"
else
  echo "$passed passed, $failed failed, $skipped skipped"
fi
[ $failed = 0 ] || exit 1
[ "${CI:-}" != true ] || [ $skipped = 0 ] || exit 1
