//! Containers: starting, running commands, what they see and what they do not.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::engine::{CallError, Exec, TaskPhase};
use harness::recipe::stack::{Mount, MountKind, RestartCondition, RestartPolicy, Service};
use libtest_mimic::Trial;

use crate::support::{World, answered, command, deployment, get, idle, shell, trial, volume, web};

pub fn trials() -> Vec<Trial> {
    vec![
        trial("containers::the_built_in_server_is_published_and_removed", served),
        trial("containers::a_command_answers_with_code_and_streams", command_answers),
        trial("containers::a_missing_program_is_127_and_a_directory_126", missing_program),
        trial("containers::a_killed_command_is_137_and_its_container_lives", killed_command),
        trial("containers::a_command_reads_its_input_and_sees_its_environment", input_and_environment),
        trial("containers::endless_output_is_cut_and_flagged", endless_output),
        trial("containers::a_deadline_kills_the_command", deadline),
        trial("containers::a_command_in_a_dying_container_is_interrupted", interrupted),
        trial("containers::a_service_without_a_container_is_interrupted_with_its_state", no_container),
        trial("containers::the_host_is_out_of_sight", host_out_of_sight),
        trial("containers::root_in_a_container_cannot_lift_its_walls", walls),
        trial("containers::files_are_written_and_read_as_the_container_sees_them", files),
        trial("containers::a_read_only_root_refuses_writes_and_a_tmpfs_takes_them", read_only),
        trial("containers::working_directory_entrypoint_and_hostname_are_the_services", details),
        trial("containers::a_user_is_who_the_service_says_or_the_task_is_rejected", user),
        trial("containers::a_bind_mount_is_rejected", bind_mount),
        trial("containers::an_unknown_image_is_rejected_and_not_an_engine_error", unknown_image),
        trial("containers::a_missing_program_of_a_service_is_a_failed_task", missing_service_program),
        trial("containers::a_crash_is_restarted_and_remembered", crash_loop),
        trial("containers::restart_policies_are_obeyed", restart_policies),
        trial("containers::a_stop_asks_first_and_kills_after_the_grace", stop),
        trial("containers::an_init_passes_signals_on_and_reaps_orphans", init),
        trial("containers::faults_of_the_built_in_server_come_to_order", ordered_faults),
    ]
}

async fn served() -> Result<()> {
    let world = World::new().await?;
    let address = world.engine.publish("app", 80).await?;
    world.engine.deploy(&deployment([("app", web(&[]))])).await?;
    world.converged("app").await?;
    let (status, body) = answered(&address, "/").await?;
    ensure!(status == 200 && body.contains("stands in for <code>nginx:1.25</code>"), "{status} {body}");
    ensure!(get(&address, "/missing").await?.0 == 404);
    world.until_logged("app", "10.89.0.1 \"GET /missing HTTP/1.1\" 404 14").await?;
    ensure!(world.engine.logs("app", Some(1)).await?.len() == 1);
    world.end().await?;
    ensure!(get(&address, "/").await.is_err());
    Ok(())
}

/// A world with the service `app`, which idles.
async fn idling() -> Result<World> {
    with(idle()).await
}

async fn with(service: Service) -> Result<World> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", service)])).await?;
    world.converged("app").await?;
    Ok(world)
}

async fn command_answers() -> Result<()> {
    let world = idling().await?;
    let task = world.service("app").await?.tasks[0].id.clone();
    let output = world.exec("app", &["/bin/sh", "-c", "echo out; echo err >&2; exit 7"]).await?;
    ensure!((output.code, output.truncated, &output.task) == (7, false, &task), "{output:?}");
    ensure!((output.stdout.as_slice(), output.stderr.as_slice()) == (b"out\n", b"err\n"), "{output:?}");
    world.end().await
}

async fn missing_program() -> Result<()> {
    let world = idling().await?;
    let missing = world.exec("app", &["no-such-program"]).await?;
    ensure!(missing.code == 127 && missing.stderr.starts_with(b"failed to run `no-such-program`: "), "{missing:?}");
    let directory = world.exec("app", &["/usr"]).await?;
    ensure!(directory.code == 126, "{directory:?}");
    world.end().await
}

async fn killed_command() -> Result<()> {
    let world = idling().await?;
    let output = world.exec("app", &["/bin/sh", "-c", "echo before; kill -9 $$"]).await?;
    ensure!((output.code, output.stdout.as_slice()) == (137, b"before\n"), "{output:?}");
    world.shell("app", "true").await?;
    world.end().await
}

async fn input_and_environment() -> Result<()> {
    let mut service = idle();
    service.environment.insert("GREETING".into(), "hello".into());
    let world = with(service).await?;
    let mut cat = command("app", &["cat"]);
    cat.stdin = b"x".repeat(300_000);
    ensure!(world.engine.exec(&cat).await?.stdout == cat.stdin);
    let seen = world.shell("app", "echo $GREETING $HOME $PATH; pwd; id -u; hostname; echo $HOSTNAME").await?;
    let id = world.service("app").await?.tasks[0].id.clone();
    let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let hostname = &id[..12];
    ensure!(seen == format!("hello /root {path}\n/\n0\n{hostname}\n{hostname}\n"), "{seen}");
    world.end().await
}

async fn endless_output() -> Result<()> {
    let world = idling().await?;
    let output = world.exec("app", &["/bin/sh", "-c", "head -c 30000000 /dev/zero; echo end >&2"]).await?;
    ensure!((output.code, output.truncated, output.stdout.len()) == (0, true, 1 << 20));
    ensure!(output.stderr == b"end\n");
    world.end().await
}

async fn deadline() -> Result<()> {
    let world = idling().await?;
    let argv = ["/bin/sh", "-c", "echo so far; sleep 77 & sleep 77"];
    let exec = Exec { deadline: Duration::from_millis(300), ..command("app", &argv) };
    let Err(CallError::Failed(error)) = world.engine.exec(&exec).await else { anyhow::bail!("no failure") };
    let text = format!("{error:#}");
    ensure!(text.ends_with("it did not end within 300ms and was killed; its output so far: `so far\n` ``"), "{text}");
    let gone = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; done 2>/dev/null | grep -c 'sleep 7[7]' || true";
    let poll = harness::poll::Poll::within(Duration::from_secs(5));
    let look = || async {
        let left = world.shell("app", gone).await?;
        Ok(if left.trim() == "0" { harness::poll::Look::Ready(()) } else { harness::poll::Look::NotYet(left) })
    };
    poll.until("the command's processes to end", look).await?;
    world.end().await
}

async fn interrupted() -> Result<()> {
    let world = with(shell("trap 'exit 0' TERM; touch /tmp/ready; while :; do sleep 0.05; done")).await?;
    // Until it has its trap, pid 1 does not hear SIGTERM.
    world.until_shell("app", "test -e /tmp/ready").await?;
    let result = world.engine.exec(&command("app", &["/bin/sh", "-c", "echo partial; kill -TERM 1; sleep 30"])).await;
    let Err(CallError::Interrupted(error)) = result else { anyhow::bail!("not interrupted: {result:?}") };
    let text = format!("{error:#}");
    ensure!(text.contains("ended during the command; its output so far: `partial\n`"), "{text}");
    world.end().await
}

async fn no_container() -> Result<()> {
    let world = World::new().await?;
    let mut service = shell("exit 3");
    service.deploy.restart = RestartPolicy { condition: RestartCondition::None, ..RestartPolicy::default() };
    world.engine.deploy(&deployment([("app", service)])).await?;
    world.until("failure", "app", |service| service.tasks[0].phase == TaskPhase::Failed).await?;
    let result = world.engine.exec(&command("app", &["true"])).await;
    let Err(CallError::Interrupted(error)) = result else { anyhow::bail!("not interrupted: {result:?}") };
    let text = error.to_string();
    ensure!(text.ends_with("is failed: task: non-zero exit (3)"), "{text}");
    let result = world.engine.exec(&command("other", &["true"])).await;
    let Err(CallError::Failed(error)) = result else { anyhow::bail!("not a failure: {result:?}") };
    ensure!(error.to_string() == "there is no service `other`, only `app`", "{error}");
    world.end().await
}

async fn host_out_of_sight() -> Result<()> {
    let world = idling().await?;
    for (line, expected) in [
        ("ls /home /root /mnt /srv", "/home:\n\n/mnt:\n\n/root:\n\n/srv:\n"),
        ("ls /etc | grep -E 'shadow|ssh|sudoers' || echo none", "none\n"),
        ("touch /usr/x 2>&1 | grep -o 'Read-only file system'", "Read-only file system\n"),
        ("cat /proc/1/comm; ls /proc | grep -E '^[0-9]+$' | wc -l | xargs test 10 -gt && echo few", "sh\nfew\n"),
        ("cat /proc/kcore | wc -c", "0\n"),
        ("echo b > /proc/sysrq-trigger 2>/dev/null || echo refused", "refused\n"),
        ("echo x > /proc/sys/kernel/hostname 2>/dev/null || echo refused", "refused\n"),
        ("ls /sys/class/net | sort | tr '\\n' ' '", "eth0 lo "),
    ] {
        let seen = world.shell("app", line).await?;
        ensure!(seen == expected, "{line}: {seen}");
    }
    world.end().await
}

async fn walls() -> Result<()> {
    let world = idling().await?;
    for (line, expected) in [
        ("mount -o remount,rw,bind /usr 2>/dev/null || echo refused", "refused\n"),
        ("umount /proc/sys 2>/dev/null || echo refused", "refused\n"),
        ("mknod /tmp/sda b 8 0 2>/dev/null || echo refused", "refused\n"),
        ("ip link set eth0 down 2>/dev/null || echo refused", "refused\n"),
        (
            "grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status | tr '\\t' ' '",
            "CapBnd: 00000000a80425fb\nNoNewPrivs: 1\n",
        ),
    ] {
        let seen = world.shell("app", line).await?;
        ensure!(seen == expected, "{line}: {seen}");
    }
    // What the program itself may do is what commands may do.
    let own = world.shell("app", "grep CapBnd /proc/1/status | tr '\\t' ' '").await?;
    ensure!(own == "CapBnd: 00000000a80425fb\n", "{own}");
    world.end().await
}

async fn files() -> Result<()> {
    let world = idling().await?;
    let engine = &world.engine;
    engine.write_file("app", "/srv/deep/er/file", b"\x00bytes").await?;
    ensure!(world.shell("app", "od -An -c /srv/deep/er/file").await?.contains("\\0   b   y"));
    ensure!(engine.read_file("app", "/srv/deep/er/file").await? == b"\x00bytes");
    let error = engine.read_file("app", "/srv/none").await.unwrap_err();
    let CallError::NotFound(error) = error else { anyhow::bail!("found, or failed") };
    let text = format!("{error:#}");
    ensure!(text.contains("failed to open `/srv/none`: No such file or directory"), "{text}");
    world.shell("app", "mkfifo /tmp/pipe; ln -s /proc/self/exe /tmp/exe").await?;
    for path in ["/tmp/pipe", "/dev/zero", "/tmp/exe"] {
        ensure!(engine.read_file("app", path).await.is_err(), "{path} was read");
    }
    ensure!(engine.write_file("app", "/usr/bin/sh", b"").await.is_err());
    world.end().await
}

async fn read_only() -> Result<()> {
    let mut service = idle();
    service.read_only = true;
    let kind = MountKind::Tmpfs { size: Some(1 << 20) };
    service.mounts = vec![Mount { kind, target: "/usr/share/scratch/here".into(), read_only: false, no_copy: false }];
    let world = with(service).await?;
    let seen =
        world.shell("app", "touch /tmp/x 2>&1 | grep -o 'Read-only'; echo ok > /usr/share/scratch/here/x").await?;
    ensure!(seen == "Read-only\n", "{seen}");
    let full = world.exec("app", &["dd", "if=/dev/zero", "of=/usr/share/scratch/here/y", "bs=1M", "count=2"]).await?;
    ensure!(full.code != 0, "the size was not kept");
    // The mount point had to be made in the host's read-only userland, whose other entries are still there.
    ensure!(world.shell("app", "ls /usr/share | wc -l").await?.trim().parse::<u32>()? > 5);
    ensure!(world.shell("app", "ls /usr/share/zoneinfo/ | head -1").await.is_ok());
    world.end().await
}

async fn details() -> Result<()> {
    let mut service = shell("");
    service.entrypoint = Some(vec!["/bin/sh".into(), "-c".into()]);
    service.command = Some(vec!["pwd; hostname; exec sleep 1000".into()]);
    service.working_dir = Some("/made/here".into());
    service.hostname = Some("box".into());
    service.extra_hosts = vec![("friend".into(), "10.1.2.3".into())];
    let world = with(service).await?;
    world.until("output", "app", |_| true).await?;
    let seen = world.shell("app", "pwd; grep friend /etc/hosts; cat /etc/hostname").await?;
    ensure!(seen == "/made/here\n10.1.2.3\tfriend\nbox\n", "{seen}");
    let poll = harness::poll::Poll::within(Duration::from_secs(5));
    let look = || async {
        let lines = world.engine.logs("app", None).await?;
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let ready = texts == ["/made/here", "box"];
        Ok(if ready { harness::poll::Look::Ready(()) } else { harness::poll::Look::NotYet(format!("{texts:?}")) })
    };
    poll.until("the log", look).await?;
    world.end().await
}

async fn user() -> Result<()> {
    let world = World::new().await?;
    let service = Service { mounts: vec![volume("data", "/data")], ..idle() };
    let www_data = Service { user: Some("www-data".into()), ..service.clone() };
    world.engine.deploy(&deployment([("root", service), ("app", www_data)])).await?;
    world.converged("root").await?;
    let many_ids = world.shell("root", "awk '$3 > 1 {print \"many\"}' /proc/self/uid_map").await?;
    if !many_ids.is_empty() {
        world.converged("app").await?;
        let seen = world.shell("app", "id -u; id -g; grep CapEff /proc/self/status | tr '\\t' ' '").await?;
        ensure!(seen == "33\n33\nCapEff: 0000000000000000\n", "{seen}");
        // Teardown has to remove this, too, although on the host it belongs to somebody else.
        world.shell("root", "install -d -o 33 -m 700 /data/own").await?;
        world.shell("app", "touch /data/own/file").await?;
        let mut root = command("app", &["id", "-u"]);
        root.user = Some("0".into());
        ensure!(world.engine.exec(&root).await?.stdout == b"0\n");
        root.user = Some("nobody-knows".into());
        let error = world.engine.exec(&root).await.unwrap_err().to_string();
        ensure!(error.ends_with("unable to find user nobody-knows: no matching entries in passwd file"), "{error}");
    } else {
        let service =
            world.until("rejection", "app", |service| service.tasks.iter().any(|task| !task.error.is_empty())).await?;
        let task = service.tasks.iter().find(|task| !task.error.is_empty()).unwrap();
        ensure!(task.phase == TaskPhase::Rejected, "{task:?}");
        ensure!(task.error.contains("failed to run as `33:33`: containers here only have the ids of"), "{task:?}");
    }
    world.end().await
}

/// Deploys a service whose first task comes to nothing, and gives that task's phase and error.
async fn first_failure(service: Service) -> Result<(TaskPhase, String)> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", service)])).await?;
    let ended = |task: &harness::engine::TaskState| !task.error.is_empty();
    let service = world.until("an error", "app", |service| service.tasks.iter().any(ended)).await?;
    let task = service.tasks.iter().rfind(|task| ended(task)).unwrap().clone();
    world.end().await?;
    Ok((task.phase, task.error))
}

async fn bind_mount() -> Result<()> {
    let mut service = idle();
    let kind = MountKind::Bind("/etc".into());
    service.mounts = vec![Mount { kind, target: "/host".into(), read_only: true, no_copy: false }];
    let (phase, error) = first_failure(service).await?;
    let expected = "invalid mount config for type \"bind\": `/etc` at `/host`: the embedded engine mounts nothing of \
        this machine into a container";
    ensure!((phase, error.as_str()) == (TaskPhase::Rejected, expected), "{phase} {error}");
    Ok(())
}

async fn unknown_image() -> Result<()> {
    let (phase, error) = first_failure(Service { image: "nope:1".into(), ..idle() }).await?;
    ensure!(phase == TaskPhase::Rejected && error.starts_with("No such image: nope:1"), "{phase} {error}");
    Ok(())
}

async fn missing_service_program() -> Result<()> {
    let (phase, error) = first_failure(Service { command: Some(vec!["serve".into()]), ..idle() }).await?;
    ensure!(phase == TaskPhase::Failed, "{phase} {error}");
    let start = "starting container failed: failed to run the program: failed to run `serve`: No such file";
    ensure!(error.starts_with(start), "{error}");
    Ok(())
}

async fn crash_loop() -> Result<()> {
    let world = World::new().await?;
    world.engine.deploy(&deployment([("app", shell("echo dying; exit 4"))])).await?;
    let service = world.until("three failures", "app", |service| service.failures().count() >= 3).await?;
    for task in service.failures() {
        ensure!((task.exit_code, task.error.as_str()) == (Some(4), "task: non-zero exit (4)"), "{task:?}");
        ensure!(!task.desired_running, "{task:?}");
    }
    ensure!(world.engine.logs("app", None).await?.len() >= 3);
    world.end().await
}

async fn restart_policies() -> Result<()> {
    let world = World::new().await?;
    let policy = |line: &str, condition, max_attempts| {
        let mut service = shell(line);
        service.deploy.restart = RestartPolicy { condition, max_attempts, ..service.deploy.restart };
        service
    };
    let services = [
        ("job", policy("exit 0", RestartCondition::OnFailure, None)),
        ("limited", policy("exit 1", RestartCondition::Any, Some(2))),
        ("never", policy("exit 1", RestartCondition::None, None)),
    ];
    world.engine.deploy(&deployment(services)).await?;
    world.until("three tasks", "limited", |service| service.failures().count() == 3).await?;
    world.until("completion", "job", |service| service.tasks[0].phase == TaskPhase::Complete).await?;
    // Another restart would have come after 50 ms.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for (name, tasks) in [("job", 1), ("limited", 3), ("never", 1)] {
        let service = world.service(name).await?;
        ensure!(service.tasks.len() == tasks, "{service:#?}");
    }
    world.end().await
}

async fn stop() -> Result<()> {
    let world = World::new().await?;
    let polite = shell("trap 'echo bye; exit 0' USR1; echo ready; while :; do sleep 0.02; done");
    let stubborn = shell("trap '' TERM; echo ready; while :; do sleep 0.02; done");
    let services = |image: &str| {
        let grace = Some(Duration::from_millis(200));
        let environment = [("V".to_owned(), image.to_owned())].into();
        let stop_signal = Some("SIGUSR1".into());
        let polite = Service { stop_signal, environment, ..polite.clone() };
        let environment = [("V".to_owned(), image.to_owned())].into();
        let stubborn = Service { stop_grace_period: grace, environment, ..stubborn.clone() };
        deployment([("polite", polite), ("stubborn", stubborn)])
    };
    world.engine.deploy(&services("1")).await?;
    for name in ["polite", "stubborn"] {
        world.converged(name).await?;
        world.until_logged(name, "ready").await?;
    }
    world.engine.deploy(&services("2")).await?;
    for (name, code) in [("polite", 0), ("stubborn", 137)] {
        world.update(name, harness::engine::UpdateState::Completed).await?;
        let service = world.service(name).await?;
        let old = service.tasks.last().unwrap();
        ensure!((old.phase, old.exit_code) == (TaskPhase::Shutdown, Some(code)), "{name}: {old:?}");
    }
    ensure!(world.engine.logs("polite", None).await?.iter().any(|line| line.text == "bye"));
    world.end().await
}

async fn init() -> Result<()> {
    let orphan = "(sleep 0.05 & ) ; exec sleep 1000";
    let service = Service { init: true, ..shell(orphan) };
    let world = with(service.clone()).await?;
    let poll = harness::poll::Poll::within(Duration::from_secs(5));
    let look = || async {
        let zombies = world.shell("app", "cat /proc/[0-9]*/stat | grep -c ') Z' || true").await?;
        let sleepers = world.shell("app", "cat /proc/[0-9]*/comm | grep -c sleep || true").await?;
        let ready = (zombies.trim(), sleepers.trim()) == ("0", "1");
        let seen = format!("{zombies} zombies, {sleepers} sleepers");
        Ok(if ready { harness::poll::Look::Ready(()) } else { harness::poll::Look::NotYet(seen) })
    };
    poll.until("the orphan to be reaped", look).await?;
    // `sleep` as pid 1 would not hear SIGTERM.
    let before = Instant::now();
    let environment = [("V".to_owned(), "2".to_owned())].into();
    world.engine.deploy(&deployment([("app", Service { environment, ..service })])).await?;
    world.update("app", harness::engine::UpdateState::Completed).await?;
    ensure!(before.elapsed() < Duration::from_secs(5), "the signal was not passed on");
    ensure!(world.service("app").await?.tasks[1].exit_code == Some(143));
    world.end().await
}

async fn ordered_faults() -> Result<()> {
    let world = World::new().await?;
    let services =
        [("bad", web(&["--status", "500"])), ("crash", web(&["--crash-after", "100ms", "--print", "s3cret"]))];
    world.engine.deploy(&deployment(services)).await?;
    world.converged("bad").await?;
    let address = world.engine.publish("bad", 80).await?;
    ensure!(answered(&address, "/").await?.0 == 500);
    let service = world.until("a crash", "crash", |service| service.failures().count() > 0).await?;
    ensure!(service.failures().next().unwrap().exit_code == Some(1));
    ensure!(world.engine.logs("crash", None).await?[0].text == "s3cret");
    world.end().await
}
