#!/bin/sh
# Builds the sketches of examples/arduino with Debian's arduino-builder for this machine, with this
# folder as their library, and runs them against mosquitto and its clients.
set -u
cd "$(dirname "$0")/../.." || exit 2
for thing in /usr/bin/arduino-builder:arduino-builder /usr/bin/arduino-ctags:arduino-ctags \
  /usr/share/arduino/hardware/arduino/avr/cores/arduino/Client.h:arduino-core-avr; do
  if [ ! -e "${thing%%:*}" ]; then
    echo "skip sketches: no ${thing%%:*} (Debian: ${thing#*:})"
    exit
  fi
done
here=$PWD/tests/firmware/arduino
out=$PWD/build/firmware/arduino
mkdir -p "$out/libraries"
ln -sfn "$PWD" "$out/libraries/mqtt_hpp"
ln -sfn "$here/libraries/WiFi" "$out/libraries/WiFi"

for sketch in temperature_sensor home_assistant tiny_broker large_payload; do
  mkdir -p "$out/$sketch"
  if arduino-builder -compile -hardware /usr/share/arduino-builder -hardware "$here/hardware" \
    -tools /usr/bin -libraries "$out/libraries" -fqbn hosttest:native:host -ide-version 10819 \
    -build-path "$out/$sketch" -warnings all "examples/arduino/$sketch/$sketch.ino" \
    >"$out/$sketch.log" 2>&1 && ! grep -q 'warning:' "$out/$sketch.log"; then
    echo "ok sketch $sketch builds, from the flat library and without a warning"
  else
    echo "FAIL sketch $sketch builds"
    tail -n 20 "$out/$sketch.log" | sed 's/^/  | /'
  fi
done
python3 tests/firmware/arduino_test.py "$out"
