//! MariaDB and MySQL, opened by `mariadb` or `mysql`. The password goes to it in a file that is a pipe.

use super::Kind;

pub const KIND: Kind = Kind {
    name: "MariaDB",
    images: &["mariadb", "mysql", "percona"],
    programs: &["mariadbd", "mysqld", "mysqld_safe", "mariadbd-safe"],
    variables: &[
        "MARIADB_ROOT_PASSWORD",
        "MARIADB_ROOT_PASSWORD_FILE",
        "MARIADB_RANDOM_ROOT_PASSWORD",
        "MYSQL_ROOT_PASSWORD",
        "MYSQL_ROOT_PASSWORD_FILE",
        "MYSQL_RANDOM_ROOT_PASSWORD",
    ],
    marker: Some("ibdata1"),
    may_be_a_cache: false,
    script: r#"
client=$(command -v mariadb || command -v mysql) || none "there is no mariadb and no mysql in its container"
sql() {
    "$client" --defaults-extra-file=/dev/fd/3 --user="$user" --batch --skip-column-names --connect-timeout=5 \
        --execute="$1" </dev/null 3<<END
[client]
password="$(printf %s "$password" | sed 's/[\\"]/\\&/g')"
END
}
opens_as() {
    user=$1
    shift
    while IFS= read -r password; do
        why=$(sql 'select 1' 2>&1) && return
    done <<END
$(passwords "$@")
END
    return 1
}
own=$(value MARIADB_USER MYSQL_USER)
opens_as root MARIADB_ROOT_PASSWORD MYSQL_ROOT_PASSWORD ||
    { [ -n "$own" ] && opens_as "$own" MARIADB_PASSWORD MYSQL_PASSWORD; } || fail "$why"
case $op in
    write)
        place=$(value MARIADB_DATABASE MYSQL_DATABASE)
        [ -n "$place" ] || place=$(sql "select table_schema from information_schema.tables where table_schema not in
            ('mysql', 'information_schema', 'performance_schema', 'sys') group by 1 order by sum(data_length) desc limit 1") || exit 1
        [ -n "$place" ] || none "no app has made a database in it"
        sql "create table if not exists \`$place\`.$name (id int primary key, word text);
            replace into \`$place\`.$name values (1, '$word')" || exit 1
        echo "$place"
        ;;
    *)
        there=$(sql "select count(*) from information_schema.tables
            where table_schema = '$place' and table_name = '$name'") || exit 1
        [ "$there" = 1 ] || gone "there is no table \`$name\` in the database \`$place\`"
        case $op in
            read) sql "select word from \`$place\`.$name where id = 1" ;;
            lose) sql "drop table \`$place\`.$name" ;;
        esac
        ;;
esac
"#,
};
