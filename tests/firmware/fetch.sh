#!/bin/sh
# Fetches the source of a Debian package into build/sources and prints its folder; nothing is
# installed and nothing outside build/ is written. Needs apt-get and dpkg-dev.
#
#   sh tests/firmware/fetch.sh lwip|mbedtls
#
# LWIP_SOURCE or MBEDTLS_SOURCE in the environment names an unpacked source to use instead.
set -u
cd "$(dirname "$0")/../.." || exit 2

case "${1:-}" in
  lwip) version=2.1.3+dfsg1-2 given=${LWIP_SOURCE:-} folder=lwip-2.1.3+dfsg1 ;;
  mbedtls) version=2.28.3-1 given=${MBEDTLS_SOURCE:-} folder=mbedtls-2.28.3 ;;
  *) echo "usage: fetch.sh lwip|mbedtls" >&2; exit 2 ;;
esac
package=$1
if [ -n "$given" ]; then echo "$given"; exit; fi

top=$PWD/build/sources
if [ -e "$top/$folder/.complete" ]; then echo "$top/$folder"; exit; fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-source >/dev/null; then
  echo "needed: apt-get and dpkg-source (Debian: dpkg-dev), or $package's source named" >&2
  exit 1
fi

# The mirror this machine uses for its packages, with lists of our own.
site=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
apt=$top/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial"
echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $site bookworm main" \
  >"$apt/sources.list"

source_get() {  # ARGUMENT...
  apt-get -qq -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=- \
    -o Dir::State::lists="$apt/lists" -o Dir::Cache::archives="$apt/archives" \
    -o Dir::Cache::srcpkgcache= -o Dir::Cache::pkgcache= -o APT::Sandbox::User="$(id -un)" "$@"
}

# Tests that run side by side ask for the same source.
exec 9>"$top/lock"
flock 9
if [ -e "$top/$folder/.complete" ]; then echo "$top/$folder"; exit; fi
rm -rf "${top:?}/$folder"
{
  source_get update &&
    (cd "$top" && source_get source "$package=$version") &&
    touch "$top/$folder/.complete"
} >"$apt/log" 2>&1 || { echo "cannot fetch $package $version:" >&2; tail -n 5 "$apt/log" >&2; exit 1; }
echo "$top/$folder"
