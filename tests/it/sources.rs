//! Where recipes may come from: over nothing that anybody on the way could change, and not by running a program.

use crate::runner::World;

/// A checkout whose only source is this one, and what a run of it says.
fn refused(source: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let toml = format!("zone = \"harness.test\"\n[recipes]\nsources = [\"{source}\"]\n");
    std::fs::write(root.path().join("harness.toml"), toml).unwrap();
    let world = World::new(root.path().to_owned());
    let ended = world.run(&["--recipe", "wiki"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended}");
    assert!(!world.state().exists(), "{ended}");
    ended.stderr
}

/// Nothing listens there, and what git says of it quotes the address.
#[test]
fn a_token_in_an_address_is_shown_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let source = "https://me:hidden-password@127.0.0.1:1/{recipe}.git?private_token=hidden-token";
    let toml = format!("zone = \"harness.test\"\n[recipes]\nsources = [\"{source}\"]\n");
    std::fs::write(root.path().join("harness.toml"), toml).unwrap();
    let world = World::new(root.path().to_owned());
    let ended = world.run(&["--recipe", "wiki"]);
    let start = "error: failed to fetch from `https://127.0.0.1:1/wiki.git?***`: fatal: unable to access \
                 'https://127.0.0.1:1/wiki.git?***': ";
    assert_eq!(ended.code, 3, "{ended}");
    assert!(ended.stderr.starts_with(start) && !ended.stderr.contains("hidden"), "{ended}");
    let hidden = harness::mask::Masks::new(["hidden-password", "hidden-token"]).unwrap();
    assert_eq!(harness::keeper::leaks::files_with(&world.state(), &hidden).unwrap(), Vec::<String>::new());
}

#[test]
fn a_source_without_encryption_is_refused_before_anything_is_created() {
    let start = "error: failed to use `recipes.sources` of `harness.toml`: source";
    let possible = "possible are `https://…`, `file://…` and a path";
    for (source, why) in [
        ("http://forge.example.org/{recipe}.git", "uses `http`, over which anybody on the way can change a recipe: "),
        ("git://forge.example.org/{recipe}.git", "uses `git`, over which anybody on the way can change a recipe: "),
        ("ext::sh -c 'touch ran' {recipe}", "is neither a git URL nor a path: "),
        (
            "ssh://git@forge.example.org/{recipe}",
            "uses `ssh`, which takes the keys of whoever runs this: `ssh = true` under `[recipes]` in `harness.toml` would \
             allow it; otherwise ",
        ),
    ] {
        let shown = source.replace("git@", "");
        assert_eq!(refused(source), format!("{start} `{shown}` {why}{possible}\n"));
    }
}
