//! Names, addresses and ports of services, inside the pod and outside.

use std::time::Duration;

use anyhow::{Result, ensure};
use harness::engine::UpdateState;
use harness::recipe::stack::{Mode, Service};
use libtest_mimic::Trial;

use crate::support::{World, answered, deployment, get, health, idle, trial, web};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("network::services_find_each_other_by_every_name_on_shared_networks_only", names),
        trial("network::the_resolver_answers_what_the_host_table_says", resolver),
        trial("network::a_name_stays_while_no_task_runs", name_stays),
        trial("network::replicas_share_a_name_and_each_has_port_80", replicas),
        trial("network::nothing_outside_the_pod_is_reachable", no_outside),
        trial("network::a_published_port_closes_without_a_task_and_outlives_updates", publishing),
        trial("network::a_published_port_only_leads_to_healthy_tasks", publishing_healthy),
        trial("network::an_ordinary_user_in_a_container_binds_port_80", low_port),
    ]
}

fn on(service: Service, networks: &[(&str, &[&str])]) -> Service {
    let aliases = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let networks = networks.iter().map(|(network, names)| ((*network).to_owned(), aliases(names))).collect();
    Service { networks, ..service }
}

async fn names() -> Result<()> {
    let world = World::new().await?;
    let healthy = || {
        let check = health("curl -fsS -o /dev/null http://localhost/", Duration::from_secs(5), 3);
        Service { healthcheck: check, ..web(&[]) }
    };
    let services = [
        ("app", on(healthy(), &[("default", &["www"]), ("inner", &[])])),
        ("db", on(healthy(), &[("inner", &["database"])])),
        ("outsider", on(web(&[]), &[("default", &[])])),
    ];
    world.engine.deploy(&deployment(services)).await?;
    for name in ["app", "db", "outsider"] {
        world.converged(name).await?;
    }
    for (from, host) in [
        ("outsider", "app"),
        ("outsider", "s_app"),
        ("outsider", "tasks.app"),
        ("outsider", "www"),
        ("app", "db"),
        ("app", "database"),
        ("db", "s_app"),
        ("app", "app"),
    ] {
        let output = world.exec(from, &["curl", "-fsS", "-m", "5", &format!("http://{host}/")]).await?;
        ensure!(output.code == 0, "{from} -> {host}: {output:?}");
    }
    for (from, host) in [("outsider", "db"), ("outsider", "database"), ("db", "www"), ("db", "outsider")] {
        let output = world.exec(from, &["curl", "-fsS", "-m", "5", &format!("http://{host}/")]).await?;
        let expected = format!("curl: (6) Could not resolve host: {host}\n");
        ensure!((output.code, output.stderr.as_slice()) == (6, expected.as_bytes()), "{from} -> {host}: {output:?}");
    }
    // Different networks are different bridges: knowing the address does not help.
    let db = world.shell("db", "hostname -I 2>/dev/null || awk '/\\tdb$/{print $1}' /etc/hosts").await?;
    let output = world.exec("outsider", &["curl", "-sS", "-m", "1", &format!("http://{}/", db.trim())]).await?;
    ensure!(output.code != 0, "{output:?}");
    world.end().await
}

async fn resolver() -> Result<()> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", idle()), ("db", idle())])).await?;
    world.converged("app").await?;
    world.converged("db").await?;
    // Without the entries of the host table, only the resolver is left to ask.
    let ask = "cp /etc/hosts /tmp/h; echo '127.0.0.1 localhost' > /etc/hosts; \
        getent ahostsv4 db | awk '{print $1}' | sort -u; getent hosts nowhere.example || echo none; cat /tmp/h > /etc/hosts";
    let answered = world.shell("app", ask).await?;
    let table = world.shell("app", "awk '$2 == \"db\" {print $1}' /etc/hosts").await?;
    ensure!(answered == format!("{table}none\n"), "{answered} instead of {table}");
    world.end().await
}

async fn name_stays() -> Result<()> {
    let world = World::new().await?;
    let mut dead = idle();
    dead.image = "no-such-image".into();
    world.engine.deploy(&deployment([("app", idle()), ("dead", dead)])).await?;
    world.converged("app").await?;
    world.shell("app", "grep -qw dead /etc/hosts && getent hosts dead").await?;
    world.end().await
}

async fn replicas() -> Result<()> {
    let world = World::new().await?;
    let mut service = web(&[]);
    service.deploy.mode = Mode::Replicated(3);
    world.engine.deploy(&deployment([("app", service), ("other", idle())])).await?;
    world.converged("app").await?;
    world.converged("other").await?;
    let addresses = "awk '$2 == \"tasks.app\" {print $1}' /etc/hosts | sort -u | wc -l";
    ensure!(world.shell("other", addresses).await?.trim() == "3");
    let address = world.engine.publish("app", 80).await?;
    for _ in 0..12 {
        ensure!(answered(&address, "/").await?.0 == 200);
    }
    let served: std::collections::BTreeSet<String> = world
        .engine
        .logs("app", None)
        .await?
        .into_iter()
        .filter(|line| line.text.contains("GET /"))
        .map(|line| line.task)
        .collect();
    ensure!(served.len() == 3, "only {served:?} served");
    world.end().await
}

async fn no_outside() -> Result<()> {
    let world = World::new().await?;
    let listener = std::net::TcpListener::bind("0.0.0.0:0")?;
    let port = listener.local_addr()?.port();
    world.engine.deploy(&deployment([("app", idle())])).await?;
    world.converged("app").await?;
    let try_all = format!(
        "for host in 127.0.0.1 10.89.0.1 192.0.2.1; do \
         timeout 2 bash -c \"echo > /dev/tcp/$host/{port}\" 2>/dev/null && echo reached $host; done; true"
    );
    let reached = world.shell("app", &try_all).await?;
    ensure!(reached.is_empty(), "{reached}");
    world.end().await
}

async fn publishing() -> Result<()> {
    let world = World::new().await?;
    let address = world.engine.publish("app", 80).await?;
    ensure!(world.engine.publish("app", 80).await? == address);
    let closed = get(&address, "/").await;
    ensure!(closed.is_err(), "{closed:?}");
    let service = |number: &str| {
        let mut service = web(&[]);
        service.environment.insert("VERSION".into(), number.into());
        service
    };
    for number in ["1", "2", "3"] {
        world.engine.deploy(&deployment([("app", service(number))])).await?;
        world.converged("app").await?;
        ensure!(answered(&address, "/").await?.0 == 200);
    }
    ensure!(world.service("app").await?.update.unwrap().state == UpdateState::Completed);
    world.end().await
}

async fn publishing_healthy() -> Result<()> {
    let world = World::new().await?;
    let check = health("test -e /tmp/ready", Duration::from_secs(60), 3);
    world.engine.deploy(&deployment([("app", Service { healthcheck: check, ..web(&[]) })])).await?;
    let address = world.engine.publish("app", 80).await?;
    world.until("starting", "app", |service| service.tasks[0].phase == harness::engine::TaskPhase::Starting).await?;
    world.until_shell("app", "curl -fsS -o /dev/null http://localhost/").await?;
    let early = get(&address, "/").await;
    ensure!(early.is_err(), "{early:?}");
    world.shell("app", "touch /tmp/ready").await?;
    world.converged("app").await?;
    ensure!(get(&address, "/").await?.0 == 200);
    world.end().await
}

async fn low_port() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        // There are no other users in a pod with one id: containers::a_user_is_… shows what is said then.
        return Ok(());
    }
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", Service { user: Some("33".into()), ..web(&[]) })])).await?;
    world.converged("app").await?;
    let address = world.engine.publish("app", 80).await?;
    ensure!(answered(&address, "/").await?.0 == 200);
    world.end().await
}
