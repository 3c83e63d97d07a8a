//! PostgreSQL, opened by `psql`. The row lies in a table of the schema in which most tables are, and belongs to whoever
//! owns those: a dump of that schema, or by that user, takes it along.

use super::Kind;

pub const KIND: Kind = Kind {
    name: "PostgreSQL",
    images: &["postgres", "postgresql", "postgis", "timescaledb", "pgvector", "pgautoupgrade", "pgvecto"],
    programs: &["postgres", "postmaster"],
    variables: &["PGDATA", "POSTGRES_INITDB_ARGS"],
    marker: Some("PG_VERSION"),
    may_be_a_cache: false,
    script: r#"
command -v psql >/dev/null || none "there is no psql in its container"
export PGCONNECT_TIMEOUT=5
user=$(value POSTGRES_USER POSTGRESQL_USERNAME)
user=${user:-postgres}
sql() { psql --no-psqlrc --no-password --username="$user" --dbname="$1" -Atq --set=ON_ERROR_STOP=1 --command="$2" </dev/null; }
opens() {
    for PGHOST in '' localhost; do
        export PGHOST
        while IFS= read -r PGPASSWORD; do
            export PGPASSWORD
            why=$(sql "$1" 'select 1' 2>&1) && return
        done <<END
$(passwords POSTGRES_PASSWORD POSTGRESQL_PASSWORD)
END
    done
    return 1
}
tables="pg_tables where schemaname not in ('pg_catalog', 'information_schema')"
case $op in
    write)
        db=$(value POSTGRES_DB POSTGRESQL_DATABASE)
        opens "${db:-$user}" || opens postgres || fail "$why"
        if [ -z "$db" ] || ! sql "$db" 'select 1' >/dev/null 2>&1; then
            db=$(sql postgres "select datname from pg_database where not datistemplate
                order by datname = 'postgres', pg_database_size(datname) desc limit 1") || exit 1
        fi
        schema=$(sql "$db" "select coalesce((select quote_ident(schemaname) from $tables
            group by schemaname order by count(*) desc limit 1), 'public')") || exit 1
        sql "$db" "create table if not exists $schema.$name (id int primary key, word text);
            delete from $schema.$name; insert into $schema.$name values (1, '$word')" || exit 1
        owner=$(sql "$db" "select quote_ident(tableowner) from $tables and tablename <> '$name'
            group by tableowner order by count(*) desc limit 1")
        [ -z "$owner" ] || sql "$db" "alter table $schema.$name owner to $owner" 2>/dev/null
        echo "$db $schema"
        ;;
    *)
        db=${place% *} schema=${place##* }
        if ! opens "$db"; then
            said=$why
            opens postgres || fail "$said"
            gone "there is no database \`$db\` any more"
        fi
        there=$(sql "$db" "select to_regclass('$schema.$name') is not null") || exit 1
        [ "$there" = t ] || gone "there is no table \`$schema.$name\` in the database \`$db\`"
        case $op in
            read) sql "$db" "select word from $schema.$name where id = 1" ;;
            lose) sql "$db" "drop table $schema.$name" ;;
        esac
        ;;
esac
"#,
};
