#!/bin/bash
# Run by the backup bot inside the database's container: `backup` dumps the database into its volume, `restore` loads
# the dump, replacing what is there. Either fails as a whole.
set -euo pipefail

DUMP=/var/lib/postgresql/data/backup.sql

case "$1" in
    backup)
        pg_dump --username=guestbook --clean --if-exists guestbook >"$DUMP.new"
        mv "$DUMP.new" "$DUMP"
        ;;
    restore)
        # A dump that was cut off loads without an error, and takes the rows behind the cut with it.
        if ! tail --lines=20 "$DUMP" | grep --quiet --line-regexp -e '-- PostgreSQL database dump complete'; then
            echo "$DUMP is cut off: it does not end as pg_dump ends a dump" >&2
            exit 1
        fi
        psql --username=guestbook --single-transaction --set=ON_ERROR_STOP=1 --quiet --file="$DUMP" guestbook >/dev/null
        ;;
    *)
        echo "usage: pg_backup backup|restore" >&2
        exit 2
        ;;
esac
