#!/bin/sh
# Make the certificates that the tests of TLS use: a certificate authority, and what servers show, right and wrong.
#
# Usage: tests/support/tls-certs.sh DIR     (made whole or not at all; nothing is done when DIR is there already)
#
#   ca.pem ca.key            the root ("Test Root"), EC P-256: what clients trust
#   other-ca.pem             a root that signed nothing that is here but `unknown`
#   intermediate.pem         signed by the root, and signs the others; withdrawn.pem: the one of `revoked-chain`
#   crl.pem                  revocation lists of the root and of the intermediate
#   client-ca.pem            for servers that want a client's certificate: root and intermediate
#   NAME.pem NAME.key        NAME's certificate with its intermediate after it, and its private key:
#     rsa, ec                good; RSA of 2048 bits, EC P-256
#     expired                of 2020, ended 2021-01-01 00:00:00
#     future                 begins 2048-01-01 00:00:00
#     wrong-name             for elsewhere.example.org
#     revoked                its serial number is in crl.pem
#     revoked-chain          good, but its intermediate is in crl.pem
#     rsa1024                RSA of 1024 bits
#     sha1                   signed with SHA-1
#     unknown                signed by other-ca.pem
#     self-signed            by itself
#     not-a-ca               signed with the key of `ec`, which is no authority
#     client, client-ec      good for clients; RSA and EC
#
# All but those that say otherwise are for orders.example.test, *.example.test and localhost, from 2015 to 2049, signed
# with SHA-256 by the intermediate. `openssl s_server` shows rsa1024 and sha1 with -cipher DEFAULT@SECLEVEL=0.
set -eu
[ $# = 1 ] || { echo "usage: tests/support/tls-certs.sh DIR" >&2; exit 2; }
out=$(realpath -m -- "$1")
[ ! -d "$out" ] || exit 0
command -v openssl >/dev/null || { echo "tls-certs: no openssl here: apt-get install openssl" >&2; exit 1; }
mkdir -p "$(dirname "$out")"
work=$(mktemp -d "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

run() { # command...: quiet unless it fails
    "$@" >log 2>&1 || { cat log >&2; echo "tls-certs: $* failed" >&2; exit 1; }
}

key() { # NAME ec|RSA-BITS
    if [ "$2" = ec ]; then
        run openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1.key"
    else
        run openssl genpkey -algorithm RSA -pkeyopt "rsa_keygen_bits:$2" -out "$1.key"
    fi
}

names='DNS:orders.example.test, DNS:*.example.test, DNS:localhost'
config() { # AUTHORITY subjectAltName -> $1.cnf, and its books when there are none
    [ -d "$1.books" ] || { mkdir "$1.books"; : >"$1.books/index"; echo 1000 >"$1.books/serial"; echo 01 >"$1.books/crl"; }
    cat >"$1.cnf" <<CONFIG
[ca]
default_ca = books
[books]
database = $1.books/index
serial = $1.books/serial
crlnumber = $1.books/crl
new_certs_dir = $1.books
default_md = sha256
default_crl_days = 9000
policy = any
unique_subject = no
[any]
commonName = supplied
[req]
distinguished_name = nobody
prompt = no
[nobody]
commonName = nobody
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature, keyEncipherment
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = ${2:-$names}
CONFIG
}

root() { # NAME "Common Name"
    key "$1" ec
    config "$1" ''
    run openssl req -config "$1.cnf" -new -key "$1.key" -subj "/CN=$2" -out "$1.req"
    run openssl ca -config "$1.cnf" -batch -notext -selfsign -keyfile "$1.key" -in "$1.req" -out "$1.pem" \
        -extensions authority -startdate 20150101000000Z -enddate 20491231000000Z
}

sign() { # NAME "Common Name" AUTHORITY authority|leaf START END [more options of openssl ca]: NAME.key is there
    name=$1 common=$2 by=$3 kind=$4 start=$5 end=$6
    shift 6
    run openssl req -config "$by.cnf" -new -key "$name.key" -subj "/CN=$common" -out "$name.req"
    run openssl ca -config "$by.cnf" -batch -notext -cert "$by.pem" -keyfile "$by.key" -in "$name.req" \
        -out "$name.pem" -extensions "$kind" -startdate "${start}Z" -enddate "${end}Z" "$@"
}

leaf() { # NAME ec|RSA-BITS [AUTHORITY [START END [more options]]]
    name=$1 by=${3:-intermediate} start=${4:-20150101000000} end=${5:-20490101000000}
    key "$name" "$2"
    shift "$(($# < 5 ? $# : 5))"
    sign "$name" "$name.example.test" "$by" leaf "$start" "$end" "$@"
}

root ca "Test Root"
root other-ca "Other Root"
for authority in intermediate withdrawn; do
    key $authority ec
    config $authority ''
    sign $authority "Test $authority" ca authority 20150101000000 20490601000000
done

leaf rsa 2048
leaf ec ec
leaf expired ec intermediate 20200101000000 20210101000000
leaf future ec intermediate 20480101000000 20490101000000
leaf revoked ec
leaf revoked-chain ec withdrawn
leaf rsa1024 1024
leaf sha1 ec intermediate 20150101000000 20490101000000 -md sha1
leaf unknown ec other-ca
leaf client 2048
leaf client-ec ec
config intermediate 'DNS:elsewhere.example.org'
leaf wrong-name ec
config intermediate ''
config ec ''
leaf not-a-ca ec ec
key self-signed ec
run openssl req -config ec.cnf -new -x509 -key self-signed.key -subj "/CN=self-signed.example.test" -extensions leaf \
    -days 7000 -out self-signed.pem

# Each with what leads to its root.
for name in rsa ec expired future revoked rsa1024 sha1 client client-ec wrong-name; do
    cat intermediate.pem >>$name.pem
done
cat withdrawn.pem >>revoked-chain.pem
cat ec.pem >>not-a-ca.pem

run openssl ca -config intermediate.cnf -cert intermediate.pem -keyfile intermediate.key -revoke revoked.pem
run openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -revoke withdrawn.pem
run openssl ca -config intermediate.cnf -cert intermediate.pem -keyfile intermediate.key -gencrl -out intermediate.crl
run openssl ca -config ca.cnf -cert ca.pem -keyfile ca.key -gencrl -out ca.crl
cat ca.crl intermediate.crl >crl.pem
cat ca.pem intermediate.pem >client-ca.pem

rm -rf ./*.books ./*.cnf ./*.req ./*.crl log withdrawn.key other-ca.key intermediate.key
chmod 755 .
mv "$work" "$out"
trap - EXIT
