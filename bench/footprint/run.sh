#!/bin/sh
# Prints Cortex-M3 sizes, one line "name value unit" a row; text is without an empty program's.
# Needs arm-none-eabi-gcc and newlib, no libstdc++; with qemu-system-arm also the stack in use.
set -u
cd "$(dirname "$0")/../.." || exit 2
out=build/bench/footprint
mkdir -p $out

need() {  # COMMAND PACKAGE...
  command -v "$1" >/dev/null 2>&1 && return 0
  command=$1
  shift
  sudo=
  [ "$(id -u)" = 0 ] || sudo='sudo -n'
  if command -v apt-get >/dev/null 2>&1; then
    echo "installing $*" >&2
    $sudo apt-get update -qq >$out/install.log 2>&1
    $sudo apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" \
      >>$out/install.log 2>&1 && return 0
  fi
  echo "needed: $command (Debian: $*)" >&2
  exit 1
}
need arm-none-eabi-gcc gcc-arm-none-eabi libnewlib-arm-none-eabi

flags="-std=c++17 -Os -DNDEBUG -mcpu=cortex-m3 -mthumb -ffunction-sections -fdata-sections
  -fno-exceptions -fno-rtti -fno-threadsafe-statics -Wall -Wextra -I."

# link NAME [FLAG...]: build/bench/footprint/NAME.elf from NAME_main.cpp; SOURCE names another.
link() {
  name=$1
  shift
  # shellcheck disable=SC2086  # words are wanted
  arm-none-eabi-gcc $flags "$@" -nostartfiles -specs=nano.specs -Wl,--gc-sections \
    -T bench/footprint/cortex_m3.ld -Wl,-Map=$out/$name.map \
    bench/footprint/startup.cpp "bench/footprint/${SOURCE:-$name}_main.cpp" -o $out/$name.elf ||
    exit 1
  if arm-none-eabi-nm $out/$name.elf | grep -Eq ' (malloc|_Znwj|__cxa_guard_acquire|printf)$'; then
    echo "$name links what it must not" >&2
    exit 1
  fi
}

# section NAME COLUMN: text, data or bss of a program, the stack not counted.
section() {
  arm-none-eabi-size -A $out/$1.elf | awk -v wanted="$2" '
    $1 == ".text" || $1 == ".ARM.exidx" { text += $2 }
    $1 == ".data" { text += $2; data += $2 }
    $1 == ".bss" { data += $2 }
    END { print wanted == "text" ? text : data }'
}

# stack NAME ROW: what it used when run, if it can be.
stack() {
  command -v qemu-system-arm >/dev/null 2>&1 || return 0
  timeout 60 qemu-system-arm -M mps2-an385 -nographic -monitor none -serial none \
    -semihosting-config enable=on,target=native -kernel $out/$1.elf >$out/$1.run 2>&1
  status=$?
  if [ $status != 0 ]; then
    echo "$1 ended with status $status under QEMU" >&2
    cat $out/$1.run >&2
    exit 1
  fi
  sed -n "s/^stack 0*\([0-9]\)/$2 \1/p" $out/$1.run | sed 's/$/ bytes/'
}

link empty
empty_text=$(section empty text)

link codec
echo "m3_codec_text $(($(section codec text) - empty_text)) bytes"
stack codec m3_codec_stack

# The client for three needs, each also with -flto; the object without its buffers; the deepest stack.
if [ -e bench/footprint/client_main.cpp ]; then
  deepest=0
  for build in qos0:QOS_0 v311:V311 v5:V5; do
    row=client_${build%:*}
    SOURCE=client link "$row" "-D${build#*:}"
    echo "m3_$row $(($(section "$row" text) - empty_text)) bytes"
    SOURCE=client link "${row}_lto" "-D${build#*:}" -flto
    echo "m3_${row}_lto $(($(section "${row}_lto" text) - empty_text)) bytes"
    object=$(arm-none-eabi-nm -S $out/$row.elf | awk '$4 ~ /6clientE$/ { print "0x" $2 }')
    case $row in
      client_v311) echo "m3_client_object $((object)) bytes" ;;
      client_v5) echo "m3_client_object_v5 $((object)) bytes" ;;
    esac
    SOURCE=client link "${row}_run" "-D${build#*:}" -DCONVERSATION
    used=$(stack "${row}_run" "m3_${row}_stack") || exit 1
    used=$(echo "$used" | awk '{ print $2 + 0 }')
    [ "$used" -le $deepest ] || deepest=$used
  done
  [ $deepest = 0 ] || echo "m3_client_stack $deepest bytes"
fi

# One build a Features switch shows what each costs, once there is a broker.
if [ -e bench/footprint/broker_main.cpp ]; then
  link broker
  echo "m3_broker_text $(($(section broker text) - empty_text)) bytes"
  ram=$(section broker data)
  SOURCE=broker link broker_run -DCONVERSATION
  used=$(stack broker_run m3_broker_stack) || exit 1
  [ -z "$used" ] || echo "$used"
  used=$(echo "$used" | awk '{ print $2 + 0 }')
  echo "m3_broker_ram $((ram + used)) bytes"
  # broker_main.cpp lists its switches: lines "// switch NAME" built with -DWITHOUT_NAME
  for switch in $(sed -n 's|^// switch \([a-z0-9_]*\).*|\1|p' bench/footprint/broker_main.cpp); do
    SOURCE=broker link "broker_without_$switch" "-DWITHOUT_$(echo "$switch" | tr a-z A-Z)"
    echo "m3_broker_text_without_$switch" \
      "$(($(section "broker_without_$switch" text) - empty_text)) bytes"
  done
fi
