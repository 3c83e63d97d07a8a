//! Redis and what speaks as it does, opened by their command line. Without anything that outlives its container it is a
//! cache, and so it is where its own settings have it keep nothing.

use super::Kind;

pub const KIND: Kind = Kind {
    name: "Redis",
    images: &["redis", "valkey", "keydb"],
    programs: &["redis-server", "valkey-server", "keydb-server"],
    variables: &[],
    marker: None,
    may_be_a_cache: true,
    script: r#"
client=$(command -v redis-cli || command -v valkey-cli || command -v keydb-cli) ||
    none "there is no redis-cli and no valkey-cli in its container"
ask() { "$client" "$@" </dev/null; }
opens() {
    while IFS= read -r REDISCLI_AUTH; do
        if [ -n "$REDISCLI_AUTH" ]; then export REDISCLI_AUTH; else unset REDISCLI_AUTH; fi
        why=$(ask ping 2>&1)
        case $why in *PONG) return ;; esac
    done <<END
$(passwords REDIS_PASSWORD VALKEY_PASSWORD KEYDB_PASSWORD)
END
    return 1
}
opens || fail "$why"
case $op in
    write)
        case "$(ask config get save | sed -n 2p):$(ask config get appendonly | sed -n 2p)" in
            :no) cache "its settings have it keep nothing: \`save\` is empty, and \`appendonly\` is no" ;;
        esac
        said=$(ask set "$name" "$word")
        [ "$said" = OK ] || fail "$said"
        echo "0"
        ;;
    read)
        [ "$(ask exists "$name")" = 1 ] || gone "there is no key \`$name\`"
        ask get "$name"
        ;;
    lose) ask del "$name" >/dev/null ;;
esac
"#,
};
