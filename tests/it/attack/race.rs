//! A race: while mounts are made, a container that shares a volume exchanges a directory for a link to the machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result, ensure};
use harness::recipe::stack::{Service, Volume};
use libtest_mimic::Trial;
use tempfile::TempDir;

use crate::Promise::Files;
use crate::support::{World, deployment, idle, shell, trial, volume};
use crate::{Attempt, By};

pub const ATTEMPTS: &[Attempt] =
    &[Attempt { name: "a_directory_exchanged_for_a_link_while_it_is_mounted", promise: Files, by: By::Test(race) }];

/// As many containers are started while the race is on.
const TRIES: usize = 16;

/// Exchanges `/a/b` and a link, which leads up and out wherever the machine's root is below.
const EXCHANGE: &str = "import ctypes, os, time\nexchange = ctypes.CDLL(None).renameat2\n\
    for place in ('/a/b', '/a/b/hostdir'): os.makedirs(place, exist_ok=True)\n\
    os.symlink('/..PARENT', '/a/l')\nprint('begun', flush=True)\nwhile True:\n    \
    exchange(-100, b'/a/b', -100, b'/a/l', 2)\n    end = time.perf_counter_ns() + 100000\n    \
    while time.perf_counter_ns() < end: pass\n";

fn race() -> Trial {
    trial("race::a_directory_exchanged_for_a_link_while_it_is_mounted", exchanged)
}

async fn exchanged() -> Result<()> {
    let host = TempDir::new()?;
    let steal = host.path().join("hostdir");
    fs::create_dir(&steal)?;
    fs::write(steal.join("hostsecret"), "of the host")?;
    fs::set_permissions(&steal, fs::Permissions::from_mode(0o700))?;
    let parent = host.path().to_str().context("a strange path")?;
    let program = EXCHANGE.replace("PARENT", parent);
    let command = ["/usr/bin/python3", "-c", &program].map(str::to_owned).to_vec();
    let racer = Service { command: Some(command), mounts: vec![volume("shared", "/a")], ..shell("") };
    let victim = |number: usize| {
        let mounts = vec![volume("shared", "/a"), volume(&format!("v{number}"), "/a/b/hostdir")];
        (format!("s{number}"), Service { mounts, ..idle() })
    };
    let victims: Vec<(String, Service)> = (0..TRIES).map(victim).collect();
    let stack = |services: &[(String, Service)]| {
        let services = services.iter().map(|(name, service)| (name.as_str(), service.clone()));
        let mut deployment = deployment(services.chain([("racer", racer.clone())]));
        for key in (0..TRIES).map(|number| format!("v{number}")).chain(["shared".to_owned()]) {
            deployment.stack.volumes.insert(key.clone(), Volume { name: format!("s_{key}"), ..Volume::default() });
        }
        deployment
    };
    let world = World::new().await?;
    world.engine.deploy(&stack(&[])).await?;
    world.until_logged("racer", "begun").await?;
    world.engine.deploy(&stack(&victims)).await?;
    for (name, _) in &victims {
        let tried = |task: &harness::engine::TaskState| task.ever_ready || !task.error.is_empty();
        world.until("a try", name, |service| service.tasks.iter().any(tried)).await?;
    }
    for number in 0..TRIES {
        let stolen = world.engine.read_volume(&format!("v{number}"), "hostsecret").await?;
        ensure!(stolen.is_none(), "OUT: volume {number} has a file of the host");
    }
    let left: Vec<_> = fs::read_dir(&steal)?.flatten().map(|entry| entry.file_name()).collect();
    ensure!(left == ["hostsecret"], "OUT: the host's directory has {left:?}");
    world.end().await
}
