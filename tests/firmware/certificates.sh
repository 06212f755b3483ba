#!/bin/sh
# Makes in the folder given a small EC authority, a certificate for broker.test signed by it, and
# another authority, which nobody trusts, with such a certificate too. Needs openssl.
set -eu
folder=$1
mkdir -p "$folder"
cd "$folder"
if [ -e complete ]; then exit; fi
key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }
authority() {
  key "$1"
  openssl req -x509 -new -key "$1.key" -sha256 -days 3650 -subj "/CN=$1" -out "$1.crt"
}
authority authority
authority stranger
# certificate NAME AUTHORITY: for the host broker.test
certificate() {
  key "$1"
  openssl req -new -key "$1.key" -subj /CN=broker.test -out "$1.csr"
  printf 'subjectAltName=DNS:broker.test\n' >extensions
  openssl x509 -req -in "$1.csr" -CA "$2.crt" -CAkey "$2.key" -CAcreateserial -sha256 -days 3650 \
    -extfile extensions -out "$1.crt" 2>/dev/null
}
certificate broker authority
certificate impostor stranger
touch complete
