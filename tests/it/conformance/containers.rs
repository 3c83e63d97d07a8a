//! What a compose file may say about a container.

use anyhow::{Result, ensure};
use harness::engine::{TaskPhase, UpdateState};

use super::recipe::Recipe;
use super::world::World;

crate::cases! {
    "containers::an_environment_comes_through_whatever_it_holds" => environment,
    "containers::entrypoint_command_directory_user_and_hosts_are_as_written" => details,
    "containers::a_read_only_root_leaves_a_tmpfs_writable" => read_only,
    "containers::an_init_reaps_orphans_and_passes_signals_on" => init,
    "containers::a_stop_is_by_the_signal_and_in_the_time_that_the_service_names" => stop,
    "containers::each_sees_its_own_processes_alone" => processes,
}

async fn environment(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    environment:
      DOLLAR: "5$$ $${HOME} $$1"
      QUOTES: "it's \"so\" `here`"
      LINES: "one\ntwo\n"
      BACKSLASH: 'a\nb\\c'
      EQUALS: "a=b=c"
      BLANK: "  padded  "
      UNICODE: "žluťoučký 🐎"
      HASH: "a #b"
      NUMBER: 3
      EMPTY: ""
      TEMPLATE: "{ { no template } }"
    deploy: *quick
"#,
    );
    world.deployed(&recipe).await?;
    for (name, expected) in [
        ("DOLLAR", "5$ ${HOME} $1"),
        ("QUOTES", "it's \"so\" `here`"),
        ("LINES", "one\ntwo\n"),
        ("BACKSLASH", "a\\nb\\\\c"),
        ("EQUALS", "a=b=c"),
        ("BLANK", "  padded  "),
        ("UNICODE", "žluťoučký 🐎"),
        ("HASH", "a #b"),
        ("NUMBER", "3"),
        ("EMPTY", ""),
        ("TEMPLATE", "{ { no template } }"),
        ("STACK_NAME", &world.stack()),
        ("TYPE", "conformance:1.0.0+1.27.4"),
    ] {
        // By a command, and as the first process has it.
        let seen = world.sh("app", &format!("printenv {name}")).await?;
        ensure!(seen == format!("{expected}\n"), "{name}: {seen:?}");
        let wanted = format!("{name}={expected}");
        let own = world.engine.read_file("app", "/proc/1/environ").await?;
        ensure!(own.split(|byte| *byte == 0).any(|var| var == wanted.as_bytes()), "{name} of the first process");
    }
    ensure!(!world.sh("app", "echo $HOME; echo $PATH").await?.starts_with('\n'), "no home");
    Ok(())
}

async fn details(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    entrypoint: ["sh", "-c"]
    command: ["pwd; uname -n; id -u; id -g; echo \"$$0|$$1\"; exec sleep 1000", "zero", "one two"]
    working_dir: /made/here
    user: www-data
    hostname: box
    extra_hosts:
      - "friend:10.1.2.3"
    deploy: *quick
"#,
    );
    world.deployed(&recipe).await?;
    let log = world.until_log("app", |log| log.len() >= 5).await?;
    let log: Vec<&str> = log.iter().map(|line| line.text.as_str()).collect();
    ensure!(log == ["/made/here", "box", "33", "33", "zero|one two"], "{log:?}");
    let seen = world.sh("app", "pwd; cat /etc/hostname; id -un; getent hosts friend | tr -s ' '").await?;
    ensure!(seen == "/made/here\nbox\nwww-data\n10.1.2.3 friend\n", "{seen}");
    Ok(())
}

async fn read_only(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    command: ["sleep", "1000"]
    stop_grace_period: 100ms
    read_only: true
    volumes:
      - { type: tmpfs, target: /scratch, tmpfs: { size: 1048576 } }
      - data:/data
    deploy: *quick
volumes:
  data:
"#,
    );
    world.deployed(&recipe).await?;
    for path in ["/x", "/tmp/x", "/etc/x"] {
        let output = world.exec("app", &["touch", path]).await?;
        ensure!(String::from_utf8_lossy(&output.stderr).contains("Read-only"), "`{path}`: {output:?}");
    }
    world.sh("app", "touch /scratch/x /data/x").await?;
    let full = world.exec("app", &["dd", "if=/dev/zero", "of=/scratch/y", "bs=1M", "count=2"]).await?;
    ensure!(full.code != 0, "the size was not kept");
    let wrote = world.engine.write_file("app", "/etc/x", b"x").await;
    ensure!(wrote.is_err(), "the engine has written what the service may not");
    Ok(())
}

async fn init(world: &World) -> Result<()> {
    let recipe = |version: &str| {
        let recipe = Recipe::new(
            r#"
services:
  app:
    <<: *idle
    environment: { VERSION: "<V>" }
    init: true
    command: ["sh", "-c", "(sleep 0.05 &); exec sleep 1000"]
    stop_grace_period: 20s
    deploy: *quick
"#,
        );
        recipe.put("V", version)
    };
    world.deployed(&recipe("1")).await?;
    // The orphan is gone, and no zombie: only the program is left, and it is not the first process.
    world.until_sh("app", "test $(cat /proc/[0-9]*/comm | grep -cx sleep) = 1").await?;
    ensure!(world.sh("app", "cat /proc/1/comm").await? != "sleep\n");
    // `sleep` as the first process would be deaf to it, and killed after the grace.
    world.deploy(&recipe("2")).await?;
    let service = world.update("app", UpdateState::Completed).await?;
    let old = &service.tasks[1];
    ensure!((old.phase, old.exit_code) == (TaskPhase::Shutdown, Some(143)), "{old:?}");
    Ok(())
}

async fn stop(world: &World) -> Result<()> {
    let recipe = |version: &str| {
        let recipe = Recipe::new(
            r#"
services:
  polite:
    <<: *idle
    environment: { VERSION: "<V>" }
    command: ["sh", "-c", "trap 'echo bye; exit 5' USR1; touch /tmp/ready; sleep 1000 & wait"]
    stop_signal: SIGUSR1
    deploy: *quick
  stubborn:
    <<: *idle
    environment: { VERSION: "<V>" }
    command: ["sh", "-c", "trap '' TERM; touch /tmp/ready; while :; do sleep 1; done"]
    stop_grace_period: 300ms
    deploy: *quick
"#,
        );
        recipe.put("V", version)
    };
    world.deployed(&recipe("1")).await?;
    for name in ["polite", "stubborn"] {
        world.until_sh(name, "test -e /tmp/ready").await?;
    }
    world.deploy(&recipe("2")).await?;
    for (name, code) in [("polite", 5), ("stubborn", 137)] {
        let service = world.update(name, UpdateState::Completed).await?;
        let old = &service.tasks[1];
        ensure!((old.phase, old.exit_code) == (TaskPhase::Shutdown, Some(code)), "{name}: {old:?}");
        ensure!(old.error.is_empty() && !old.failed(), "{name}: {old:?}");
    }
    world.until_log("polite", |log| log.iter().any(|line| line.text == "bye")).await?;
    Ok(())
}

async fn processes(world: &World) -> Result<()> {
    let text = "services:\n  app:\n    <<: *idle\n    deploy: *quick\n  other:\n    <<: *idle\n    command: [sleep, '4321']\n    stop_grace_period: 100ms\n    deploy: *quick\n";
    world.deployed(&Recipe::new(text)).await?;
    let seen = world.sh("app", "cat /proc/1/comm; grep -l '^sleep.4321' /proc/[0-9]*/cmdline || echo alone").await?;
    ensure!(seen == "sh\nalone\n", "{seen}");
    ensure!(world.sh("other", "cat /proc/1/comm").await? == "sleep\n");
    Ok(())
}
