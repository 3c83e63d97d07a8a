//! SQLite, which is a file of a volume and no server: known by what the file begins with, and opened by whatever of the
//! container speaks it.

use super::Kind;

pub const KIND: Kind = Kind {
    name: "SQLite",
    images: &[],
    programs: &[],
    variables: &[],
    marker: None,
    may_be_a_cache: false,
    script: r#"
[ -f "$place" ] || gone "there is no \`$place\`"
if command -v sqlite3 >/dev/null; then
    sql() { sqlite3 -batch -cmd '.timeout 5000' "$place" "$1" </dev/null; }
elif command -v python3 >/dev/null && python3 -c 'import sqlite3' 2>/dev/null; then
    sql() {
        python3 -c 'import sqlite3, sys
opened = sqlite3.connect(sys.argv[1], timeout=5, isolation_level=None)
for statement in sys.argv[2].split(";"):
    for row in opened.execute(statement): print(row[0])' "$place" "$1" </dev/null
    }
elif command -v php >/dev/null && php -r 'exit(class_exists("SQLite3") ? 0 : 1);'; then
    sql() {
        php -r '$opened = new SQLite3($argv[1]); $opened->enableExceptions(true); $opened->busyTimeout(5000);
foreach (array_filter(explode(";", $argv[2]), "trim") as $statement) {
    $rows = $opened->query($statement);
    while ($rows->numColumns() && $row = $rows->fetchArray(SQLITE3_NUM)) echo $row[0], "\n";
}' "$place" "$1" </dev/null
    }
else
    none "there is no sqlite3, python3 or php in the container that could open \`$place\`"
fi
case $op in
    write)
        sql "create table if not exists $name (id integer primary key, word text);
            replace into $name values (1, '$word')" || exit 1
        echo "$place"
        ;;
    *)
        there=$(sql "select count(*) from sqlite_master where type = 'table' and name = '$name'") || exit 1
        [ "$there" = 1 ] || gone "there is no table \`$name\` in \`$place\`"
        case $op in
            read) sql "select word from $name where id = 1" ;;
            lose) sql "drop table $name" ;;
        esac
        ;;
esac
"#,
};
