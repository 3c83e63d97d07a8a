//! Commands in a container: what goes in, what comes out, and what is an error.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use harness::engine::{CallError, Exec, TaskPhase};

use super::recipe::Recipe;
use super::world::{World, brief, command, error_of};

crate::cases! {
    "exec::output_and_exit_code_come_back" => codes,
    "exec::bytes_go_in_and_come_out_unchanged" => bytes,
    "exec::too_much_output_is_cut_and_said_to_be" => capped,
    "exec::a_command_runs_as_the_service_does_or_as_it_is_told" => as_whom,
    "exec::a_deadline_kills_the_command" => deadline,
    "exec::a_service_that_does_not_exist_is_an_error_with_those_that_do" => unknown,
    "exec::a_container_that_ends_is_an_interruption" => interrupted,
    "exec::a_service_without_a_container_is_an_interruption" => no_container,
}

/// Two services, so that an error can name them.
fn idle() -> Recipe {
    Recipe::new("services:\n  app:\n    <<: *idle\n    deploy: *quick\n  other:\n    <<: *idle\n    deploy: *quick\n")
}

async fn codes(world: &World) -> Result<()> {
    world.deployed(&idle()).await?;
    let task = world.service("app").await?.tasks[0].id.clone();
    for (line, code) in [("true", 0), ("exit 3", 3), ("exit 255", 255), ("kill -9 $$", 137), ("kill -15 $$", 143)] {
        let output = world.exec("app", &["sh", "-c", &format!("echo out; echo err >&2; {line}")]).await?;
        ensure!(output.code == code, "`{line}`: {output:?}");
        ensure!(output.stdout == b"out\n" && output.stderr == b"err\n", "`{line}`: {output:?}");
        ensure!(output.task == task && !output.truncated, "`{line}`: {output:?}");
    }
    for (program, code) in [("/etc/passwd", 126), ("/tmp", 126), ("no-such-program", 127), ("/no/such/program", 127)] {
        let output = world.exec("app", &[program]).await?;
        ensure!(output.code == code, "`{program}`: {output:?}");
        ensure!(!output.stdout.is_empty() || !output.stderr.is_empty(), "`{program}` says nothing: {output:?}");
        ensure!(output.stdout.is_empty(), "why a program cannot run is no output of it: {output:?}");
    }
    Ok(())
}

async fn bytes(world: &World) -> Result<()> {
    world.deployed(&idle()).await?;
    let all: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let output = world.engine.exec(&Exec { stdin: all.clone(), ..command("app", &["cat"]) }).await?;
    ensure!(output.code == 0 && output.stdout == all && output.stderr.is_empty(), "{} bytes", output.stdout.len());
    let output = world.engine.exec(&Exec { stdin: all, ..command("app", &["sh", "-c", "wc -c >&2"]) }).await?;
    ensure!(output.stderr == b"300000\n" && output.stdout.is_empty(), "{output:?}");
    // Without input there is an end of it at once, and nobody has to read what there is.
    let output = world.exec("app", &["cat"]).await?;
    ensure!(output.code == 0 && output.stdout.is_empty(), "{output:?}");
    let output = world.engine.exec(&Exec { stdin: vec![0; 300_000], ..command("app", &["true"]) }).await?;
    ensure!(output.code == 0, "{output:?}");
    let output = world.exec("app", &["printf", r"\377\376 \303\050\n"]).await?;
    ensure!(output.stdout == b"\xff\xfe \xc3\x28\n", "{output:?}");
    Ok(())
}

async fn capped(world: &World) -> Result<()> {
    world.deployed(&idle()).await?;
    let exact = world.exec("app", &["head", "-c", "1048576", "/dev/zero"]).await?;
    ensure!(exact.stdout.len() == 1 << 20 && !exact.truncated && exact.code == 0, "{}", exact.stdout.len());
    let more = world.exec("app", &["sh", "-c", "head -c 3000000 /dev/zero >&2; echo last; exit 5"]).await?;
    ensure!(more.stderr.len() == 1 << 20 && more.truncated, "{}", more.stderr.len());
    ensure!(more.stdout == b"last\n" && more.code == 5, "a command is let come to its end: {}", more.code);
    Ok(())
}

async fn as_whom(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    user: "33:33"
    working_dir: /var
    environment:
      GREETING: "good day"
    deploy: *quick
"#,
    );
    world.deployed(&recipe).await?;
    let seen = world.sh("app", "id -u; id -g; pwd; echo $GREETING; echo $DOMAIN").await?;
    ensure!(seen == format!("33\n33\n/var\ngood day\n{}\n", world.domain), "{seen}");
    for (user, expected) in [("0", "0\n0\n"), ("1234:5678", "1234\n5678\n"), ("www-data", "33\n33\n")] {
        let line = ["sh", "-c", "id -u; id -g"];
        let output = world.engine.exec(&Exec { user: Some(user.into()), ..command("app", &line) }).await?;
        ensure!(output.stdout == expected.as_bytes(), "{user}: {output:?}");
    }
    let nobody = Exec { user: Some("nobody-knows".into()), ..command("app", &["id"]) };
    let error = error_of(world.engine.exec(&nobody).await)?;
    ensure!(error.contains("unable to find user nobody-knows: no matching entries in passwd file"), "{error}");
    Ok(())
}

async fn deadline(world: &World) -> Result<()> {
    world.deployed(&idle()).await?;
    let line = "echo begun; echo to two >&2; trap '' TERM; sleep 4321; echo over";
    let exec = Exec { deadline: Duration::from_secs(3), ..command("app", &["sh", "-c", line]) };
    let Err(CallError::Failed(error)) = world.engine.exec(&exec).await else { bail!("it did not fail") };
    let error = format!("{error:#}");
    ensure!(error.contains("did not end within 3s and was killed"), "{error}");
    ensure!(error.contains("in service `app`") && error.contains("`begun\n` `to two\n`"), "{error}");
    // Nothing of it runs on, and the container has not suffered.
    world.until_sh("app", "! grep -q '^sleep.4321' /proc/[0-9]*/cmdline").await?;
    let service = world.service("app").await?;
    ensure!(service.tasks.len() == 1 && service.tasks[0].phase == TaskPhase::Running, "{}", brief(&service));
    Ok(())
}

async fn unknown(world: &World) -> Result<()> {
    world.deployed(&idle()).await?;
    let expected = "there is no service `web`, only `app`, `other`";
    let ran = world.engine.exec(&command("web", &["true"])).await;
    ensure!(matches!(&ran, Err(CallError::Failed(error)) if error.to_string() == expected), "{ran:?}");
    let read = world.engine.read_file("web", "/etc/passwd").await;
    ensure!(matches!(&read, Err(CallError::Failed(error)) if error.to_string() == expected), "{read:?}");
    let wrote = world.engine.write_file("web", "/tmp/x", b"").await;
    ensure!(matches!(&wrote, Err(CallError::Failed(error)) if error.to_string() == expected), "{wrote:?}");
    for error in [error_of(world.engine.logs("web", None).await)?, error_of(world.engine.connects("web", 80).await)?] {
        ensure!(error.ends_with(expected), "{error}");
    }
    Ok(())
}

async fn interrupted(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    command: ["sh", "-c", "trap 'exit 0' TERM; touch /tmp/ready; sleep 1000 & wait"]
    deploy: *quick
"#,
    );
    world.deployed(&recipe).await?;
    // Before its trap is set, the first process does not hear SIGTERM.
    world.until_sh("app", "test -e /tmp/ready").await?;
    let ran = world.engine.exec(&command("app", &["sh", "-c", "echo partial; kill -TERM 1; sleep 30"])).await;
    let Err(CallError::Interrupted(error)) = ran else { bail!("not interrupted: {ran:?}") };
    let error = format!("{error:#}");
    ensure!(error.contains("ended during the command; its output so far: `partial\n`"), "{error}");
    // It is worth a retry: another container comes.
    world.until("a new task", "app", |service| service.tasks.len() == 2).await?;
    world.converged("app").await?;
    ensure!(world.sh("app", "echo again").await? == "again\n");
    Ok(())
}

async fn no_container(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    command: ["sh", "-c", "exit 3"]
    deploy:
      restart_policy: { condition: none }
  empty:
    <<: *idle
    deploy: { replicas: 0 }
"#,
    );
    world.deploy(&recipe).await?;
    world
        .until("its end", "app", |service| service.tasks.first().is_some_and(|it| it.phase == TaskPhase::Failed))
        .await?;
    let ran = world.engine.exec(&command("app", &["true"])).await;
    let Err(CallError::Interrupted(error)) = ran else { bail!("not interrupted: {ran:?}") };
    let error = error.to_string();
    ensure!(error.starts_with("service `app` has no running container: its newest task `"), "{error}");
    ensure!(error.ends_with("` is failed: task: non-zero exit (3)"), "{error}");
    let read = world.engine.read_file("app", "/etc/passwd").await;
    ensure!(matches!(read, Err(CallError::Interrupted(_))), "{read:?}");
    let ran = world.engine.exec(&command("empty", &["true"])).await;
    let Err(CallError::Interrupted(error)) = ran else { bail!("not interrupted: {ran:?}") };
    ensure!(error.to_string() == "service `empty` has no running container: it has no task", "{error}");
    ensure!(!world.engine.connects("app", 80).await?, "nothing is there to connect to");
    Ok(())
}
