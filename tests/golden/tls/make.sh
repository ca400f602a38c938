#!/bin/sh
# Makes the certificates of the tests: an authority, and a server certificate for localhost that it
# signed. Good for a hundred years, worth nothing: the keys are in the repository.
set -eu
cd "$(dirname "$0")"
curve="-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500"
openssl req -x509 $curve -subj "/CN=joust tests" -keyout authority-key.pem -out authority.pem \
  -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
openssl req -x509 $curve -subj "/CN=localhost" -keyout key.pem -out cert.pem \
  -CA authority.pem -CAkey authority-key.pem -addext "basicConstraints=critical,CA:FALSE" \
  -addext "subjectAltName=DNS:localhost,IP:127.0.0.1"
rm authority-key.pem
