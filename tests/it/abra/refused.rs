//! What keeps abra from being used is one line, before anything is created.

use super::fake::Abra;

pub const CASES: &[crate::Case] = &[
    ("no_abra_is_said_before_anything", no_abra),
    ("no_server_is_said_before_anything", no_server),
    ("an_unknown_server_is_said_before_anything", an_unknown_server),
    ("a_name_that_abra_would_cut_off_is_said_before_anything", a_name_that_abra_would_cut_off),
    ("an_abra_that_is_something_else_is_said_before_anything", something_else),
];

fn refused(abra: &Abra) -> String {
    let ended = abra.run(&["--recipe", "custom-html"]);
    assert_eq!((ended.code, ended.with_outcome("FAILED")), (3, vec!["tier::install"]), "{ended}");
    assert!(abra.world.journal().contains("\"could_not_begin\""), "nothing was begun: {ended}");
    let place = abra.world.dir.path().display().to_string();
    ended.refusal().replace(&place, "DIR")
}

fn no_abra() {
    let abra = Abra::with(&[]);
    std::fs::remove_file(abra.beside.join("abra")).unwrap();
    assert_eq!(refused(&abra), "error: failed to use the engine `abra`: there is no `abra` on `PATH`");
}

fn no_server() {
    let abra = Abra::with(&[]);
    std::fs::remove_dir_all(abra.world.dir.path().join("abra")).unwrap();
    let expected = "error: failed to use the engine `abra`: abra has no server: there is no `DIR/abra/servers`; \
                    `abra server add` makes one";
    assert_eq!(refused(&abra), expected);
}

/// A server is a Docker context of that name.
fn an_unknown_server() {
    let abra = Abra::with(&[]);
    let servers = abra.world.dir.path().join("abra/servers");
    std::fs::rename(servers.join("default"), servers.join("coop.example.org")).unwrap();
    let said = refused(&abra);
    assert!(said.starts_with("error: failed to use the engine `abra`: "), "{said}");
    assert!(said.contains("coop.example.org") && said.lines().count() == 1, "{said}");
}

fn a_name_that_abra_would_cut_off() {
    let abra = Abra::with(&[]);
    let root = abra.world.dir.path().join("root");
    std::fs::create_dir_all(&root).unwrap();
    let recipes = crate::runner::checkout().join("recipes");
    let zone = "a-long-zone-that-goes-on.example.org";
    let toml = format!("zone = \"{zone}\"\n[recipes]\nsources = [{recipes:?}]\n");
    std::fs::write(root.join("harness.toml"), toml).unwrap();
    let ended = crate::runner::finish(&abra.command(&["--recipe", "custom-html"]).env("HARNESS_ROOT", &root));
    assert_eq!(ended.code, 3, "{ended}");
    let end = "_a-long-zone-that-goes-on_example_org` has 48 characters, and abra cuts it off after 45: shorten \
               `zone`";
    assert!(ended.stderr.starts_with("error: failed to use the engine `abra`: the stack's name `cust-"), "{ended}");
    assert!(ended.refusal().ends_with(end), "{ended}");
}

fn something_else() {
    let abra = Abra::with(&[]);
    let program = abra.beside.join("abra");
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "#!/bin/sh\necho\necho I am a magic spell\necho and this is my second line\n").unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let expected = "error: failed to use the engine `abra`: `DIR/bin/abra --version` was expected to say `abra version \
                    …`, and says: I am a magic spell";
    assert_eq!(refused(&abra), expected);
}
