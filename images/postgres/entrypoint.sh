#!/bin/bash
# Starts PostgreSQL as the official image does, as far as the bundled recipes need it: a first start makes the database
# from POSTGRES_USER, POSTGRES_DB and the password in POSTGRES_PASSWORD_FILE.
set -euo pipefail

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /var/run/postgresql
    chown postgres:postgres "$PGDATA" /var/run/postgresql
    chmod 700 "$PGDATA"
    exec chroot --userspec=postgres:postgres / env HOME=/var/lib/postgresql "$0" "$@"
fi

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    user=${POSTGRES_USER:-postgres}
    initdb --username="$user" --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=trust --auth-host=scram-sha-256 \
        --encoding=UTF8 --no-locale --no-sync "$PGDATA" >/dev/null
    echo "listen_addresses = '*'" >>"$PGDATA/postgresql.conf"
    echo 'host all all all scram-sha-256' >>"$PGDATA/pg_hba.conf"
    # Only over its own socket, so that nobody takes this first start for the real one.
    pg_ctl -w -D "$PGDATA" -o "-c listen_addresses=''" -l /dev/null start >/dev/null
    if [ "${POSTGRES_DB:-$user}" != postgres ]; then
        createdb --username="$user" "${POSTGRES_DB:-$user}"
    fi
    pg_ctl -w -D "$PGDATA" -m fast stop >/dev/null
    echo 'PostgreSQL init process complete; ready for start up.'
fi

exec "$@"
