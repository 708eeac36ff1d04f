#!/bin/sh
# PostgreSQL with one database, wharf, owned by the role wharf, who is no superuser and connects over TLS only.
# Reads /pki: ca.crt (who may connect), tls.crt, tls.key, password (taken up at every start).
set -eu
umask 077
data=${PGDATA:-/var/lib/wharf/postgres}
PATH=/usr/lib/postgresql/15/bin:$PATH

# Statements, one a line, to a database that nobody else can reach.
alone() { postgres --single -D "$1" -c log_min_messages=fatal "$2" > /dev/null; }

if [ ! -s "$data/PG_VERSION" ]; then
    # Made beside its place and moved there whole: a container stopped in between starts over.
    rm -rf "$data.new"
    initdb --pgdata="$data.new" --username=postgres --auth=reject --encoding=UTF8 --locale=C --data-checksums \
        --no-instructions
    echo "CREATE ROLE wharf LOGIN" | alone "$data.new" postgres
    echo "CREATE DATABASE wharf OWNER wharf" | alone "$data.new" postgres
    mv "$data.new" "$data"
fi
printf "ALTER ROLE wharf PASSWORD '%s'" "$(sed "s/'/''/g" /pki/password)" | alone "$data" postgres

exec postgres -D "$data" \
    -c listen_addresses='*' -c unix_socket_directories=/tmp -c hba_file=/opt/wharf/share/pg_hba.conf \
    -c ssl=on -c ssl_min_protocol_version=TLSv1.2 \
    -c ssl_cert_file=/pki/tls.crt -c ssl_key_file=/pki/tls.key -c ssl_ca_file=/pki/ca.crt \
    -c password_encryption=scram-sha-256
