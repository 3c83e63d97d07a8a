//! Hand-written compose files, each a folder of `corpus/`, with what `docker stack config` printed for it.
//!
//! `compose.yml` (or what `COMPOSE_FILE` names) and `.env` are the case. `expected.yml` is docker's output;
//! `expected.error` says why docker, the loader, or both refuse the files. `BLESS=1 cargo test compose::corpus` writes
//! both again, from a docker that has the command.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Once;

use harness::recipe::compose;
use harness::recipe::env::AppEnv;
use harness::recipe::tree::{Entry, Tree};
use serde_json::Value;

use super::difference::{differences, parse, plain_differences};
use super::docker::{self, DOCKER};
use crate::runner::checkout;

/// The docker that the records were made with: another one may word its refusals in another way.
const RECORDED_WITH: &str = "28.2.2";

/// Something that `docker stack config` accepts and the loader refuses.
struct Stricter {
    /// The case that shows it, and what the loader's message has in it.
    case: &'static str,
    says: &'static str,
    reason: &'static str,
}

/// What a Swarm would refuse, or could only get wrong, is better said before anything is created.
const STRICTER: &[Stricter] = &[
    Stricter { case: "no-image", says: "it has no `image`", reason: "a Swarm has nothing to run" },
    Stricter { case: "no-services", says: "no service is defined", reason: "there is nothing to deploy" },
    Stricter {
        case: "undefined-objects",
        says: "is not defined in the top-level",
        reason: "`docker stack deploy` refuses it when it gets there",
    },
    Stricter { case: "target-relative", says: "is not an absolute path", reason: "the engine refuses the mount" },
    Stricter {
        case: "target-missing",
        says: "`target` is missing",
        reason: "the engine refuses the mount or the port",
    },
    Stricter {
        case: "mount-type-unknown",
        says: "mount type `",
        reason: "only volumes, binds and tmpfs are deployed here",
    },
    Stricter {
        case: "mount-tmpfs-with-source",
        says: "a tmpfs mount has no `source`",
        reason: "the engine refuses the mount",
    },
    Stricter {
        case: "secret-without-source",
        says: "`source` is missing",
        reason: "`docker stack deploy` finds no secret without a name",
    },
    Stricter {
        case: "secret-owner-by-name",
        says: "is not a number",
        reason: "the container's start fails: Swarm wants numbers",
    },
    Stricter {
        case: "words-unknown",
        says: "is not known: possible are",
        reason: "Swarm refuses the service; of its modes, jobs are not supported here",
    },
    Stricter {
        case: "ports-out-of-range",
        says: "is out of range",
        reason: "Swarm refuses the port; docker only wraps it around",
    },
    Stricter { case: "health-test-kind", says: "`test` begins with", reason: "the engine refuses the test" },
    Stricter {
        case: "health-test-disabled",
        says: "`test` and `disable` exclude each other",
        reason: "`docker stack deploy` refuses it when it gets there",
    },
    Stricter {
        case: "global-with-replicas",
        says: "`replicas` and mode `global` exclude each other",
        reason: "`docker stack deploy` refuses it when it gets there",
    },
    Stricter { case: "host-as-number", says: "expected an address as text", reason: "docker makes `%!s(int=5)` of it" },
    Stricter {
        case: "variable-without-name",
        says: "has no name",
        reason: "the engine refuses the container; docker itself refuses it in a mapping",
    },
    Stricter {
        case: "object-without-file",
        says: "it has neither `file` nor `external`",
        reason: "docker takes the whole directory for its file, and fails to read it",
    },
    Stricter {
        case: "ulimit-missing",
        says: "expected a whole number, seen nothing",
        reason: "`docker stack deploy` crashes on it",
    },
    Stricter {
        case: "volume-of-a-cluster",
        says: "cluster volumes are not supported",
        reason: "dropped like other `x-` blocks, it would become a local volume",
    },
    Stricter {
        case: "network-name",
        says: "expected a name of letters",
        reason: "docker looks at the names of all sections but this one",
    },
    Stricter {
        case: "duration-negative",
        says: "is a negative time",
        reason: "Swarm refuses some of them, and none makes sense",
    },
    Stricter {
        case: "date-with-time",
        says: "is a point in time",
        reason: "what docker makes of it depends on the zone of the machine",
    },
    Stricter { case: "tag-binary", says: "has no place in a compose file", reason: "bytes need not be text" },
    Stricter {
        case: "file-missing",
        says: "the recipe has no file",
        reason: "`docker stack deploy` fails to read it when it gets there",
    },
    Stricter {
        case: "file-outside",
        says: "leaves the recipe",
        reason: "a recipe must not read what the deploying machine has",
    },
];

/// Whether a refusal is one of those that docker leaves to others.
pub fn is_stricter(refusal: &str) -> bool {
    STRICTER.iter().any(|stricter| refusal.contains(stricter.says))
}

/// One folder of the corpus.
pub struct Case {
    name: String,
    dir: PathBuf,
    tree: Tree,
    env: AppEnv,
}

/// All cases, by name; recorded again when that is asked for.
pub fn cases() -> Vec<Case> {
    static BLESSED: Once = Once::new();
    if let (Some(_), Some(docker)) = (std::env::var_os("BLESS"), DOCKER.as_ref()) {
        BLESSED.call_once(|| read().iter().for_each(|case| case.bless(docker)));
    }
    read()
}

fn read() -> Vec<Case> {
    let dir = checkout().join("tests/it/compose/corpus");
    let mut dirs: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    dirs.sort();
    dirs.into_iter().map(Case::read).collect()
}

impl Case {
    fn read(dir: PathBuf) -> Case {
        let mut tree = Tree::default();
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            tree.files.insert(name, Entry::File { bytes: std::fs::read(&path).unwrap(), executable: false });
        }
        let env = AppEnv::parse(tree.text_if_any(".env").unwrap().unwrap_or_default()).unwrap();
        Case { name: dir.file_name().unwrap().to_str().unwrap().to_owned(), dir, tree, env }
    }

    /// The loader's document, or why it refuses the files.
    fn ours(&self) -> Result<Value, String> {
        self.load().map(|compose| compose.document)
    }

    fn load(&self) -> Result<compose::Compose, String> {
        compose::load(&self.tree, &self.env).map_err(|error| format!("{error:#}"))
    }

    /// What docker prints now.
    fn docker(&self, docker: &docker::Docker) -> Result<String, String> {
        let files = self.env.compose_files(&self.tree).unwrap();
        docker.config(&self.dir, &files, self.env.iter())
    }

    /// What docker printed when the case was recorded.
    fn recorded(&self) -> Result<String, String> {
        match (self.tree.text_if_any("expected.yml").unwrap(), self.refusal("docker")) {
            (Some(text), None) => Ok(text.to_owned()),
            (None, Some(message)) => Err(message),
            _ => panic!("{}: `expected.yml`, or `docker: …` in `expected.error`: exactly one is needed", self.name),
        }
    }

    /// A recorded refusal, of `docker` or of the `loader`.
    fn refusal(&self, whose: &str) -> Option<String> {
        let text = self.tree.text_if_any("expected.error").unwrap()?;
        text.lines().find_map(|line| line.strip_prefix(whose)?.strip_prefix(": ")).map(str::to_owned)
    }

    /// What docker printed and the loader's document, where both accept the files.
    pub fn both(&self) -> Result<(String, Value), String> {
        Ok((self.recorded()?, self.ours()?))
    }

    fn bless(&self, docker: &docker::Docker) {
        let (docker, ours) = (self.docker(docker), self.ours());
        let write = |name: &str, text: &str| {
            let path = self.dir.join(name);
            if text.is_empty() { drop(std::fs::remove_file(path)) } else { std::fs::write(path, text).unwrap() }
        };
        write("expected.yml", docker.as_deref().unwrap_or_default());
        let mut refusals = String::new();
        for (whose, refusal) in [("docker", docker.err()), ("loader", ours.err())] {
            refusal.into_iter().for_each(|refusal| writeln!(refusals, "{whose}: {refusal}").unwrap());
        }
        write("expected.error", &refusals);
    }

    /// Whether the loader does what was recorded of docker, and says what was recorded of it.
    fn check(&self) -> Vec<String> {
        let stricter = STRICTER.iter().any(|stricter| stricter.case == self.name);
        match (self.recorded(), self.ours()) {
            (Ok(_), Ok(_)) if stricter => vec!["the loader accepts it: take it off the list `STRICTER`".into()],
            (Ok(docker), Ok(ours)) => differences(&docker, &ours),
            (Ok(_), Err(error)) if !stricter => vec![format!("docker accepts it, and the loader says: {error}")],
            (Err(error), Ok(_)) => vec![format!("the loader accepts it, and docker says: {error}")],
            (_, Err(error)) if self.refusal("loader").as_ref() == Some(&error) => Vec::new(),
            (_, Err(error)) => vec![format!(
                "the loader says: {error}\n    recorded: {}",
                self.refusal("loader").unwrap_or_else(|| "nothing".into())
            )],
        }
    }
}

fn told(cases: &[Case], check: impl Fn(&Case) -> Vec<String>) -> String {
    let mut told = String::new();
    for case in cases {
        check(case).iter().for_each(|line| writeln!(told, "{}: {line}", case.name).unwrap());
    }
    told
}

#[test]
fn the_loader_agrees_with_what_docker_printed() {
    let cases = cases();
    assert!(cases.len() >= 30, "{} cases were found", cases.len());
    let told = told(&cases, Case::check);
    assert!(told.is_empty(), "\n{told}");
}

#[test]
fn docker_still_prints_what_was_recorded() {
    let Some(docker) = DOCKER.as_ref() else {
        return docker::missing("whether the compose corpus is what docker prints");
    };
    let told = told(&cases(), |case| match (case.docker(docker), case.recorded()) {
        (Ok(now), Ok(then)) => plain_differences(&parse(&now).unwrap(), &parse(&then).unwrap()),
        (Err(now), Err(then)) if now == then || docker.version != RECORDED_WITH => Vec::new(),
        (now, then) => vec![format!("docker {now:?}\n    recorded {then:?}")],
    });
    assert!(told.is_empty(), "`BLESS=1 cargo test compose::corpus` records it again:\n{told}");
}

/// What is given to `docker stack deploy` in place of the files is one file in the long forms, without variables.
#[test]
fn docker_reads_the_loaders_document_as_it_read_the_files() {
    let Some(docker) = DOCKER.as_ref() else { return docker::missing("whether docker reads what the loader deploys") };
    let dir = tempfile::tempdir().unwrap();
    let told = told(&cases(), |case| {
        let Ok(compose) = case.load() else { return Vec::new() };
        let deployed = harness::recipe::compose::for_stack_deploy(&compose.document).unwrap();
        std::fs::write(dir.path().join("compose.yml"), &deployed).unwrap();
        match docker.config(dir.path(), &["compose.yml".into()], []) {
            Ok(again) => differences(&again, &serde_json::from_str(&deployed.replace("$$", "$")).unwrap()),
            Err(error) => vec![format!("docker says: {error}")],
        }
    });
    assert!(told.is_empty(), "\n{told}");
}

#[test]
fn every_stricter_refusal_has_its_case() {
    let cases = cases();
    for Stricter { case, says, reason } in STRICTER {
        let refusal = cases.iter().find(|it| it.name == *case).and_then(|case| case.refusal("loader"));
        assert!(refusal.is_some_and(|refusal| refusal.contains(says)), "`{case}` does not show `{says}` ({reason})");
    }
}
