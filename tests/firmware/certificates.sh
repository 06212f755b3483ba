#!/bin/sh
# Makes a small EC authority, a certificate for broker.test signed by it, and an authority that has
# signed nothing, in the folder given. Needs openssl.
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
key broker
openssl req -new -key broker.key -subj /CN=broker.test -out broker.csr
printf 'subjectAltName=DNS:broker.test\n' >extensions
openssl x509 -req -in broker.csr -CA authority.crt -CAkey authority.key -CAcreateserial -sha256 \
  -days 3650 -extfile extensions -out broker.crt 2>/dev/null
touch complete
