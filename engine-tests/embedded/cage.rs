//! The cage for recipe code on this machine: what it sees, what it reaches, and that it ends.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::engine::embedded::cage::{Cage, Door, Ended, Given, Hatch, How, Limits};
use libtest_mimic::Trial;
use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::trial;

pub fn trials() -> Vec<Trial> {
    vec![
        trial("cage::a_program_gives_its_code_and_the_end_of_its_output", ends),
        trial("cage::nothing_of_the_host_is_seen_but_its_programs", sees_nothing),
        trial("cage::what_is_given_is_there_and_only_what_is_writable_is_written", given),
        trial("cage::the_app_is_reached_and_nothing_else", door),
        trial("cage::a_hatch_leads_to_this_process_and_from_nowhere_else", hatch),
        trial("cage::a_deadline_ends_everything_that_was_started", deadline),
        trial("cage::the_end_of_the_program_ends_what_it_left_running", daemon),
        trial("cage::more_than_the_limits_is_refused", limits),
        trial("cage::memory_of_all_processes_together_is_bounded", memory),
        trial("cage::processor_time_of_all_processes_together_is_bounded", processor),
    ]
}

/// A line in a cage of its own, in a directory that must be empty afterwards.
async fn run(line: &str, cage: Cage) -> Result<Ended> {
    let dir = TempDir::new()?;
    let argv = ["/bin/sh", "-c", line].map(str::to_owned).to_vec();
    let deadline = if cage.deadline.is_zero() { Duration::from_secs(20) } else { cage.deadline };
    let ended = Cage { argv, working_dir: "/tmp".into(), deadline, ..cage }.run(dir.path()).await?;
    ensure!(std::fs::read_dir(dir.path())?.next().is_none(), "the cage left something behind");
    Ok(ended)
}

async fn check(line: &str, expected: &str) -> Result<()> {
    let ended = run(line, Cage::default()).await?;
    ensure!(ended.output == expected, "{line}: {ended:?}");
    Ok(())
}

async fn ends() -> Result<()> {
    let ended = run("echo out; echo err >&2; exit 7", Cage::default()).await?;
    ensure!((&ended.how, ended.output.as_str()) == (&How::Exited(7), "out\nerr\n"), "{ended:?}");
    let ended = run("head -c 9000000 /dev/zero | tr '\\0' x; echo; echo last", Cage::default()).await?;
    ensure!(ended.output.len() == 64 * 1024 && ended.output.ends_with("x\nlast\n"), "{}", ended.output.len());
    let cage = Cage { env: vec![("A".into(), "b".into())], ..Cage::default() };
    let ended = run("unset PWD; env | sort", cage).await?;
    let lines: Vec<&str> = ended.output.lines().filter(|line| !line.starts_with("HOME=")).collect();
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    ensure!(lines == ["A=b", "HOSTNAME=cage", path], "{ended:?}");
    Ok(())
}

async fn sees_nothing() -> Result<()> {
    for path in ["/etc/shadow", "/etc/hostname.host", "/var/run/docker.sock", "/run/docker.sock", "/root/.ssh", "/boot"]
    {
        check(&format!("test -e {path} || echo none"), "none\n").await?;
    }
    check("ls -A /home /root /mnt /srv /run", "/home:\n\n/mnt:\n\n/root:\n\n/run:\n\n/srv:\n").await?;
    let secret = TempDir::new()?;
    std::fs::write(secret.path().join("secret"), "of the host")?;
    check(&format!("cat {}/secret 2>/dev/null || echo none", secret.path().display()), "none\n").await?;
    // Nor through another process: only those of the cage are there, and none is another user's.
    check("set -- /proc/[0-9]*; echo $#; ls /proc/1/root/etc/shadow 2>/dev/null | wc -l", "2\n0\n").await?;
    for line in ["touch /usr/x", "mount -t tmpfs x /mnt", "mknod /tmp/sda b 8 0", "echo x > /proc/sys/kernel/hostname"]
    {
        let ended = run(&format!("{line} 2>/dev/null"), Cage::default()).await?;
        ensure!(ended.how != How::Exited(0), "`{line}` went through: {ended:?}");
    }
    Ok(())
}

async fn given() -> Result<()> {
    let (read, write) = (TempDir::new()?, TempDir::new()?);
    std::fs::write(read.path().join("file"), "given")?;
    for dir in [&read, &write] {
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o777))?;
    }
    let give =
        |dir: &TempDir, target: &str, writable| Given { from: dir.path().into(), target: target.into(), writable };
    let cage =
        Cage { mounts: vec![give(&read, "/recipe", None), give(&write, "/out", Some(1 << 20))], ..Cage::default() };
    std::fs::write(write.path().join("there"), "before")?;
    let line = "cat /recipe/file /out/there > /out/copy; touch /recipe/x 2>/dev/null || echo refused; head -c 2000000 \
                /dev/zero > /out/large 2>/dev/null || stat -c %s /out/large";
    let ended = run(line, cage).await?;
    ensure!(ended.output == "refused\n1040384\n", "{ended:?}");
    // What it wrote is in memory, bounded, and can be read from there alone.
    let left = std::fs::File::from(rustix::fs::openat(&ended.left[0], "copy", OFlags::RDONLY, Mode::empty())?);
    ensure!(std::io::read_to_string(left)? == "givenbefore");
    ensure!(!write.path().join("copy").exists(), "it was written to the machine's own file system");
    Ok(())
}

/// A server on this machine's loopback, which answers everybody the same.
async fn server() -> Result<std::net::SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").await;
            });
        }
    });
    Ok(address)
}

async fn door() -> Result<()> {
    let (app, other) = (server().await?, server().await?);
    let door = Door { domain: "app.test".into(), port: 80, to: app, changes: Default::default() };
    let cage = || Cage { door: Some(door.clone()), ..Cage::default() };
    let ended = run("curl -sS -m 10 http://app.test/", cage()).await?;
    ensure!(ended.output == "hello\n", "{ended:?}");
    for address in [format!("127.0.0.1:{}", other.port()), format!("127.0.0.1:{}", app.port()), "192.0.2.1:80".into()] {
        let ended = run(&format!("curl -sS -m 15 http://{address}/"), cage()).await?;
        ensure!(ended.how == How::Exited(7) || ended.how == How::Exited(28), "{address}: {ended:?}");
    }
    // The door leads to one port, and without a door there is none.
    let ended = run(&format!("curl -sS -m 15 http://app.test:{}/", other.port()), cage()).await?;
    ensure!(ended.how == How::Exited(7), "{ended:?}");
    let ended = run("curl -sS -m 15 http://app.test/", Cage::default()).await?;
    ensure!(ended.how == How::Exited(6), "{ended:?}");
    Ok(())
}

async fn hatch() -> Result<()> {
    // One that nothing on this machine is likely to have.
    const PORT: u16 = 47_113;
    let (to, mut connections) = tokio::sync::mpsc::channel::<tokio::net::TcpStream>(1);
    let listening = tokio::spawn(async move {
        let mut stream = connections.recv().await?;
        // The listener is the pod's: in this process's own network nobody listens there.
        let listens =
            std::fs::read_to_string("/proc/self/net/tcp").unwrap_or_default().contains(&format!(":{PORT:04X} "));
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n").await;
        Some(listens)
    });
    let hatch = Hatch { name: "ask.test".into(), port: PORT, to };
    let cage = || Cage { hatch: Some(hatch.clone()), ..Cage::default() };
    let ended = run(&format!("curl -sS -m 10 http://ask.test:{PORT}/"), cage()).await?;
    ensure!(ended.output == "hello\n", "{ended:?}");
    ensure!(listening.await? == Some(false), "port {PORT} is open outside of the cage");
    let ended = run("curl -sS -m 10 http://ask.test:80/", cage()).await?;
    ensure!(ended.how == How::Exited(7), "{ended:?}");
    let ended = run(&format!("curl -sS -m 10 http://ask.test:{PORT}/"), Cage::default()).await?;
    ensure!(ended.how == How::Exited(6), "{ended:?}");
    Ok(())
}

async fn deadline() -> Result<()> {
    let start = Instant::now();
    let cage = Cage { deadline: Duration::from_millis(500), ..Cage::default() };
    let mark = format!("9{:09}", std::process::id());
    let ended = run(&format!("echo begun; (setsid sleep {mark} &); trap '' TERM; sleep {mark}"), cage).await?;
    let late = How::Late(Duration::from_millis(500));
    ensure!((&ended.how, ended.output.as_str()) == (&late, "begun\n"), "{ended:?}");
    ensure!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    ensure!(!is_running(&mark)?, "something goes on running");
    Ok(())
}

async fn daemon() -> Result<()> {
    let mark = format!("8{:09}", std::process::id());
    let ended = run(&format!("(setsid sleep {mark} &); exit 3"), Cage::default()).await?;
    ensure!(ended.how == How::Exited(3), "{ended:?}");
    ensure!(!is_running(&mark)?, "something goes on running");
    Ok(())
}

/// Whether a process with this argument is there.
fn is_running(mark: &str) -> Result<bool> {
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if line.split(|byte| *byte == 0).any(|word| word == mark.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn limits() -> Result<()> {
    let bomb = "i=0; while [ $i -lt 400 ]; do sleep 30 & i=$((i+1)); done 2>/dev/null; echo all";
    let ended = run(bomb, Cage::default()).await?;
    ensure!(!ended.output.contains("all\n"), "400 processes were started: {ended:?}");
    let ended = run("head -c 300000000 /dev/zero > /tmp/large; stat -c %s /tmp/large", Cage::default()).await?;
    ensure!(ended.output.ends_with("268435456\n"), "{ended:?}");
    let ended = run("ulimit -c 0; ulimit -c; ulimit -n", Cage::default()).await?;
    ensure!(ended.output == "0\n1024\n", "{ended:?}");
    Ok(())
}

/// A program that holds memory in this many processes, each with 40 MiB of its own.
fn holders(count: u32) -> String {
    format!("for i in $(seq {count}); do head -c 40000000 /dev/zero | tail -c 40000000 | sleep 20 & done; wait")
}

async fn memory() -> Result<()> {
    let limits = |mebibytes: u64| Limits { memory: mebibytes << 20, ..Limits::default() };
    let start = Instant::now();
    let ended = run(&holders(4), Cage { limits: limits(100), ..Cage::default() }).await?;
    ensure!(ended.how == How::Beyond("more than 100 MiB of memory in all".into()), "{ended:?}");
    ensure!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
    // No process of it is too large by itself, and with room for all of them nothing is killed.
    let cage = Cage { limits: limits(1000), deadline: Duration::from_secs(2), ..Cage::default() };
    let ended = run(&holders(4), cage).await?;
    ensure!(ended.how == How::Late(Duration::from_secs(2)), "{ended:?}");
    // What no process holds counts as well: files without a place, and shared memory that nobody is attached to.
    let file = "python3 -c 'import os,time; os.write(os.memfd_create(\"x\"), bytes(120_000_000)); time.sleep(20)'";
    let ended = run(file, Cage { limits: limits(100), ..Cage::default() }).await?;
    ensure!(ended.how == How::Beyond("more than 100 MiB of memory in all".into()), "{ended:?}");
    let ended = run("ipcmk -M 10000000 && ipcmk -M 60000000 || echo refused", Cage::default()).await?;
    ensure!(ended.output.ends_with("refused\n") && ended.output.contains("Shared memory id"), "{ended:?}");
    Ok(())
}

async fn processor() -> Result<()> {
    let limits = |millis: u64| Limits { processor: Duration::from_millis(millis), ..Limits::default() };
    // Many short processes, none of which is there for long.
    let busy = "while :; do (i=0; while [ $i -lt 9999 ]; do i=$((i+1)); done); done";
    let ended = run(busy, Cage { limits: limits(500), ..Cage::default() }).await?;
    ensure!(ended.how == How::Beyond("more than 500ms of processor time in all".into()), "{ended:?}");
    let ended = run("sleep 1; echo done", Cage { limits: limits(500), ..Cage::default() }).await?;
    ensure!(ended.how == How::Exited(0), "{ended:?}");
    Ok(())
}
