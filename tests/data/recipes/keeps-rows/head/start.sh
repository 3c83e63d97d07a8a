#!/bin/sh
# Starts one of the databases on its volume; a first start makes it.
set -eu
# Where Debian has the programs of PostgreSQL, which are on nobody's PATH.
PATH=$PATH:$(echo /usr/lib/postgresql/*/bin | tr " " :)

as_nobody() { exec chroot --userspec=65534:65534 / "$@"; }

case $1 in
    pages)
        [ -e /srv/files/app.db ] ||
            python3 -c 'import sqlite3; sqlite3.connect("/srv/files/app.db").execute("create table notes (text)")'
        mkdir -p /tmp/pages
        echo '<title>Rows</title>' >/tmp/pages/index.html
        exec python3 -m http.server --directory /tmp/pages 80 2>/dev/null
        ;;
    postgres)
        if [ "$(id -u)" = 0 ]; then
            mkdir -p "$PGDATA" /var/run/postgresql
            chown 65534:65534 /srv/pg "$PGDATA" /var/run/postgresql
            chmod 700 "$PGDATA"
            as_nobody /bin/sh /start.sh postgres
        fi
        if [ ! -s "$PGDATA/PG_VERSION" ]; then
            initdb --username=app --auth=trust --encoding=UTF8 --no-locale --no-sync "$PGDATA" >/dev/null
            echo 'create database notes;
            \connect notes
            create table notes (text varchar);' | postgres --single -j -D "$PGDATA" postgres >/dev/null
        fi
        exec postgres -D "$PGDATA" -c fsync=off -k /var/run/postgresql
        ;;
    mariadbd)
        mkdir -p /run/mysqld
        [ -e /srv/maria/ibdata1 ] ||
            mariadb-install-db --no-defaults --datadir=/srv/maria --user=root --auth-root-authentication-method=normal \
                --skip-test-db >/dev/null
        password=$(cat "$MARIADB_ROOT_PASSWORD_FILE")
        echo "create database if not exists wiki;
        create table if not exists wiki.notes (text varchar(99));
        alter user root@localhost identified by '$password';" >/tmp/init.sql
        exec mariadbd --no-defaults --datadir=/srv/maria --user=root --skip-networking --init-file=/tmp/init.sql
        ;;
    redis-server)
        cd /srv/kv
        exec redis-server --requirepass "$(cat /run/secrets/kv_password)"
        ;;
esac
