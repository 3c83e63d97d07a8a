//! Recipes and apps that ask for more than there is, or hand on more than they should: each is told so within its bounds,
//! and it is never this machine that is to blame.

use std::time::{Duration, Instant};

use harness::process::{Run, command};
use rustix::process::{Signal, kill_process};

use crate::runner::{Ended, World, checkout, finish, tell};
use crate::running::wait;

/// A compose file of a page on a volume, with more lines for its only service.
fn compose(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("    {line}\n")).collect();
    format!(
        "version: \"3.8\"\nservices:\n  app:\n    image: nginx:1.0\n    volumes: [\"content:/usr/share/nginx/html\"]\n    \
         networks: [proxy]\n    deploy:\n      labels:\n        - \"traefik.enable=true\"\n        - \
         \"traefik.http.services.${{STACK_NAME}}.loadbalancer.server.port=80\"\n        - \
         \"traefik.http.routers.${{STACK_NAME}}.rule=Host(`${{DOMAIN}}`)\"\n{lines}networks: {{proxy: {{external: true}}}}\n\
         volumes: {{content: {{}}}}\n"
    )
}

/// A checkout with the recipe `greedy`, of these files.
fn world(files: &[(&str, &str)]) -> (tempfile::TempDir, World) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    std::fs::copy(checkout().join("tests/data/hostile/harness.toml"), dir.path().join("harness.toml")).unwrap();
    let world = World::new(dir.path().to_owned());
    (dir, world)
}

const HEAD: &str = "recipes/greedy/head/compose.yml";

/// A run of one compose file to its end.
fn run(compose: &str, arguments: &[&str]) -> Ended {
    let (_dir, world) = world(&[(HEAD, compose)]);
    let ended = world.run(&[&["--recipe", "greedy"], arguments].concat());
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    ended
}

/// What `--plan` took at the most: memory in KiB, and processor time.
fn planned(files: &[(&str, &str)]) -> (String, u64, Duration) {
    let (dir, world) = world(files);
    let run = world.command(&["--recipe", "greedy", "--plan"]);
    let said = dir.path().join("said");
    let mut plan = command(&run.program);
    plan.args(&run.args).env_clear().envs(run.env.iter().cloned());
    plan.stdout(std::process::Stdio::null()).stderr(std::fs::File::create(&said).unwrap());
    let mut child = plan.spawn().unwrap();
    let (mut memory, mut ticks, start) = (0, 0, Instant::now());
    // Both only ever grow, so that the last look before the end counts.
    while child.try_wait().unwrap().is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not end");
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id())).unwrap_or_default();
        let (status, stat) = (read("status"), read("stat"));
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        memory = peak.unwrap_or(memory);
        let fields: Vec<u64> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split(' ').filter_map(|it| it.parse().ok()).collect();
        // `utime` and `stime`; the state before them is a letter.
        ticks = fields.get(10).zip(fields.get(11)).map_or(ticks, |(user, system)| user + system);
        std::thread::yield_now();
    }
    let ticks_a_second = rustix::param::clock_ticks_per_second();
    (std::fs::read_to_string(said).unwrap(), memory, Duration::from_millis(ticks * 1000 / ticks_a_second))
}

#[test]
fn a_plan_of_any_small_file_takes_little_memory_and_time() {
    let doubling = |prefix: &str| -> String {
        let more = (1..25).map(|line| format!("{prefix}A{line}=$A{0}$A{0}\n", line - 1));
        [format!("{prefix}A0={}\n", "x".repeat(64))].into_iter().chain(more).collect()
    };
    let (sample, script) = (doubling(""), doubling("export "));
    let many_uses = format!("x-many:\n{}{}", "- \"$BIG\"\n".repeat(20_000), compose(""));
    let (big, many) = (format!("BIG={}\n", "y".repeat(100_000)), "A=1\n".repeat(60_000));
    let references = format!("A={}\n", "$B".repeat(120_000));
    let anchors = format!("x-a: &a {}\nx-many:\n{}{}", "z".repeat(500_000), "- *a\n".repeat(20_000), compose(""));
    let keys: String = (0..45_000).map(|number| format!("  k{number}: v\n")).collect();
    let names: String = (0..12_000).map(|number| format!("  n{number}: {{name: x{number}}}\n")).collect();
    let (keys, names) = (
        format!("x-many:\n{keys}{}", compose("")),
        compose("").replace("volumes: {content: {}}", &format!("volumes:\n  content:\n{names}")),
    );
    let good = compose("");
    let (sample_of, script_of) = ("recipes/greedy/head/.env.sample", "recipes/greedy/head/abra.sh");
    for (name, files, says) in [
        ("doubling lines of .env.sample", vec![(HEAD, &good), (sample_of, &sample)], "a value of more than 128 KiB"),
        ("doubling exports of abra.sh", vec![(HEAD, &good), (script_of, &script)], "a value of more than 128 KiB"),
        (
            "a large variable used often",
            vec![(HEAD, &many_uses), (sample_of, &big)],
            "put more than 8 MiB into the compose files",
        ),
        ("the same line many times", vec![(HEAD, &good), (sample_of, &many)], ""),
        ("many references", vec![(HEAD, &good), (sample_of, &references)], ""),
        ("many aliases of a long text", vec![(HEAD, &anchors)], "it has more than 4 MiB of text, aliases replaced"),
        ("many keys", vec![(HEAD, &keys)], ""),
        ("many foreign volumes", vec![(HEAD, &names)], "declares what is not allowed"),
    ] {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let (said, memory, time) = planned(&files);
        tell(&format!("plan of {name}: {} MiB, {time:?}", memory >> 10));
        assert!(said.contains(says) && (says.is_empty() || said.starts_with("error: ")), "{name}: {said}");
        assert!(memory < 256 << 10, "{name}: {memory} KiB: {said}");
        // Without optimisation everything takes several times as long.
        assert!(time < Duration::from_secs(if cfg!(debug_assertions) { 8 } else { 2 }), "{name}: {time:?}");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_is_told_and_not_waited_for() {
    let (dir, world) = world(&[(HEAD, &compose(""))]);
    let pipe = dir.path().join("overlays/greedy/recipe.toml");
    std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
    assert_eq!(finish(&Run::new("mkfifo", [pipe.to_str().unwrap()])).code, 0);
    let ended = world.run(&["--recipe", "greedy", "--plan"]);
    let said = format!("failed to read `{}`: it is no regular file, and nothing else is read\n", pipe.display());
    assert!(ended.code != 0 && ended.stderr.contains(&said), "{ended}");
}

/// A program of that name is a mistake of the recipe, whatever the name says.
#[test]
fn words_of_a_full_disk_in_a_recipe_are_no_full_disk() {
    let ended = run(&compose("command: [\"/no space left on device\"]"), &["--tiers", "install"]);
    assert_eq!(ended.code, 101, "{ended}");
    let message = ended.message("tier::install");
    assert!(message.contains("/no space left on device") && !message.contains("infrastructure trouble"), "{message}");
}

/// The app overwrites its canaries, whatever they are called: that is quoted, and not sent as a whole.
#[test]
fn a_canary_of_megabytes_is_a_failure_of_the_recipe() {
    let script = "static-web & cd /usr/share/nginx/html; head -c 30000000 /dev/zero | tr '\\\\0' x > /tmp/x; while :; do for f in $$(find . \
                  -type f -size -2000 ! -name index.html); do cp /tmp/x $$f; done; done";
    let lines = format!("command: [\"/bin/sh\", \"-c\", \"{script}\"]");
    let (_dir, world) = world(&[(HEAD, &compose(&lines)), ("recipes/greedy/1.0.0+1.0/compose.yml", &compose(&lines))]);
    let ended = world.run(&["--recipe", "greedy", "--tiers", "install,upgrade"]);
    assert_eq!(ended.code, 101, "{ended}");
    assert!(ended.stdout.contains("xxx… (30000000 bytes in all, SHA-256 "), "{ended}");
    assert!(
        !ended.stdout.contains("does not answer") && !ended.stdout.contains("trouble, not the recipe's"),
        "{ended}"
    );
    assert!(ended.stdout.len() < 100_000, "the file is not printed as a whole: {} bytes", ended.stdout.len());
}

/// A file that says it has a terabyte and has nothing.
#[test]
fn a_sparse_file_in_a_backup_is_the_recipes_and_fills_no_disk() {
    let lines = "command: [\"/bin/sh\", \"-c\", \"truncate -s 1T /usr/share/nginx/html/sparse; exec static-web\"]";
    let backed_up = compose(lines).replace("      labels:\n", "      labels:\n        - \"backupbot.backup=true\"\n");
    let ended = run(&backed_up, &["--tiers", "install,backup"]);
    assert_eq!(ended.code, 101, "{ended}");
    let message = ended.message("tier::backup");
    assert!(message.contains("the volume has more than 8 GiB of files (seen up to `sparse`)"), "{message}");
    assert!(!message.contains("infrastructure trouble"), "{message}");
}

/// What an app prints reaches the log of a CI, whose runner would take it for commands.
#[test]
fn what_an_app_prints_is_no_command_to_a_ci() {
    let hostile =
        ["##[add-mask]FAILED", "   ::stop-commands::x", "::add-matcher::x", "##vso[task.complete]x", "##teamcity[x]"];
    let print: String = hostile.iter().map(|line| format!("echo '{line}'; ")).collect();
    let lines = format!("command: [\"/bin/sh\", \"-c\", \"{print} exit 1\"]");
    let (_dir, world) = world(&[(HEAD, &compose(&lines))]);
    let failed = |ci: &str| {
        let run = world.command(&["--recipe", "greedy", "--tiers", "install"]).env("CI", ci);
        let ended = finish(&run);
        assert_eq!(ended.code, 101, "{ended}");
        let commands = |line: &&str| {
            line.trim_start().starts_with("::") || ["##[", "##vso[", "##teamcity["].iter().any(|it| line.contains(it))
        };
        let found = [&ended.stdout, &ended.stderr].iter().flat_map(|text| text.lines()).filter(commands).count();
        assert!(ended.stdout.contains("[add-mask]FAILED") && ended.stdout.contains("::stop-commands::x"), "{ended}");
        found
    };
    assert_eq!(failed("true"), 0);
    assert!(failed("") > 0, "elsewhere it is shown as it is");
}

/// A core file of the keeper would hold the secrets, and what was open in the shell is no business of an app.
#[test]
fn the_keeper_leaves_no_core_file_and_holds_nothing_that_it_was_started_with() {
    let (dir, world) = world(&[(HEAD, &compose(""))]);
    let (held, place) = (dir.path().join("held"), dir.path().join("cwd"));
    std::fs::write(&held, "of the shell").unwrap();
    std::fs::create_dir(&place).unwrap();
    let run = world.command(&["--recipe", "greedy", "--tiers", "install", "--keep"]);
    let script = "ulimit -c unlimited; exec 9<\"$1\"; cd \"$2\"; shift 2; exec \"$@\"";
    let mut shell = command("sh");
    shell.args(["-c", script, "sh"]).args([&held, &place]).arg(&run.program).args(&run.args);
    shell
        .env_clear()
        .envs(run.env.iter().cloned())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    assert!(shell.status().unwrap().success());
    let run_dir = std::fs::read_dir(world.state().join("runs")).unwrap().next().unwrap().unwrap().path();
    let keeper = crate::running::keeper(&run_dir);
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", keeper.as_raw_nonzero())).unwrap();
    let limits = read("limits");
    let limit = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().split_whitespace().nth(4);
    assert_eq!((limit, read("coredump_filter").trim()), (Some("0"), "00000000"), "{limits}");
    let fds = std::fs::read_dir(format!("/proc/{}/fd", keeper.as_raw_nonzero())).unwrap().flatten();
    let open: Vec<_> = fds.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect();
    assert!(!open.contains(&held), "{open:?}");
    kill_process(keeper, Signal::ABORT).unwrap();
    wait("the keeper to be gone", || world.processes().iter().all(|process| !process.contains("__keeper")));
    assert_eq!(std::fs::read_dir(&place).unwrap().count(), 0, "a core file");
    let harness = Run::new(env!("CARGO_BIN_EXE_harness-command"), ["sweep"]);
    let swept = finish(&harness.env("HARNESS_STATE", world.state()).deadline(Duration::from_secs(100)));
    assert_eq!(swept.code, 0, "{swept}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{swept}");
}

/// Stands before git: it writes down what it has got, and goes on as git.
const LOOKING_GIT: &str =
    "#!/bin/sh\n{ cat /proc/keys; ls -l /proc/$$/fd; } >>\"$0.seen\" 2>&1\nPATH='REAL' exec git \"$@\"\n";

#[test]
fn what_the_client_starts_gets_neither_descriptors_nor_keys_of_whoever_started_it() {
    use std::os::unix::fs::PermissionsExt;
    let (dir, world) = world(&[(HEAD, &compose(""))]);
    let (held, bin) = (dir.path().join("held-by-the-shell"), dir.path().join("bin"));
    std::fs::write(&held, "").unwrap();
    std::fs::create_dir(&bin).unwrap();
    let path = std::env::var("PATH").unwrap();
    std::fs::write(bin.join("git"), LOOKING_GIT.replace("REAL", &path)).unwrap();
    std::fs::set_permissions(bin.join("git"), PermissionsExt::from_mode(0o755)).unwrap();
    // Of this thread alone, and of what it starts.
    let key = keyutils::Keyring::join_anonymous_session().and_then(|mut ring| {
        let mut key = ring.add_key::<keyutils::keytypes::User, _, _>("key-of-the-shell", b"secret".as_slice())?;
        key.set_permissions(keyutils::Permission::POSSESSOR_ALL)
    });
    let run = world.command(&["--recipe", "greedy", "--plan"]);
    let started = |program: &[&str]| {
        let mut shell = command("sh");
        shell.args(["-c", "exec 9<\"$1\"; shift; exec \"$@\"", "sh"]).arg(&held).args(program);
        shell.env_clear().envs(run.env.iter().cloned()).env("PATH", format!("{}:{path}", bin.display()));
        assert!(shell.stdout(std::process::Stdio::null()).status().unwrap().success());
        let seen = std::fs::read_to_string(bin.join("git.seen")).expect("git was not started");
        std::fs::remove_file(bin.join("git.seen")).unwrap();
        (seen.contains("held-by-the-shell"), seen.contains("key-of-the-shell"))
    };
    // By itself it has both, or nothing would be shown; a kernel without keys has none to hide.
    assert_eq!(started(&["git", "--version"]), (true, key.is_ok()));
    let words: Vec<&str> = [&run.program].into_iter().chain(&run.args).map(|word| word.to_str().unwrap()).collect();
    assert_eq!(started(&words), (false, false));
}

#[test]
fn state_and_mirrors_are_private_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, world) = world(&[(HEAD, &compose(""))]);
    let run = world.command(&["--recipe", "greedy", "--plan"]);
    let mut shell = command("sh");
    shell.args(["-c", "umask 000; exec \"$@\"", "sh"]).arg(&run.program).args(&run.args);
    shell.env_clear().envs(run.env.iter().cloned()).stdout(std::process::Stdio::null());
    assert!(shell.status().unwrap().success());
    let mirror = world.state().join("mirrors/greedy");
    for dir in [world.state(), world.state().join("mirrors"), mirror.clone()] {
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o7777, 0o700, "{}", dir.display());
    }
    assert!(std::fs::read_dir(mirror).unwrap().count() > 0);
}

/// Somebody else has made the state directory first.
#[test]
fn a_state_directory_of_somebody_else_is_refused_before_anything_is_made_in_it() {
    if !rustix::process::getuid().is_root() {
        return;
    }
    let (_dir, world) = world(&[(HEAD, &compose(""))]);
    std::fs::create_dir(world.state()).unwrap();
    std::os::unix::fs::chown(world.state(), Some(65534), None).unwrap();
    let ended = world.run(&["--recipe", "greedy", "--plan"]);
    assert_eq!(ended.code, 2, "{ended}");
    assert!(
        ended.stderr.contains("belongs to user 65534: remove it, or set HARNESS_STATE to a directory of your own"),
        "{ended}"
    );
    assert_eq!(std::fs::read_dir(world.state()).unwrap().count(), 0, "something was made in it");
}

/// A working copy whose configuration would have git run a program.
#[test]
fn a_working_copy_that_names_a_program_in_its_configuration_runs_nothing() {
    let (dir, world) = world(&[]);
    let copy = dir.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::write(copy.join("compose.yml"), compose("")).unwrap();
    let script = "git init -q . && git add -A && git -c user.name=a -c user.email=a@b.org commit -qm one && git clone -q . ../other && \
                  git config core.repositoryformatversion 1 && git config extensions.partialClone origin && git config \
                  remote.origin.url \"$PWD/../other\" && git config remote.origin.promisor true && git config \
                  remote.origin.uploadpack \"touch $PWD/../PWNED; git-upload-pack\" && head=$(git rev-parse HEAD) && rm -f \
                  .git/objects/${head%\"${head#??}\"}/${head#??}";
    assert_eq!(finish(&Run::new("sh", ["-ec", script]).cwd(&copy)).code, 0);
    let ended = world.run(&["--recipe", "greedy", "--plan", "--recipe-dir", copy.to_str().unwrap()]);
    assert!(!dir.path().join("PWNED").exists(), "{ended}");
    assert_ne!(ended.code, 0, "{ended}");
    assert!(ended.stderr.contains("is a partial clone (`"), "{ended}");
}
