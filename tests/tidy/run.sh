#!/bin/sh
# Rules of the source, format and clang-tidy. Prints "ok", "FAIL" or "skip" lines.
set -u
cd "$(dirname "$0")/../.." || exit 1
failed=0

report() {  # NAME STATUS
  if [ "$2" = 0 ]; then echo "ok $1"; else echo "FAIL $1"; failed=1; fi
}

python3 tests/tidy/rules.py || failed=1

# Sources in the format's reach: everything of ours.
sources=$(find mqtt.hpp ports examples tests bench -name '*.?pp' | sort)

if command -v clang-format >/dev/null; then
  status=0
  for source in $sources; do
    places=$(clang-format --dry-run "$source" 2>&1 | grep -c 'clang-format-violations')
    if [ "$places" != 0 ]; then
      echo "$source: $places places are not as \"clang-format -i $source\" writes them"
      status=1
    fi
  done
  report "clang-format" $status
else
  echo "skip clang-format: not installed (Debian: clang-format)"
fi

if command -v clang-tidy >/dev/null; then
  # What includes the header also instantiates it; the header's own findings are reported with it.
  # Firmware needs a board's headers. TLS is looked at where OpenSSL's are.
  tls=
  if echo '#include <openssl/ssl.h>' | clang++ -E -x c++ - >/dev/null 2>&1; then tls=-DMQTT_TLS; fi
  for source in tests/tidy/header.cpp tests/interop/*.cpp \
    $(find examples -name '*.cpp' -not -path '*/cortex_m/*' | sort); do
    clang-tidy --quiet "$source" -- -std=c++17 -I. $tls 2>/dev/null
    report "clang-tidy $source" $?
  done
else
  echo "skip clang-tidy: not installed (Debian: clang-tidy)"
fi
exit $failed
