#!/bin/sh
# The shapes in which people compile and use the header. Prints "ok", "FAIL" or "skip" lines.
#   sh tests/build/run.sh [quick]
set -u
cd "$(dirname "$0")/../.." || exit 1
quick=${1:-}
here=tests/build
out=build/shapes
rm -rf $out
mkdir -p $out
failed=0

warnings="-Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wsign-conversion -Werror"
embedded="-nostdinc++ -fno-exceptions -fno-rtti"
compilers=
for compiler in g++ clang++; do
  if command -v $compiler >/dev/null; then
    compilers="$compilers $compiler"
  else
    echo "skip shapes with $compiler: not installed"
  fi
done

# check NAME COMMAND...: the command succeeds.
check() {
  name=$1
  shift
  if "$@" >$out/log 2>&1; then
    echo "ok $name"
  else
    echo "FAIL $name: $*"
    head -40 $out/log
    failed=1
  fi
}

# refuses NAME TEXT COMMAND...: the command fails, and its message holds TEXT.
refuses() {
  name=$1
  text=$2
  shift 2
  if "$@" >$out/log 2>&1 || ! grep -q -e "$text" $out/log; then
    echo "FAIL $name: $*"
    head -40 $out/log
    failed=1
  else
    echo "ok $name"
  fi
}

# needs_only_memory_functions OBJECT: nothing else is left to a C or C++ library, so no heap.
needs_only_memory_functions() {
  allowed='memcpy|memmove|memset|memcmp|memchr|bcmp|strlen|_GLOBAL_OFFSET_TABLE_'
  ! nm -u "$1" | grep -vE " ($allowed)\$"
}

# readme_shows FILE: one of the README's examples is the file's code, all behind its first comment.
readme_shows() {
  sed '1,/^$/d' "$1" >$out/code
  sed -n '/^```cpp$/,/^```$/p' README.md | sed '/^```/d' >$out/examples
  python3 -c 'import sys; sys.exit(open(sys.argv[1]).read() not in open(sys.argv[2]).read())' \
    $out/code $out/examples
}

# shellcheck disable=SC2086  # lists of options
compiler_shapes() {
  cxx=$1
  check "$cxx: header alone, no C++ headers" \
    $cxx -std=c++17 $embedded $warnings -fsyntax-only -x c++ mqtt.hpp
  check "$cxx: hostile macros" $cxx -std=c++17 -I. $warnings -fsyntax-only $here/hostile_macros.cpp
  for port in ports/posix/*.hpp ports/journal/*.hpp ports/websocket/*.hpp ports/crypto/*.hpp; do
    check "$cxx: $port alone" $cxx -std=c++17 -I. $warnings -fsyntax-only -x c++ "$port"
  done
  if echo '#include <openssl/ssl.h>' | $cxx -E -x c++ - >/dev/null 2>&1; then
    port=ports/tls/openssl.hpp
    check "$cxx: $port alone" $cxx -std=c++17 -I. $warnings -fsyntax-only -x c++ "$port"
  elif [ "$quick" != quick ]; then
    echo "skip $cxx: ports/tls/openssl.hpp (Debian: libssl-dev)"
  fi
  check "$cxx: an Error may be discarded by a cast" \
    $cxx -std=c++17 -I. -Werror=unused-result -fsyntax-only "-DDISCARD=static_cast<void>" \
    $here/ignored_error.cpp
  refuses "$cxx: an ignored Error does not compile" unused-result \
    $cxx -std=c++17 -I. -Werror=unused-result -fsyntax-only -DDISCARD= $here/ignored_error.cpp
  refuses "$cxx: C++14 gets one clear error" "needs C++17" \
    $cxx -std=c++14 -fsyntax-only -x c++ mqtt.hpp
  [ "$quick" = quick ] && standards=c++17 || standards="c++17 gnu++17 c++20 c++2b"
  for standard in $standards; do
    check "$cxx: everything, $standard" \
      $cxx -std=$standard -I. $embedded $warnings -O1 -c $here/everything.cpp -o $out/$cxx.o
  done
  check "$cxx: no heap, no library but memcpy and its kin" needs_only_memory_functions $out/$cxx.o
  for example in subscribe_print publish_once; do
    check "README: $example is there as it is" readme_shows examples/$example.cpp
    check "$cxx: $example compiles" \
      $cxx -std=c++17 -I. $warnings examples/$example.cpp -o $out/$example
  done
  [ "$quick" = quick ] && return
  check "$cxx: everything, NDEBUG and -O2" \
    $cxx -std=c++17 -I. $embedded $warnings -DNDEBUG -O2 -c $here/everything.cpp -o $out/$cxx.o
  check "$cxx: no heap at -O2" needs_only_memory_functions $out/$cxx.o
  check "$cxx: unsigned char, short enumerations" \
    $cxx -std=c++17 -I. $warnings -funsigned-char -fshort-enums -fsyntax-only $here/everything.cpp
  check "$cxx: two translation units" \
    $cxx -std=c++17 -I. $warnings $here/first.cpp $here/second.cpp -o $out/two
  check "$cxx: two translation units share one library" $out/two
}

# shellcheck disable=SC2086
shapes_32_bit() {
  if command -v arm-none-eabi-g++ >/dev/null; then
    check "arm-none-eabi-g++: everything, Cortex-M3" \
      arm-none-eabi-g++ -mcpu=cortex-m3 -mthumb -std=c++17 -I. $embedded $warnings -Os \
      -c $here/everything.cpp -o $out/cortex_m3.o
  else
    echo "skip Cortex-M3: no arm-none-eabi-g++ (Debian: gcc-arm-none-eabi)"
  fi
  if echo '#include <string.h>' | g++ -m32 -fsyntax-only -x c++ - 2>/dev/null; then
    check "g++: everything, -m32" \
      g++ -m32 -std=c++17 -I. $warnings -fsyntax-only $here/everything.cpp
  else
    echo "note not run, optional: -m32 (Debian: g++-multilib)"
  fi
}

# consumer NAME OPTION...: a project that uses mqtt::mqtt configures, builds and runs.
consumer() {
  directory=$out/$1
  shift
  cmake -S $here/consumer -B "$directory" "$@" && cmake --build "$directory" &&
    "$directory/consumer"
}

# Installed by the staging directory's files alone: the source tree may go.
consumer_pkg_config() {
  flags=$(PKG_CONFIG_PATH=$out/prefix/share/pkgconfig pkg-config --cflags mqtt) || return
  # shellcheck disable=SC2086  # several options
  g++ -std=c++17 $flags $here/consumer/main.cpp -o $out/pkg_config && $out/pkg_config
}

install_tree() {
  cmake -S . -B $out/install -DMQTT_BUILD_TESTS=OFF -DMQTT_BUILD_BENCH=OFF \
    -DMQTT_BUILD_EXAMPLES=OFF && cmake --install $out/install --prefix $out/prefix
}

package_shapes() {
  if ! command -v cmake >/dev/null; then
    echo "skip CMake consumers: no cmake"
    return
  fi
  prefix=$PWD/$out/prefix
  check "CMake: add_subdirectory" consumer add_subdirectory -DUSE=add_subdirectory
  check "CMake: FetchContent" consumer fetch_content -DUSE=fetch_content
  check "CMake: install" install_tree
  check "CMake: find_package" consumer find_package -DUSE=find_package "-DCMAKE_PREFIX_PATH=$prefix"
  refuses "CMake: find_package refuses version 2" "is compatible" \
    consumer find_package_2 -DUSE=find_package -DVERSION=2 "-DCMAKE_PREFIX_PATH=$prefix"
  if command -v pkg-config >/dev/null; then
    check "pkg-config" consumer_pkg_config
  else
    echo "skip pkg-config: not installed"
  fi
  check "metadata names the header's version" versions_agree
}

versions_agree() {
  version=$(sed -n 's/^Version: //p' $out/prefix/share/pkgconfig/mqtt.pc)
  grep -qx "version=$version" library.properties &&
    grep -q "\"version\": \"$version\"" library.json &&
    grep -qx "version: \"$version\"" idf_component.yml
}

for compiler in $compilers; do
  compiler_shapes "$compiler"
done
if [ "$quick" != quick ]; then
  shapes_32_bit
  package_shapes
fi
python3 - <<'PYTHON'
import resource, subprocess
subprocess.run("g++ -std=c++17 -fsyntax-only -x c++ mqtt.hpp".split())
seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
print(f"note header compiles alone in {seconds:.2f} s")
PYTHON
exit $failed
