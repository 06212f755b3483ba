#!/bin/sh
# The sizes of bench/footprint on several processors, and instructions on the Cortex-M3.
#
#   sh bench/footprint/targets.sh          a table: program, then for each processor text, data, bss
#                                          and the stack that a conversation through all of it used
#   sh bench/footprint/targets.sh check    "ok" or "FAIL" lines against bench/footprint/ceilings.txt
#
# Text is without an empty program's; the stack is not in bss. Debian packages: gcc-arm-none-eabi
# libnewlib-arm-none-eabi qemu-system-arm gcc-riscv64-unknown-elf picolibc-riscv64-unknown-elf
# qemu-system-misc.
set -u
cd "$(dirname "$0")/../.." || exit 2
out=build/bench/targets
mkdir -p $out
flags="-std=c++17 -Os -DNDEBUG -ffunction-sections -fdata-sections -fno-exceptions -fno-rtti
  -fno-threadsafe-statics -Wall -Wextra -nostartfiles -Wl,--gc-sections -I."
# name, source, flags: one program a line
programs='codec codec_main
client_qos0 client_main -DQOS_0
client_v311 client_main -DV311
client_v5 client_main -DV5
broker broker_main'

for thing in arm-none-eabi-gcc:gcc-arm-none-eabi qemu-system-arm:qemu-system-arm \
  riscv64-unknown-elf-gcc:gcc-riscv64-unknown-elf qemu-system-riscv32:qemu-system-misc; do
  if ! command -v "${thing%%:*}" >/dev/null 2>&1; then
    echo "skip sizes: no ${thing%%:*} (Debian: ${thing#*:})"
    exit 0
  fi
done

# choose PROCESSOR: compiler, size and run commands.
choose() {
  case $1 in
    rv32)
      compile="riscv64-unknown-elf-gcc -march=rv32imc -mabi=ilp32 -specs=picolibc.specs
        -T bench/footprint/rv32.ld"
      tool=riscv64-unknown-elf
      run="qemu-system-riscv32 -M virt -bios none"
      ;;
    *)
      case $1 in m0plus) cpu=cortex-m0plus board=an385 ;; m3) cpu=cortex-m3 board=an385 ;;
        *) cpu=cortex-m4 board=an386 ;;
      esac
      compile="arm-none-eabi-gcc -mcpu=$cpu -mthumb -specs=nano.specs
        -T bench/footprint/cortex_m3.ld"
      tool=arm-none-eabi
      run="qemu-system-arm -M mps2-$board"
      ;;
  esac
}

# link ELF SOURCE FLAG...
link() {
  elf=$out/$1.elf source=bench/footprint/$2.cpp
  shift 2
  # shellcheck disable=SC2086  # words are wanted
  $compile $flags "$@" bench/footprint/startup.cpp "$source" -o "$elf" || exit 1
  if $tool-nm "$elf" | grep -Eq ' (malloc|free|_sbrk|_Znw.*|_Zdl.*|__cxa_guard_acquire|printf)$'; then
    echo "FAIL $elf links what it must not"
    exit 1
  fi
}
# sections ELF: text, data, bss
sections() {
  $tool-size -A "$out/$1.elf" | awk '
    $1 ~ /^\.(text|ARM\.exidx)$/ { text += $2 } $1 == ".data" { data += $2 } $1 == ".bss" { bss += $2 }
    END { print text + 0, data + 0, bss + 0 }'
}
emulate() {  # ELF FLAG...
  elf=$1
  shift
  # shellcheck disable=SC2086
  timeout 60 $run "$@" -display none -monitor none -serial none \
    -semihosting-config enable=on,target=native -kernel "$out/$elf.elf" 2>&1
}

rows() {
  for processor in m0plus m3 m4 rv32; do
    choose $processor
    link empty-$processor empty_main
    empty=$(sections empty-$processor | cut -d' ' -f1)
    echo "$programs" | while read -r name main switch; do
      [ -e "bench/footprint/$main.cpp" ] || continue
      # shellcheck disable=SC2086
      link "$name-$processor" "$main" $switch
      # shellcheck disable=SC2086
      link "$name-$processor-run" "$main" $switch -DCONVERSATION
      if ! emulate "$name-$processor-run" >"$out/run"; then
        echo "FAIL $name on $processor: $(tr '\n' ' ' <"$out/run")"
        continue
      fi
      set -- $(sections "$name-$processor")
      stack=$(sed -n 's/^stack 0*\([0-9]\)/\1/p' "$out/run")
      echo "$name $processor $(($1 - empty)) $2 $3 $stack"
    done
  done
}
instructions() {
  choose m3
  link instructions instructions
  emulate instructions -icount shift=5 | sed -n 's/^\(m3_[a-z0-9_]*\) 0*\([0-9]\)/\1 \2/p'
}

rows >$out/rows
instructions >$out/instructions
if [ "${1:-}" != check ]; then
  awk 'BEGIN { print "program processor text data bss stack" } { print }' $out/rows
  sed 's/$/ instructions/' $out/instructions
  exit
fi
grep '^FAIL' $out/rows
# The stack counts to what a program has to have, the code alignment of a libc does not: a ceiling is
# for "NAME PROCESSOR" text and for data + bss + stack together, or for instructions.
while read -r name processor text ram; do
  case $name in
    ''|'#'*) continue ;;
    m3_*)
      now=$(sed -n "s/^$name //p" $out/instructions)
      limit=$processor
      [ -n "$now" ] && [ "$now" -le "$limit" ] && echo "ok $name: $now instructions" ||
        echo "FAIL $name: ${now:-no} instructions, at most $limit"
      ;;
    *)
      set -- $(sed -n "s/^$name $processor //p" $out/rows)
      [ $# = 4 ] && [ "$1" -le "$text" ] && [ $(($2 + $3 + $4)) -le "$ram" ] &&
        echo "ok $name on $processor: $1 bytes of text, $(($2 + $3 + $4)) of RAM" ||
        echo "FAIL $name on $processor: ${1:-no} bytes of text, at most $text;" \
          "$((${2:-0} + ${3:-0} + ${4:-0})) of RAM, at most $ram"
      ;;
  esac
done <bench/footprint/ceilings.txt
