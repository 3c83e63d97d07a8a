//! The configuration files, as Taplo sees them, which is what checks and completes TOML in most editors: it finds the
//! schema of each by itself, and names a mistake.

use std::path::Path;

use harness::process::Run;
use serde_json::{Value, json};

use super::language_server::Server;
use crate::Case;
use crate::runner::{Ended, checkout, finish};

pub const CASES: &[Case] = &[
    ("toml::the_schema_of_each_configuration_file_is_found_and_names_a_mistake", found_by_place),
    ("toml::keys_are_completed_with_what_they_mean_and_a_mistake_is_marked", completed),
    ("toml::a_file_elsewhere_names_its_schema_in_its_first_line", named_in_the_file),
];

/// Taplo as an editor runs it: from the folder that is open.
fn lint(folder: &Path, file: &str) -> Ended {
    finish(&Run::new("taplo", ["lint", "--colors", "never", file]).cwd(folder))
}

/// A folder with what an editor looks at.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let names = [".taplo.toml", "schemas", "harness.toml", "overlays"];
    let to = folder.path().to_str().unwrap();
    let copied = finish(&Run::new("cp", ["-r"].iter().chain(&names).chain(&[to])).cwd(checkout()));
    assert_eq!(copied.code, 0, "{copied}");
    folder
}

fn found_by_place() {
    let folder = folder();
    for (file, right, wrong) in [
        ("harness.toml", "engine = ", "engin = "),
        ("overlays/custom-html/recipe.toml", "path = ", "paht = "),
        ("overlays/guestbook/recipe.toml", "status = ", "state = "),
    ] {
        let ended = lint(folder.path(), file);
        assert_eq!(ended.code, 0, "{ended}");
        let text = std::fs::read_to_string(folder.path().join(file)).unwrap();
        assert!(text.contains(right), "{text}");
        std::fs::write(folder.path().join(file), text.replacen(right, wrong, 1)).unwrap();
        let ended = lint(folder.path(), file);
        let key = wrong.trim_end_matches(" = ");
        assert_eq!(ended.code, 1, "{ended}");
        let said = format!("Additional properties are not allowed ('{key}' was unexpected)");
        assert!(ended.stderr.contains(&said), "{ended}");
    }
}

fn named_in_the_file() {
    let folder = folder();
    let put = |text: &str| std::fs::write(folder.path().join("mine.toml"), text).unwrap();
    put("[http]\nstatus = [\"ok\"]\n");
    assert_eq!(lint(folder.path(), "mine.toml").code, 0, "no schema is known for it");
    put("#:schema ./schemas/recipe.schema.json\n[http]\nstatus = [200]\n");
    assert_eq!(lint(folder.path(), "mine.toml").code, 0);
    put("#:schema ./schemas/recipe.schema.json\n[http]\nstatus = [\"ok\"]\n");
    let ended = lint(folder.path(), "mine.toml");
    assert_eq!(ended.code, 1, "{ended}");
    assert!(ended.stderr.contains("\"ok\" is not of type \"integer\""), "{ended}");
}

fn completed() {
    let folder = folder();
    let mut server = Server::start(&["taplo", "lsp", "stdio"], folder.path(), json!({}), json!({}));
    let file = folder.path().join("overlays/custom-html/recipe.toml");
    let uri = server.open(&file, "toml", "[http]\npaht = \"/\"\n\n");
    // Complaints come once the schema is loaded, which may be after the answer to a question.
    let complaint = loop {
        let message = server.receive();
        if let Some(complaint) = message["params"]["diagnostics"].as_array().and_then(|all| all.first()) {
            break complaint["message"].as_str().unwrap().to_owned();
        }
    };
    assert!(complaint.contains("'paht' was unexpected"), "{complaint}");
    let here = json!({"textDocument": {"uri": uri}, "position": {"line": 2, "character": 0}});
    let offered = server.ask("textDocument/completion", here);
    let meaning = |key: &str| {
        let item = offered.as_array().unwrap().iter().find(|item: &&Value| item["label"] == key);
        item.unwrap_or_else(|| panic!("`{key}` must be offered: {offered}"))["documentation"]["value"].clone()
    };
    assert_eq!(meaning("path"), "The path that is asked for.");
    assert!(meaning("status").as_str().unwrap().starts_with("Accepted status codes; "), "{offered}");
}
