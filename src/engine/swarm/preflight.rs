//! What has to be true of a Swarm before anything is created on it. Every problem is one sentence.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::path::PathBuf;

use anyhow::{Context as _, Error, Result, bail};
use bollard::Docker;
use bollard::models::{LocalNodeState, Network, Service};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptions, ListServicesOptions};

use super::super::{FetchError, Kind, not_here};
use super::alive::while_alive;
use super::endpoint::Endpoint;
use super::inventory::{Object, everything};
use super::publish::BRIDGE;
use super::{NameTaken, STACK_LABEL, SwarmSpec, images, is_missing};
use crate::fault::{Failure, Fault};
use crate::process::Run;
use crate::recipe::image;
use crate::recipe::stack::Stack;

/// The network that Co-op Cloud's Traefik listens on: created once per server, by hand.
const PROXY: &str = "proxy";

/// What helps where neither Docker nor a registry gives out an image.
const WAYS: [&str; 3] = [
    "pull it where there is a network and a login: `docker pull`, `docker load`",
    "build those of the bundled recipes from Debian's packages: `scripts/test-images`",
    "put something in its place: `--engine embedded`, docs/images.md",
];

/// So many things that are in the way are named.
const NAMED: usize = 5;

/// What is going to be deployed.
pub struct Wanted<'a> {
    /// Every state that will be deployed: the base, if there is one, and the head.
    pub stacks: Vec<&'a Stack>,
    /// The recipe's compose files are deployed as they are, so that the proxy's network has to be there.
    pub as_it_is: bool,
}

/// A Swarm that can be deployed to.
#[derive(Debug)]
pub struct Checked {
    pub spec: SwarmSpec,
    /// What is particular about it, for people.
    pub notes: Vec<String>,
    /// One line for every image that is not what its name says.
    pub stand_ins: Vec<String>,
}

/// Why this machine has no Swarm for a run, in a few words: whoever asked for none in particular goes on without one.
#[derive(Debug)]
pub struct NotHere(pub String);

impl std::fmt::Display for NotHere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotHere {}

/// Looks at everything that can be looked at beforehand. The error names every problem, and nothing was created. It is a
/// [`Failure`] of the recipe's for what Docker or a registry says of its images, and a [`NotHere`] for what this machine
/// lacks.
pub async fn preflight(endpoint: Endpoint, wanted: &Wanted<'_>) -> Result<Checked> {
    let docker = match endpoint.connect().await {
        Ok(docker) => docker,
        Err(error) => return Err(with_reason(error, endpoint.silence())),
    };
    if !wanted.as_it_is {
        command().await?;
    }
    while_alive(&docker, Box::pin(examine(&docker, endpoint, wanted))).await?
}

fn with_reason(error: Error, reason: Option<String>) -> Error {
    match reason {
        Some(reason) => error.context(NotHere(reason)),
        None => error,
    }
}

async fn examine(docker: &Docker, endpoint: Endpoint, wanted: &Wanted<'_>) -> Result<Checked> {
    let (node, data_root) = manager(docker, &endpoint).await?;
    let networks = docker.list_networks(None::<ListNetworksOptions>).await.context("failed to list the networks")?;
    let services = docker.list_services(None::<ListServicesOptions>).await.context("failed to list the services")?;
    let there = everything(docker).await?;
    let mut problems = taken(wanted, &there);
    let (own_networks, traefik) = external(wanted, &networks, &services, &mut problems);
    let foreign = foreign(wanted);
    problems.extend(missing(&foreign, &there));
    let images = look_at_images(docker, wanted).await;
    if !images.missing.is_empty() {
        return Err(Failure::new(Fault::Recipe, images.missing.join("; ")).into());
    }
    problems.extend(
        Some(images.unavailable).filter(|it| !it.is_empty()).map(|it| not_here::said(&it, &WAYS.map(str::to_owned))),
    );
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    let apart = apart(docker, &endpoint).await?;
    if let (Some(why), true, false) = (&apart, traefik.is_empty(), wanted.stacks.is_empty()) {
        return Err(Failure::new(Fault::Infrastructure, why).into());
    }
    let without_ipvs = endpoint.is_local() && !std::path::Path::new("/proc/net/ip_vs").exists();
    let mut notes = Vec::new();
    if without_ipvs {
        let so = if wanted.as_it_is {
            "virtual addresses and the routing mesh carry no traffic here"
        } else {
            "services are deployed with `endpoint_mode: dnsrr`, and ports on the host"
        };
        notes.push(format!("the kernel has no IPVS: {so}"));
    }
    notes.extend(traefik.iter().map(|network| format!("requests go through the Traefik on network `{network}`")));
    let apart = apart.is_some();
    let spec = SwarmSpec { endpoint, node, data_root, apart, without_ipvs, traefik, own_networks };
    Ok(Checked { spec, notes, stand_ins: images.stand_ins })
}

/// The docker command, which knows how to deploy a stack.
async fn command() -> Result<()> {
    let asked = Run::new("docker", ["--version"]).checked().await;
    let missing = "Docker answers, but there is no `docker` command that works, and stacks are deployed with it";
    asked.context(NotHere(missing.into())).map(|_| ())
}

/// Whether an address is one of this process's network: what would be sent to it, which nothing is, would come from it.
fn is_own(address: &IpAddr) -> bool {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0));
    let from = socket.and_then(|socket| socket.connect((*address, 9)).and_then(|()| socket.local_addr()));
    from.is_ok_and(|from| from.ip() == *address)
}

/// Why the containers of a Docker on this machine cannot be reached all the same: a container that was given Docker's
/// socket has a network of its own. The gateway of their bridge is an address of the network that leads to them.
async fn apart(docker: &Docker, endpoint: &Endpoint) -> Result<Option<String>> {
    if !endpoint.is_local() {
        return Ok(None);
    }
    let bridge = match docker.inspect_network(BRIDGE, None::<InspectNetworkOptions>).await {
        Ok(bridge) => bridge,
        // Docker makes it with the first task; until then nothing can be told.
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("failed to inspect the network `{BRIDGE}`")),
    };
    let gateways = bridge.ipam.and_then(|ipam| ipam.config).unwrap_or_default().into_iter().filter_map(|it| it.gateway);
    let gateways: Vec<IpAddr> = gateways.filter_map(|gateway| gateway.parse().ok()).collect();
    let Some(gateway) = gateways.first().filter(|_| !gateways.iter().any(is_own)) else { return Ok(None) };
    Ok(Some(format!(
        "this process is in another network than Docker's containers, which it has to reach: `{BRIDGE}` is {gateway}, and \
         that is no address here. In a container, start it with `--network host`; a Traefik on the recipe's proxy network, \
         with `swarm.traefik_address` in harness.toml, would do as well"
    )))
}

/// The id of the node, which must be a manager of a Swarm, and where it keeps everything, if that is here.
async fn manager(docker: &Docker, endpoint: &Endpoint) -> Result<(String, Option<PathBuf>)> {
    let info = docker.info().await.with_context(|| format!("failed to ask Docker at `{}`", endpoint.host))?;
    let swarm = info.swarm.unwrap_or_default();
    match swarm.local_node_state {
        Some(LocalNodeState::ACTIVE) if swarm.control_available == Some(true) => {
            let node = swarm.node_id.context("Docker does not say which node it is")?;
            Ok((node, info.docker_root_dir.map(PathBuf::from).filter(|_| endpoint.is_local())))
        }
        Some(LocalNodeState::ACTIVE) => {
            bail!(NotHere(format!("Docker at `{}` is a worker of its Swarm: only a manager can deploy", endpoint.host)))
        }
        _ => bail!(NotHere(format!("Docker at `{}` is in no Swarm: `docker swarm init` makes one", endpoint.host))),
    }
}

/// The stack's name is the run's own; when something is there under it all the same, that must not be touched.
fn taken(wanted: &Wanted<'_>, there: &[Object]) -> Vec<String> {
    let names: BTreeSet<&str> = wanted.stacks.iter().map(|stack| stack.name.as_str()).collect();
    names.into_iter().filter_map(|name| already_there(name, there)).collect()
}

/// What there is under a stack's name, as a problem.
fn already_there(stack: &str, there: &[Object]) -> Option<String> {
    let is_it = |object: &&Object| {
        let label = object.labels.get(STACK_LABEL).is_some_and(|label| label == stack);
        label || object.name.strip_prefix(stack).is_some_and(|rest| rest.starts_with('_'))
    };
    let things: Vec<String> =
        there.iter().filter(is_it).map(|object| format!("{} `{}`", object.kind, object.name)).collect();
    let named = things.get(..NAMED).unwrap_or(&things).join(", ");
    (!things.is_empty()).then(|| {
        format!("there is something under the name of the stack `{stack}` already: {named}: start the run again, which takes another name")
    })
}

/// Fails when anything is there under a stack's name: a run that goes on would change it, and remove it at its end.
pub(super) async fn nothing_there(docker: &Docker, stack: &str) -> Result<()> {
    let there = super::remove::patiently(|| everything(docker)).await?;
    match already_there(stack, &there) {
        Some(problem) => Err(anyhow::Error::new(NameTaken(format!("`{stack}`"))).context(problem)),
        None => Ok(()),
    }
}

/// The stacks that have a service.
pub(super) async fn stacks(docker: &Docker) -> Result<BTreeSet<String>> {
    let services = docker.list_services(None::<ListServicesOptions>).await.context("failed to list the services")?;
    Ok(stacks_of(&services))
}

fn stacks_of(services: &[Service]) -> BTreeSet<String> {
    let label = |service: &Service| service.spec.as_ref()?.labels.as_ref()?.get(STACK_LABEL).cloned();
    services.iter().filter_map(label).collect()
}

/// External networks: those that the run replaces by its own, and those that a Traefik listens on. A missing one is a
/// problem, unless it is the proxy's, of which every run gets one.
fn external(
    wanted: &Wanted<'_>,
    networks: &[Network],
    services: &[Service],
    problems: &mut Vec<String>,
) -> (Vec<String>, Vec<String>) {
    let (mut own, mut traefik) = (Vec::new(), Vec::new());
    let external = wanted.stacks.iter().flat_map(|stack| stack.networks.values()).filter(|network| network.external);
    for name in external.map(|network| network.name.as_str()).collect::<BTreeSet<&str>>() {
        let found = networks.iter().find(|network| network.name.as_deref() == Some(name));
        match found {
            Some(network) if has_traefik(network, services) => traefik.push(name.to_owned()),
            _ if name == PROXY && !wanted.as_it_is => own.push(name.to_owned()),
            Some(network) if network.scope.as_deref() == Some("swarm") => {}
            Some(_) => problems
                .push(format!("the external network `{name}` is not one of the Swarm: it needs the driver `overlay`")),
            None => problems.push(format!(
                "the external network `{name}` does not exist: create it with `docker network create -d overlay {name}`"
            )),
        }
    }
    (own, traefik)
}

/// Volumes, secrets and configs that are somebody else's, by kind and name.
fn foreign(wanted: &Wanted<'_>) -> BTreeSet<(Kind, String)> {
    let mut names = BTreeSet::new();
    for stack in &wanted.stacks {
        let volumes = stack.volumes.values().filter(|it| it.external).map(|it| (Kind::Volume, it.name.clone()));
        let secrets =
            stack.secrets.values().filter(|it| stack.is_foreign(it)).map(|it| (Kind::Secret, it.name.clone()));
        let configs = stack.configs.values().filter(|it| it.external).map(|it| (Kind::Config, it.name.clone()));
        names.extend(volumes.chain(secrets).chain(configs));
    }
    names
}

/// What of it is not there: Docker would make such a volume, and nobody would remove it.
fn missing(foreign: &BTreeSet<(Kind, String)>, there: &[Object]) -> Vec<String> {
    let missing = foreign.iter().filter(|(kind, name)| !there.iter().any(|it| it.kind == *kind && it.name == *name));
    let said = |(kind, name): &(Kind, String)| {
        let content = if *kind == Kind::Volume { "" } else { " <file>" };
        format!("the external {kind} `{name}` does not exist: create it with `docker {kind} create {name}{content}`")
    };
    missing.map(said).collect()
}

/// Whether a service on the network runs a Traefik.
fn has_traefik(network: &Network, services: &[Service]) -> bool {
    services.iter().filter_map(|service| service.spec.as_ref()?.task_template.as_ref()).any(|template| {
        let image = template.container_spec.as_ref().and_then(|container| container.image.as_deref());
        let on_it = template.networks.iter().flatten().any(|it| it.target.is_some() && it.target == network.id);
        on_it && image::short_name(image.unwrap_or_default()) == "traefik"
    })
}

/// What is known of the images of a run.
#[derive(Default)]
struct Images {
    /// One line for every image that is not what its name says.
    stand_ins: Vec<String>,
    /// Those that there are not, each as one sentence.
    missing: Vec<String>,
    /// Those that cannot be had here and now, and why.
    unavailable: Vec<(String, String)>,
}

/// What stands behind an error that names an image.
fn reason(error: &Error) -> String {
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    if causes.is_empty() { error.to_string() } else { causes.join(": ") }
}

async fn look_at_images(docker: &Docker, wanted: &Wanted<'_>) -> Images {
    let services = wanted.stacks.iter().flat_map(|stack| stack.services.values());
    let mut images = Images::default();
    for image in services.map(|service| service.image.as_str()).collect::<BTreeSet<&str>>() {
        match images::resolvable(docker, image).await {
            Ok(Some(stand_in)) => {
                images.stand_ins.push(format!("`{image}` is not what its name says: {stand_in}"));
            }
            Ok(None) => {}
            Err(FetchError::Missing(error)) => images.missing.push(format!("{error:#}")),
            Err(error) => images.unavailable.push((image.to_owned(), reason(&error.into_error()))),
        }
    }
    images
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::recipe::stack;
    use bollard::models::{NetworkAttachmentConfig, ServiceSpec, TaskSpec, TaskSpecContainerSpec};

    fn stack(networks: &[&str]) -> Stack {
        let network = |name: &str| stack::Network { name: name.into(), external: true, ..Default::default() };
        let networks = networks.iter().map(|name| (name.to_string(), network(name))).collect();
        Stack { name: "s".into(), networks, ..Stack::default() }
    }

    fn network(name: &str, scope: &str) -> Network {
        let (id, scope) = (Some(format!("id-{name}")), Some(scope.to_owned()));
        Network { name: Some(name.into()), id, scope, ..Network::default() }
    }

    fn service(image: &str, network: &str, stack: &str) -> Service {
        let container = TaskSpecContainerSpec { image: Some(image.into()), ..Default::default() };
        let target = NetworkAttachmentConfig { target: Some(format!("id-{network}")), ..Default::default() };
        let template =
            TaskSpec { container_spec: Some(container), networks: Some(vec![target]), ..TaskSpec::default() };
        let labels = Some([(STACK_LABEL.to_owned(), stack.to_owned())].into());
        let spec = ServiceSpec { task_template: Some(template), labels, ..ServiceSpec::default() };
        Service { spec: Some(spec), ..Service::default() }
    }

    #[test]
    fn a_missing_network_is_named_with_what_to_do_but_the_proxys_is_the_runs_own() {
        let stack = stack(&["proxy", "mail", "local"]);
        let mut problems = Vec::new();
        let wanted = Wanted { stacks: vec![&stack], as_it_is: false };
        let (own, traefik) = external(&wanted, &[network("local", "local")], &[], &mut problems);
        assert_eq!((own, traefik), (vec!["proxy".to_owned()], vec![]));
        assert_eq!(
            problems,
            [
                "the external network `local` is not one of the Swarm: it needs the driver `overlay`",
                "the external network `mail` does not exist: create it with `docker network create -d overlay mail`",
            ]
        );
    }

    #[test]
    fn only_a_traefik_on_the_recipes_own_network_is_used() {
        let stack = stack(&["proxy"]);
        let wanted = Wanted { stacks: vec![&stack], as_it_is: false };
        let networks = [network("proxy", "swarm"), network("other", "swarm")];
        let find = |service: Service| external(&wanted, &networks, &[service], &mut Vec::new());
        let used = find(service("docker.io/library/traefik:v3@sha256:abc", "proxy", "t"));
        assert_eq!(used, (vec![], vec!["proxy".to_owned()]));
        let none = (vec!["proxy".to_owned()], vec![]);
        assert_eq!(find(service("traefik:v3", "other", "t")), none);
        assert_eq!(find(service("nginx", "proxy", "t")), none);
    }

    #[test]
    fn an_address_of_this_machine_is_told_from_others() {
        for (address, own) in [("127.0.0.1", true), ("192.0.2.1", false), ("203.0.113.7", false)] {
            assert_eq!(is_own(&address.parse().unwrap()), own, "{address}");
        }
    }

    #[test]
    fn anything_under_the_name_of_the_stack_is_refused() {
        let stack = stack(&[]);
        let wanted = Wanted { stacks: vec![&stack, &stack], as_it_is: false };
        let object = |kind, name: &str, labels| Object { kind, name: name.into(), id: name.into(), labels };
        let other = object(Kind::Volume, "s2_data", HashMap::new());
        assert_eq!(taken(&wanted, &[other]), Vec::<String>::new());
        for kind in [Kind::Service, Kind::Volume, Kind::Network, Kind::Secret, Kind::Config] {
            let problem = format!(
                "there is something under the name of the stack `s` already: {kind} `s_x`: start the run again, which \
                 takes another name"
            );
            assert_eq!(taken(&wanted, &[object(kind, "s_x", HashMap::new())]), [problem]);
        }
        let labels = HashMap::from([(STACK_LABEL.to_owned(), "s".to_owned())]);
        assert_eq!(taken(&wanted, &[object(Kind::Volume, "x", labels)]).len(), 1);
    }

    #[test]
    fn what_others_lend_has_to_be_there_and_what_is_the_apps_own_need_not() {
        let file = |name: &str| stack::FileObject { name: name.into(), external: true, ..Default::default() };
        let volume = |name: &str, external| stack::Volume { name: name.into(), external, ..Default::default() };
        let stack = Stack {
            name: "s".into(),
            secrets: [("own".into(), file("s_own_v1")), ("mail".into(), file("smtp_password"))].into(),
            configs: [("page".into(), file("page"))].into(),
            volumes: [("own".into(), volume("s_own", false)), ("tls".into(), volume("certificates", true))].into(),
            ..Stack::default()
        };
        let foreign = foreign(&Wanted { stacks: vec![&stack], as_it_is: false });
        let object = |kind, name: &str| Object { kind, name: name.into(), id: name.into(), labels: HashMap::new() };
        // A volume of that name is no secret.
        let there = [object(Kind::Volume, "smtp_password"), object(Kind::Config, "page")];
        assert_eq!(
            missing(&foreign, &there),
            [
                "the external volume `certificates` does not exist: create it with `docker volume create certificates`",
                "the external secret `smtp_password` does not exist: create it with `docker secret create smtp_password \
                 <file>`",
            ]
        );
        let all = [object(Kind::Secret, "smtp_password"), object(Kind::Volume, "certificates")];
        let all: Vec<Object> = all.into_iter().chain(there).collect();
        assert_eq!(missing(&foreign, &all), Vec::<String>::new());
    }
}
