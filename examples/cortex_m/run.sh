#!/bin/sh
# Runs build/cortex_m/PROGRAM-cortex-m3.elf in QEMU; Ctrl-C ends it.
#
#   sh examples/cortex_m/run.sh PROGRAM [NAME=VALUE...]
#
# The board's port 1883 is 127.0.0.1:$MQTT_PORT (default 1883); the host is 10.0.2.2 to the board.
# Debian package: qemu-system-arm.
set -eu
cd "$(dirname "$0")/../.."
program=$1
shift
arguments=
for argument in "$@"; do arguments="$arguments,arg=$argument"; done
exec qemu-system-arm -M mps2-an385 -display none -monitor none -serial none \
  -netdev "user,id=net,hostfwd=tcp:127.0.0.1:${MQTT_PORT:-1883}-:1883" \
  -net nic,model=lan9118,netdev=net \
  -semihosting-config "enable=on,target=native,arg=$program$arguments" \
  -kernel "build/cortex_m/$program-cortex-m3.elf"
