//! What a server of a cooperative has to have, beside a Swarm: each question is one look, and the answer is for people.

use anyhow::{Context as _, Result, bail};
use bollard::Docker;
use bollard::models::{Service, Task, TaskState};
use bollard::query_parameters::{
    InspectNetworkOptions, ListServicesOptionsBuilder, ListTasksOptionsBuilder, RemoveImageOptions,
};

use super::super::FetchError;
use super::endpoint::Endpoint;
use super::{Checked, Wanted, images, is_missing, preflight};
use crate::process::Run;
use crate::recipe::image;

/// The label by which abra finds its backup bot; recalled, so that the image's name counts as well.
const BOT_LABEL: &str = "coop-cloud.backupbot.enabled";
const BOT_IMAGE: &str = "backup-bot-two";

/// The manager of a Swarm that is looked at.
pub struct Host {
    docker: Docker,
    endpoint: Endpoint,
}

impl Host {
    /// Connects to the manager of a Swarm. What is particular about it is in what is returned beside.
    pub async fn connect(endpoint: Endpoint) -> Result<(Host, Checked)> {
        let checked = preflight(endpoint.clone(), &Wanted { stacks: Vec::new(), as_it_is: true }).await?;
        Ok((Host { docker: endpoint.connect().await?, endpoint }, checked))
    }

    /// `Docker 20.10.24, API 1.41`.
    pub async fn version(&self) -> Result<String> {
        let version = self.docker.version().await.context("failed to ask Docker for its version")?;
        let known = |text: Option<String>| text.unwrap_or_else(|| "unknown".into());
        Ok(format!("Docker {}, API {}", known(version.version), self.docker.client_version()))
    }

    /// The network that apps share with Traefik: one of the Swarm, with its addresses.
    pub async fn network(&self, name: &str) -> Result<String> {
        let network = match self.docker.inspect_network(name, None::<InspectNetworkOptions>).await {
            Ok(network) => network,
            Err(error) if is_missing(&error) => bail!("there is no network `{name}`"),
            Err(error) => return Err(error).with_context(|| format!("failed to look for the network `{name}`")),
        };
        let scope = network.scope.unwrap_or_default();
        if scope != "swarm" {
            bail!("the network `{name}` has the scope `{scope}`, and services need one of the Swarm");
        }
        let ipam = network.ipam.and_then(|ipam| ipam.config).unwrap_or_default();
        let subnets: Vec<String> = ipam.into_iter().filter_map(|config| config.subnet).collect();
        roomy(name, &subnets)
    }

    /// A Traefik that runs, on the network.
    pub async fn traefik(&self, network: &str) -> Result<String> {
        let id = self.docker.inspect_network(network, None::<InspectNetworkOptions>).await;
        let id = id.with_context(|| format!("failed to look for the network `{network}`"))?.id;
        let on_it = |service: &Service| {
            let template = service.spec.as_ref().and_then(|spec| spec.task_template.as_ref());
            template.is_some_and(|it| it.networks.iter().flatten().any(|it| it.target.is_some() && it.target == id))
        };
        let found = self.services().await?.into_iter().find(|it| image_name(it) == "traefik" && on_it(it));
        let service = found.with_context(|| format!("no service on the network `{network}` has an image `traefik`"))?;
        self.running(&service).await
    }

    /// A backup bot that runs.
    pub async fn backup_bot(&self) -> Result<String> {
        let is_bot = |service: &Service| {
            let labels = service.spec.as_ref().and_then(|spec| spec.labels.as_ref());
            labels.and_then(|labels| labels.get(BOT_LABEL)).is_some_and(|value| value == "true")
                || image_name(service) == BOT_IMAGE
        };
        let found = self.services().await?.into_iter().find(is_bot);
        let service = found
            .with_context(|| format!("no service has the label `{BOT_LABEL}=true`, and none an image `{BOT_IMAGE}`"))?;
        self.running(&service).await
    }

    async fn services(&self) -> Result<Vec<Service>> {
        let options = ListServicesOptionsBuilder::default().build();
        self.docker.list_services(Some(options)).await.context("failed to list the services")
    }

    /// `service `x`, 1 task runs`, or why none does.
    async fn running(&self, service: &Service) -> Result<String> {
        let name = service.spec.as_ref().and_then(|spec| spec.name.clone()).unwrap_or_default();
        let tasks = self.tasks(&name).await?;
        let state = |task: &Task| task.status.as_ref().and_then(|status| status.state);
        let running = tasks.iter().filter(|task| state(task) == Some(TaskState::RUNNING)).count();
        if running == 0 {
            let last = tasks.iter().max_by_key(|task| super::observe::created(task));
            let seen = last.and_then(state).map_or("it has none".to_owned(), |it| format!("the newest is {it}"));
            bail!("service `{name}` has no running task: {seen}");
        }
        Ok(format!("service `{name}`, {running} running"))
    }

    async fn tasks(&self, service: &str) -> Result<Vec<Task>> {
        let filters = [("service".to_owned(), vec![service.to_owned()])].into();
        let options = ListTasksOptionsBuilder::default().filters(&filters).build();
        self.docker.list_tasks(Some(options)).await.with_context(|| format!("failed to list the tasks of `{service}`"))
    }

    /// Bytes that are free where Docker keeps everything, and where that is. On another machine it is asked in a
    /// container, whose own disk that is.
    pub async fn free_disk(&self) -> Result<(u64, String)> {
        if self.endpoint.is_local() {
            let info = self.docker.info().await.context("failed to ask Docker where it keeps its data")?;
            let dir = info.docker_root_dir.context("Docker does not say where it keeps its data")?;
            let disk = rustix::fs::statvfs(&dir).with_context(|| format!("failed to look at the disk of `{dir}`"))?;
            return Ok((disk.f_bavail.saturating_mul(disk.f_frsize), format!("`{dir}`")));
        }
        let containers = self.docker.list_containers(None).await.context("failed to list the containers")?;
        let mut refused = "no container runs there".to_owned();
        for container in containers.into_iter().filter_map(|container| container.id) {
            match self.df(&container).await {
                Ok(bytes) => return Ok((bytes, self.endpoint.host.clone())),
                Err(error) => refused = format!("{error:#}"),
            }
        }
        bail!("no container of `{}` could be asked for its free disk: {refused}", self.endpoint.host)
    }

    async fn df(&self, container: &str) -> Result<u64> {
        let mut run = Run::new("docker", ["exec", container, "df", "-Pk", "/"]);
        for (key, value) in self.endpoint.cli_env() {
            run = run.env(key, value);
        }
        let said = run.checked().await?;
        available(&String::from_utf8_lossy(&said.stdout)).context("`df` says something else than expected")
    }

    /// Pulls an image from its registry, whether it is here or not, and says which it was. One that was not here before
    /// is removed again.
    pub async fn pull(&self, image: &str) -> Result<String> {
        let was_here = self.docker.inspect_image(image).await.is_ok();
        let pulled = images::pull_anew(&self.docker, image).await;
        let digest = pulled.map_err(FetchError::into_error)?;
        if !was_here {
            let removed = self.docker.remove_image(image, None::<RemoveImageOptions>, None).await;
            removed.with_context(|| format!("failed to remove the image `{image}` again"))?;
        }
        Ok(digest)
    }
}

/// The last part of the image's name, without tag and digest.
fn image_name(service: &Service) -> &str {
    let template = service.spec.as_ref().and_then(|spec| spec.task_template.as_ref());
    image::short_name(
        template.and_then(|template| template.container_spec.as_ref()?.image.as_deref()).unwrap_or_default(),
    )
}

/// Swarm's own default for a network: 254 addresses, of which every service takes one, and every task.
const SMALLEST_PREFIX: u32 = 24;

/// That the network has addresses for some apps, and how many bits name them.
fn roomy(name: &str, subnets: &[String]) -> Result<String> {
    if subnets.is_empty() {
        bail!("the network `{name}` has no subnet, so that nobody knows how many addresses it has");
    }
    // A service's own address is of the fourth version, whatever else the network has.
    let prefix = |subnet: &String| subnet.rsplit_once('/').and_then(|(_, prefix)| prefix.parse::<u32>().ok());
    let of_v4 = subnets.iter().filter(|subnet| !subnet.contains(':'));
    if !of_v4.filter_map(prefix).any(|prefix| prefix <= SMALLEST_PREFIX) {
        bail!("the network `{name}` has only {}: apps need /{SMALLEST_PREFIX} or more", subnets.join(", "));
    }
    Ok(format!("`{name}`, {}", subnets.join(", ")))
}

/// The free bytes in the answer of `df -Pk`.
fn available(said: &str) -> Option<u64> {
    let kilobytes: u64 = said.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_room_or_the_error_names_its_subnet() {
        let of = |subnets: &[&str]| {
            let subnets: Vec<String> = subnets.iter().map(|it| (*it).to_owned()).collect();
            roomy("proxy", &subnets).map_err(|error| error.to_string())
        };
        assert_eq!(of(&["10.0.1.0/24"]), Ok("`proxy`, 10.0.1.0/24".into()));
        assert_eq!(of(&["10.0.1.0/24", "fd00::/64"]), Ok("`proxy`, 10.0.1.0/24, fd00::/64".into()));
        let small = "the network `proxy` has only 10.0.1.0/28: apps need /24 or more";
        assert_eq!(of(&["10.0.1.0/28"]), Err(small.into()));
        let small = "the network `proxy` has only 10.0.1.0/28, fd00::/16: apps need /24 or more";
        assert_eq!(of(&["10.0.1.0/28", "fd00::/16"]), Err(small.into()));
        assert_eq!(
            of(&[]).unwrap_err(),
            "the network `proxy` has no subnet, so that nobody knows how many addresses it has"
        );
    }

    #[test]
    fn the_free_space_is_read_from_df_and_from_nothing_else() {
        let said = "Filesystem 1024-blocks Used Available Capacity Mounted on\noverlay 263174212 1 83886080 14% /\n";
        assert_eq!(available(said), Some(83886080 * 1024));
        assert_eq!(available("sh: df: not found\n"), None);
        assert_eq!(available("a b c d\noverlay x y z\n"), None);
    }
}
