#!/bin/sh
# Makes the certificates of the TLS tests in a folder, with the openssl command.
#   sh tests/interop/certificates.sh FOLDER
#
# NAME.pem and NAME.key for: ca (signs all that follow), other_ca (signs other_server,
# other_client), server and renewed (localhost, 127.0.0.1), wrong_host (elsewhere.example),
# expired_server, client (common name "device 7"), expired_client, revoked_client. crl.pem revokes
# the last; psk holds keys of two identities.
set -eu
folder=$1
mkdir -p "$folder"
cd "$folder"

cat >openssl.cnf <<'CONFIG'
[ca]
default_ca = test_ca
[test_ca]
dir = .
new_certs_dir = .
database = index.txt
rand_serial = yes
default_md = sha256
default_days = 30
default_crl_days = 30
policy = anything
unique_subject = no
[anything]
organizationName = optional
commonName = supplied
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost,IP:127.0.0.1
[elsewhere]
basicConstraints = CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:elsewhere.example
[client]
basicConstraints = CA:FALSE
extendedKeyUsage = clientAuth
[req]
distinguished_name = nothing
[nothing]
CONFIG
: >index.txt

quiet() { "$@" >log 2>&1 || { cat log >&2; exit 1; }; }
new_key() { quiet openssl ecparam -genkey -name prime256v1 -noout -out "$1.key"; }

# authority NAME SUBJECT
authority() {
  new_key "$1"
  quiet openssl req -x509 -new -key "$1.key" -subj "$2" -days 30 -config openssl.cnf \
    -extensions authority -out "$1.pem"
}

# issue NAME AUTHORITY SECTION SUBJECT [OPTION...]
issue() {
  name=$1 authority=$2 section=$3 subject=$4
  shift 4
  new_key "$name"
  quiet openssl req -new -key "$name.key" -subj "$subject" -config openssl.cnf -out request
  quiet openssl ca -batch -notext -config openssl.cnf -cert "$authority.pem" \
    -keyfile "$authority.key" -extensions "$section" -in request -out "$name.pem" "$@"
}

authority ca "/O=Test/CN=Test authority"
authority other_ca "/O=Other/CN=Another authority"
past="-startdate 20200101000000Z -enddate 20200201000000Z"
issue server ca server "/O=Test/CN=localhost"
issue renewed ca server "/O=Test/CN=localhost renewed"
issue wrong_host ca elsewhere "/O=Test/CN=elsewhere.example"
# shellcheck disable=SC2086  # several words
issue expired_server ca server "/O=Test/CN=localhost" $past
issue other_server other_ca server "/O=Other/CN=localhost"
issue client ca client "/O=Test/CN=device 7"
# shellcheck disable=SC2086
issue expired_client ca client "/O=Test/CN=device 8" $past
issue revoked_client ca client "/O=Test/CN=device 9"
issue other_client other_ca client "/O=Other/CN=device 7"
quiet openssl ca -config openssl.cnf -cert ca.pem -keyfile ca.key -gencrl -out empty_crl.pem
quiet openssl ca -config openssl.cnf -cert ca.pem -keyfile ca.key -revoke revoked_client.pem
quiet openssl ca -config openssl.cnf -cert ca.pem -keyfile ca.key -gencrl -out crl.pem
printf '# identities\nsensor:00112233445566778899aabbccddeeff\nlamp:ffeeddccbbaa99887766554433221100\n' >psk
rm -f log request
