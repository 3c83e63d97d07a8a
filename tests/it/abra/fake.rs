//! A world with an abra in it: the stand-in under abra's name, and a server to deploy to.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use harness::process::Run;

use crate::runner::{Ended, World};
use crate::running::Running;
use crate::swarm::docker::{docker, named, stack};

/// Whether the network is these tests' own.
static MADE: Mutex<bool> = Mutex::new(false);

/// The network that Traefik would listen on; abra's users make it once on every server.
fn make_proxy_network() {
    // By one of those who run side by side.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if !docker(vec!["network", "ls", "--format", "{{.Name}}"]).lines().any(|name| name == "proxy") {
        docker(vec!["network", "create", "--driver", "overlay", "proxy"]);
        *made = true;
    }
}

/// Removes the network, if it was made here. To be called when no trial runs any more.
pub fn remove_proxy_network() {
    if std::mem::take(&mut *MADE.lock().unwrap_or_else(PoisonError::into_inner)) {
        docker(vec!["network", "rm", "proxy"]);
    }
}

/// A world in which `abra` is on `PATH`.
pub struct Abra {
    pub world: World,
    /// The directory of the program, and of what it reads and writes.
    pub beside: PathBuf,
}

impl Abra {
    /// With these habits, beside those that it always has.
    pub fn with(quirks: &[&str]) -> Abra {
        Abra::in_world(World::of_checkout(), quirks)
    }

    pub fn in_world(world: World, quirks: &[&str]) -> Abra {
        make_proxy_network();
        let world = world.on("abra");
        let beside = world.dir.path().join("bin");
        std::fs::create_dir_all(&beside).unwrap();
        let (built, program) = (Path::new(env!("CARGO_BIN_EXE_fake-abra")), beside.join("abra"));
        // A link where both are on one disk: the program is large.
        std::fs::hard_link(built, &program).or_else(|_| std::fs::copy(built, &program).map(|_| ())).unwrap();
        std::fs::write(beside.join("fake.json"), format!("{{\"quirks\": {quirks:?}}}")).unwrap();
        std::fs::create_dir_all(world.dir.path().join("abra/servers/default")).unwrap();
        Abra { world, beside }
    }

    /// A command line of the runner that finds this abra.
    pub fn command(&self, arguments: &[&str]) -> Run {
        let path = std::env::var("PATH").unwrap();
        let run = self.world.command(arguments).env("PATH", format!("{}:{path}", self.beside.display()));
        run.env("ABRA_DIR", self.world.dir.path().join("abra"))
    }

    /// Starts the runner and goes on.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let run = self.command(arguments);
        let mut command = harness::process::command(&run.program);
        command.args(&run.args).current_dir(self.world.dir.path());
        Running::start(command, &run)
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        crate::runner::finish(&self.command(arguments))
    }

    /// What abra was asked, a line for each call.
    pub fn calls(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.beside.join("calls.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Every record of the runs in this world.
    pub fn records(&self) -> String {
        self.files("events.jsonl")
    }

    /// What the keepers of this world said.
    pub fn keeper_logs(&self) -> String {
        self.files("keeper.log")
    }

    fn files(&self, name: &str) -> String {
        let runs = std::fs::read_dir(self.world.state().join("runs")).unwrap();
        let read = |run: std::fs::DirEntry| std::fs::read_to_string(run.path().join(name)).unwrap();
        runs.map(|run| read(run.unwrap())).collect()
    }

    /// Nothing is left on this machine, on the Swarm, or with the operator's abra.
    pub fn expect_nothing_left(&self, ended: &Ended) {
        assert_eq!(self.world.leftovers(), Vec::<String>::new(), "{ended}");
        assert_eq!(named(&stack(&ended.stderr)), Vec::<String>::new(), "{ended}");
        let servers = std::fs::read_dir(self.world.dir.path().join("abra/servers/default")).unwrap();
        assert_eq!(servers.count(), 0, "the operator's own servers were touched: {ended}");
    }

    /// A run that fails at these trials and no other, and its first message.
    pub fn fails(&self, arguments: &[&str], trials: &[&str]) -> (Ended, String) {
        let ended = self.run(arguments);
        assert_eq!(ended.code, ended.code_by_fault(), "{ended}");
        assert_eq!(ended.with_outcome("FAILED"), trials, "{ended}");
        assert_eq!(ended.outcome("tier::teardown"), Some("ok"), "{ended}");
        self.expect_nothing_left(&ended);
        let message = ended.message(trials[0]);
        (ended, message)
    }
}
