//! Compose files that reach for what is not theirs: each is refused with this line, and nothing is created.

use crate::runner::{Ended, World, checkout};

/// What a recipe of `tests/data/hostile` is told.
fn refused(recipe: &str) -> String {
    refused_on("embedded", recipe)
}

fn refused_on(engine: &'static str, recipe: &str) -> String {
    let world = World::new(checkout().join("tests/data/hostile")).on(engine);
    let ended = world.run(&["--recipe", recipe]);
    assert_eq!((ended.code, ended.with_outcome("FAILED")), (101, vec!["tier::install"]), "{ended}");
    assert_eq!(world.leftovers(), Vec::<String>::new(), "{ended}");
    assert_eq!(world.processes(), Vec::<String>::new(), "{ended}");
    steady(&ended)
}

/// The line without what differs from run to run: the commit, and the six digits of the domain.
fn steady(ended: &Ended) -> String {
    let mut line = ended.refusal().to_owned();
    if let Some(rest) =
        line.strip_prefix("error: the head ").or_else(|| line.strip_prefix("error: failed to read the head "))
        && let Some(at) = rest.find([' ', ':'])
    {
        line = line.replace(&rest[..at], "HEAD");
    }
    while let Some(at) = line.find(".harness.test").or_else(|| line.find("_harness_test")) {
        line.replace_range(at - 6..at + ".harness.test".len(), "RUN");
    }
    line
}

const ALLOW: &str = "under `[policy]` in this recipe's `recipe.toml`, or in `harness.toml`, would allow it";

/// The recipe's only refusal.
fn check(recipe: &str, place: &str, why: &str, entry: &str) {
    let expected = format!(
        "error: the head HEAD declares what is not allowed: `compose.yml` line {place}: {why}; `{entry}` {ALLOW}"
    );
    assert_eq!(refused(recipe), expected);
}

/// A file that cannot be read as what it must be, whatever the policy.
fn never(recipe: &str, expected: &str) {
    assert_eq!(refused(recipe), format!("error: failed to read the head HEAD: {expected}"));
}

#[test]
fn files_of_the_host() {
    let why = "a bind mount reads the host's files";
    check("bind-mount", "8: `services.app.volumes[0].source` is `/etc/shadow`", why, "binds = [\"/etc/shadow\"]");
    check(
        "docker-socket",
        "9: `services.app.volumes[0].source` is `/var/run/docker.sock`",
        why,
        "binds = [\"/var/run/docker.sock\"]",
    );
    let option = "an option of a driver can mount the host's files";
    assert_eq!(
        refused("driver-opts"),
        format!(
            "error: the head HEAD declares what is not allowed: `compose.yml` line 13: `volumes.data.driver_opts.type` is \
             `none`: {option}; `driver_opts = [\"type=none\"]` {ALLOW}; `compose.yml` line 14: \
             `volumes.data.driver_opts.device` is `/`: {option}; `driver_opts = [\"device=/\"]` {ALLOW}; `compose.yml` \
             line 15: `volumes.data.driver_opts.o` is `bind`: {option}; `driver_opts = [\"o=bind\"]` {ALLOW}"
        )
    );
    check(
        "volume-driver",
        "12: `volumes.data.driver` is `sshfs`",
        "the driver reaches beyond the app",
        "drivers = [\"sshfs\"]",
    );
}

#[test]
fn files_outside_of_the_recipe() {
    never(
        "config-absolute",
        "`compose.yml` line 11: `configs.page.file`: path `/etc/hostname` leaves the recipe, which nothing allows: put the file into the recipe",
    );
    never(
        "config-outside",
        "`compose.yml` line 11: `configs.page.file`: path `./a/../../other` leaves the recipe, which nothing allows: put the file into the recipe",
    );
    never(
        "config-link",
        "`compose.yml` line 11: `configs.page.file`: `page` is a symbolic link to `/etc/hostname`: links are not followed, which nothing allows: put the file itself into the recipe",
    );
    never(
        "env-file-outside",
        "`compose.yml` line 7: `services.app.env_file`: path `../../secrets.env` leaves the recipe, which nothing allows: put the file into the recipe",
    );
}

#[test]
fn what_belongs_to_another_app() {
    let never = |recipe: &str, refusal: &str| {
        let start = "error: the head HEAD declares what is not allowed: `compose.yml` line ";
        assert_eq!(refused(recipe), format!("{start}{refusal}; nothing allows it"));
    };
    never(
        "secret-file",
        "11: `secrets.token.file` is `token.txt`: a secret in a repository is none: declared as `external: true`, it gets \
         a value of the run's own",
    );
    let why = "it does not belong to this app";
    never(
        "taken-config",
        "12: `configs.page.name` is `cloud_example_org_app_conf_v1`: it would be made under a name that is not the app's: \
         `external: true` uses what is there",
    );
    for (recipe, line, key, name) in [
        ("foreign-secret", 12, "secrets.token", "cloud_example_org_db_password_v1"),
        ("foreign-config", 12, "configs.page", "cloud_example_org_app_conf_v1"),
        ("foreign-volume", 13, "volumes.certs", "traefik_example_org_letsencrypt"),
        ("named-volume", 12, "volumes.certs", "traefik_example_org_letsencrypt"),
        ("foreign-network", 12, "networks.victim", "cloud_example_org_internal"),
        ("host-network", 12, "networks.outside", "host"),
    ] {
        let (list, _) = key.split_once('.').unwrap();
        check(recipe, &format!("{line}: `{key}.name` is `{name}`"), why, &format!("{list} = [\"{name}\"]"));
    }
}

#[test]
fn what_weakens_the_container() {
    let capability = "a capability reaches beyond the container";
    check("cap-add", "8: `services.app.cap_add[0]` is `SYS_ADMIN`", capability, "cap_add = [\"SYS_ADMIN\"]");
    // An anchor is where its text is.
    check("anchored", "5: `services.app.cap_add[0]` is `NET_ADMIN`", capability, "cap_add = [\"NET_ADMIN\"]");
    let shares = "it shares a part of the host, or of another container";
    check("privileged", "7: `services.app.privileged` is `true`", shares, "isolation = [\"privileged\"]");
    check("host-pid", "7: `services.app.pid` is `host`", shares, "isolation = [\"pid\"]");
    check(
        "device",
        "7: `services.app.devices` is `[\"/dev/sda:/dev/sda\"]`",
        "it gives a part of the host to the container",
        "isolation = [\"devices\"]",
    );
    check(
        "security-opt",
        "8: `services.app.security_opt[0]` is `seccomp:unconfined`",
        "it weakens the container's confinement",
        "isolation = [\"security_opt\"]",
    );
    check(
        "sysctl",
        "8: `services.app.sysctls.kernel.msgmax` is `65536`",
        "the setting may be the whole machine's",
        "sysctls = [\"kernel.msgmax=65536\"]",
    );
}

#[test]
fn what_visitors_and_others_would_meet() {
    check(
        "published-port",
        "8: `services.app.ports[0]` is `{\"mode\":\"ingress\",\"target\":443,\"protocol\":\"tcp\",\"published\":443}`",
        "a published port is the whole machine's",
        "ports = [\"443/tcp\"]",
    );
    check(
        "claims-host",
        "10: `services.app.deploy.labels.traefik.http.routers.clai-RUN.rule` is `Host(`clai-RUN`) || \
         Host(`ci.example.org`)`",
        "`ci.example.org` is outside of the run's own domain `clai-RUN`",
        "hosts = [\"ci.example.org\"]",
    );
    check(
        "claims-everything",
        "9: `services.app.deploy.labels.traefik.http.routers.clai-RUN.rule` is `PathPrefix(`/`)`",
        "the rule takes requests for any host",
        "hosts = [\"*\"]",
    );
    check(
        "common-router",
        "9: `services.app.deploy.labels.traefik.http.routers.dashboard.rule` is `Host(`comm-RUN`)`",
        "a name without the stack's is everybody's: another app may have the same",
        "labels = [\"traefik.http.routers.dashboard.rule\"]",
    );
    check(
        "strange-label",
        "9: `services.app.deploy.labels.ofelia.enabled` is `true`",
        "nobody knows what acts on this label",
        "labels = [\"ofelia.enabled\"]",
    );
    check(
        "log-driver",
        "8: `services.app.logging.driver` is `syslog`",
        "logs would go elsewhere, where nobody looks",
        "drivers = [\"syslog\"]",
    );
}

/// Base and head say the same, and it is told once.
#[test]
fn a_deadline_that_is_no_number() {
    let expected = "error: the label `coop-cloud.odd-RUN.timeout` of service `app` is `soon`: it has to be a number of \
                    seconds, as in `300`";
    assert_eq!(refused("odd-timeout"), expected);
}

#[test]
fn images_from_elsewhere() {
    check(
        "attackers-registry",
        "6: `services.app.image` is `registry.attacker.example:5000/nginx:1.27.4`",
        "`registry.attacker.example:5000` is none of the registries that images may come from",
        "registries = [\"registry.attacker.example:5000\"]",
    );
    check(
        "host-image",
        "6: `services.app.image` is `host`",
        "it is no image of a registry, but this machine's own files",
        "images = [\"host\"]",
    );
}

#[test]
fn more_than_the_machine_has() {
    check(
        "many-replicas",
        "8: `services.app.deploy.replicas` is `6`",
        "so many tasks could take the machine from all others; 5 is the most",
        "max_replicas = 6",
    );
    check(
        "long-grace",
        "7: `services.app.stop_grace_period` is `24h0m0s`",
        "nothing could be torn down for so long; 5m is the most",
        "max_stop_grace = \"1day\"",
    );
    check(
        "long-timeout",
        "9: `services.app.deploy.labels.coop-cloud.long-RUN.timeout` is `86400`",
        "the run would wait for so long; 30m is the most",
        "max_duration = \"1day\"",
    );
    check(
        "large-logs",
        "10: `services.app.logging.options.max-size` is `500m`",
        "logs of that size could fill the disk; 1024 MiB is the most",
        "max_logs = 1500",
    );
    let why = "so much could take the machine from all others";
    assert_eq!(
        refused("much-memory"),
        format!(
            "error: the head HEAD declares what is not allowed: `compose.yml` line 11: \
             `services.app.deploy.resources.limits.cpus` is `8.001`: {why}; 8000 thousandths is the most; `max_cpus = \
             8001` {ALLOW}; `compose.yml` line 10: `services.app.deploy.resources.limits.memory` is `8590983168`: {why}; \
             8192 MiB is the most; `max_memory = 8193` {ALLOW}"
        )
    );
}

#[test]
fn what_only_the_merged_and_interpolated_document_shows() {
    assert_eq!(
        refused("overridden"),
        format!(
            "error: the head HEAD declares what is not allowed: `compose.more.yml` line 11: `networks.more.name` is \
             `host`: it does not belong to this app; `networks = [\"host\"]` {ALLOW}"
        )
    );
}

#[test]
fn what_cannot_be_read_at_all() {
    never(
        "bomb",
        "failed to read `compose.yml`: not valid YAML: it has more than 50000 values, aliases replaced, at line 8 column \
         18",
    );
    never("unknown-key", "`compose.yml`: `services.app.enable_everything`: the key is not known");
}

/// They are refused before an engine is looked for: a Docker that is not there makes no difference.
#[test]
fn every_engine_refuses_the_same() {
    let expected = refused("cap-add");
    for engine in ["swarm", "abra", "auto"] {
        assert_eq!(refused_on(engine, "cap-add"), expected);
    }
}

#[test]
fn what_the_policy_allows_stands_in_the_header() {
    let dir = tempfile::tempdir().unwrap();
    let data = checkout().join("tests/data/hostile");
    std::os::unix::fs::symlink(data.join("recipes"), dir.path().join("recipes")).unwrap();
    let harness = std::fs::read_to_string(data.join("harness.toml")).unwrap();
    let overlay = dir.path().join("overlays/cap-add");
    std::fs::create_dir_all(&overlay).unwrap();
    let plan = |harness: &str, recipe: &str| {
        std::fs::write(dir.path().join("harness.toml"), harness).unwrap();
        std::fs::write(overlay.join("recipe.toml"), recipe).unwrap();
        World::new(dir.path().to_owned()).run(&["--recipe", "cap-add", "--plan"])
    };
    assert_eq!(plan(&harness, "").code, 101);
    let entry = "[policy]\ncap_add = [\"SYS_ADMIN\"]\n";
    let line =
        "allowed  `services.app.cap_add[0]` is `SYS_ADMIN` (`compose.yml` line 8): the policy's `cap_add` allows it";
    for (harness, recipe) in [(format!("{harness}\n{entry}"), ""), (harness.clone(), entry)] {
        let ended = plan(&harness, recipe);
        assert_eq!(ended.code, 0, "{ended}");
        assert!(ended.stdout.contains(line), "{ended}");
    }
}

/// What a policy lends an app is somebody else's in Docker, which this engine has nothing to do with.
#[test]
fn what_the_policy_lends_is_not_to_be_had_from_every_engine() {
    for (recipe, kind, name) in [
        ("foreign-secret", "secret", "cloud_example_org_db_password_v1"),
        ("foreign-config", "config", "cloud_example_org_app_conf_v1"),
        ("foreign-volume", "volume", "traefik_example_org_letsencrypt"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let data = checkout().join("tests/data/hostile");
        std::os::unix::fs::symlink(data.join("recipes"), dir.path().join("recipes")).unwrap();
        let harness = std::fs::read_to_string(data.join("harness.toml")).unwrap();
        std::fs::write(dir.path().join("harness.toml"), format!("{harness}\n[policy]\n{kind}s = [\"{name}\"]\n"))
            .unwrap();
        let ended = World::new(dir.path().to_owned()).run(&["--recipe", recipe, "--plan"]);
        let expected = format!(
            "error: the external {kind} `{name}` is Docker's, and the embedded engine has nothing but the app's own: use \
             `--engine swarm`; engine: embedded, as asked for\n"
        );
        assert_eq!((ended.code, ended.stderr.as_str()), (3, expected.as_str()), "{ended}");
    }
}

/// Variables come from the app's own `.env`, whatever stands in the environment of the process that deploys.
#[test]
fn the_environment_of_the_process_stays_out() {
    let world = World::new(checkout().join("tests/data/hostile"));
    let recipe = world.dir.path().join("leak");
    std::fs::create_dir_all(&recipe).unwrap();
    let compose = "version: \"3.8\"\nservices:\n  app:\n    image: nginx:1.27.4\n    cap_add: [\"x${LEAK_CANARY}x\"]\n";
    std::fs::write(recipe.join("compose.yml"), compose).unwrap();
    for args in [&["init", "--quiet"][..], &["add", "--all"], &["commit", "--quiet", "--message=x"]] {
        let git = harness::process::Run::new("git", args).cwd(&recipe);
        let git = git.env("GIT_AUTHOR_NAME", "a").env("GIT_AUTHOR_EMAIL", "a@example.org");
        let git = git.env("GIT_COMMITTER_NAME", "a").env("GIT_COMMITTER_EMAIL", "a@example.org");
        assert_eq!(crate::runner::finish(&git).code, 0);
    }
    let run = world.command(&["--recipe", "leak", "--recipe-dir", recipe.to_str().unwrap()]);
    let ended = crate::runner::finish(&run.env("LEAK_CANARY", "canary-of-the-process"));
    assert_eq!(ended.code, 101, "{ended}");
    assert!(ended.stderr.contains("`services.app.cap_add[0]` is `xx`"), "{ended}");
    assert!(!ended.stderr.contains("canary-of-the-process"), "{ended}");
}
