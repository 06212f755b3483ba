#!/bin/sh
# Builds section tests for another machine and runs them there.
#
#   sh tests/firmware/sections.sh MACHINE TEST...     TEST: codec for tests/codec_test.cpp
#
# MACHINE: cortex-m3, cortex-m0plus (on QEMU's mps2-an385), microbit (a Cortex-M0 with 16 KB of RAM),
# rv32imc (on virt), s390x (big-endian, in user mode, with the real library and doctest).
set -eu
cd "$(dirname "$0")/../.."
machine=$1
shift
out=build/firmware/sections-$machine
mkdir -p $out
ccache=$(command -v ccache || true)
board="-Itests/firmware/std -I. -Iexamples/cortex_m -DPOOL_BYTES=15000000 -O1
  -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-use-cxa-atexit -ffunction-sections
  -fdata-sections -Wno-register"
support="examples/cortex_m/semihosting.cpp tests/firmware/sections_main.cpp"

case $machine in
  cortex-*)
    compiler=arm-none-eabi-gcc
    flags="-mcpu=$machine -mthumb $board"
    support="$support examples/cortex_m/startup.cpp"
    link="-nostartfiles -specs=nano.specs -Wl,--gc-sections -T examples/cortex_m/mps2.ld
      -Wl,--defsym=FLASH_SIZE=4M -Wl,--defsym=RAM_SIZE=16M -Wl,--defsym=RAM_ORIGIN=0x21000000
      -Wl,--defsym=STACK_SIZE=64K"
    run="qemu-system-arm -M mps2-an385"
    ;;
  microbit)
    compiler=arm-none-eabi-gcc
    flags="-mcpu=cortex-m0 -mthumb $(echo "$board" | sed 's/POOL_BYTES=[0-9]*/POOL_BYTES=4096/') -Os"
    support="$support examples/cortex_m/startup.cpp"
    link="-nostartfiles -specs=nano.specs -Wl,--gc-sections -T examples/cortex_m/mps2.ld"
    run="qemu-system-arm -M microbit"
    ;;
  rv32imc)
    compiler=riscv64-unknown-elf-gcc
    flags="-march=rv32imc -mabi=ilp32 -specs=picolibc.specs $board"
    support="$support tests/firmware/rv32_board.cpp"
    link="--crt0=semihost --oslib=semihost -Wl,--gc-sections -Wl,--defsym=__flash=0x80000000
      -Wl,--defsym=__flash_size=0x400000 -Wl,--defsym=__ram=0x80400000
      -Wl,--defsym=__ram_size=0x1800000 -Wl,--defsym=__stack_size=0x10000"
    run="qemu-system-riscv32 -M virt -bios none"
    ;;
  s390x)
    compiler=s390x-linux-gnu-g++
    ln -sfn "$(dirname "$(echo '#include <doctest/doctest.h>' | g++ -E -x c++ - |
      sed -n 's/.*"\(.*\/doctest\.h\)".*/\1/p' | head -n 1)")" $out/doctest
    flags="-O0 -I. -isystem $out"
    support=tests/doctest_main.cpp
    link=-static
    run=qemu-s390x
    ;;
  *) echo "no machine $machine" >&2; exit 2 ;;
esac

objects=
for source in $support $(for test in "$@"; do echo tests/${test}_test.cpp; done); do
  object=$out/$(basename $source .cpp).o
  # shellcheck disable=SC2086  # words are wanted
  $ccache $compiler -std=c++17 $flags -Wall -Wextra -c $source -o $object
  objects="$objects $object"
done
# shellcheck disable=SC2086
$compiler $flags $link $objects -o $out/tests
case $machine in
  s390x) timeout 300 $run $out/tests --no-colors ;;
  *)
    # One case stores more packets than the board has memory for.
    timeout 300 $run -display none -monitor none -serial none \
      -semihosting-config enable=on,target=native,arg=tests,arg=skip=16-bit -kernel $out/tests 2>&1
    ;;
esac
