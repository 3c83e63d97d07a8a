//! Whether this machine can run the embedded engine: by running it, once, before anything else is started.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::errno::Errno;

use super::super::disk::{FULL, free};
use super::super::{EngineContext, Kind, Ledger};
use super::container::{self, Plan};
use super::fault::{Fault, Step, errno};
use super::groups::TRIAL;
use super::image::{Image, ImageConfig, Root};
use super::spec::Spec;
use super::{Embedded, state};
use crate::recipe::stack::Service;

const NETWORK: &str = "preflight";

/// Runs a pod and `/bin/true` in a container of it, which takes some 20 ms. A failure names the step, the cause and
/// what to do, in one message.
pub async fn preflight(place: &Path) -> Result<()> {
    let dir = tempfile::tempdir_in(place)
        .with_context(|| format!("failed to create a directory in `{}`", place.display()))?;
    let context = EngineContext {
        run_id: TRIAL.into(),
        dir: dir.path().join("engine"),
        image_cache: dir.path().join("images"),
        image_map: Default::default(),
        stack: String::new(),
        domain: String::new(),
        monitor: std::time::Duration::ZERO,
        ledger: Arc::new(NoLedger),
    };
    match run_true(context).await {
        Ok(()) => Ok(()),
        Err(error) => Err(anyhow!("{}", explain(&error, under_seccomp(), place, free(place)))),
    }
}

/// A preflight is over before anyone could lose track of it.
struct NoLedger;

impl Ledger for NoLedger {
    fn creating(&self, _: Kind, _: &str) -> Result<()> {
        Ok(())
    }

    fn created(&self, _: Kind, _: &str, _: &str) -> Result<()> {
        Ok(())
    }

    fn removed(&self, _: Kind, _: &str) -> Result<()> {
        Ok(())
    }
}

async fn run_true(context: EngineContext) -> Result<()> {
    let engine = Embedded::start(context).await?;
    let core = &engine.core;
    core.ensure_network(NETWORK).await?;
    let service = Service { image: "host".into(), command: Some(vec!["/bin/true".into()]), ..Service::default() };
    let spec =
        Spec { stack: String::new(), service, files: Vec::new(), mounts: Vec::new(), networks: Default::default() };
    let address = core.read(|state| state.networks.get(NETWORK).copied()).map(state::gateway);
    let [a, b, c, d] = address.context("the network has no address")?.octets();
    let plan = Plan {
        service: "preflight".into(),
        task: "preflight".into(),
        slot: 1,
        spec: Arc::new(spec),
        addresses: vec![(NETWORK.into(), [a, b, c, d + 1].into())],
        hosts: String::new(),
        hostname: "preflight".into(),
    };
    let image = Image { reference: "host".into(), digest: None, root: Root::Host, config: ImageConfig::default() };
    let running = container::start(core, &plan, &image).await?;
    let code = running.exit().await?;
    running.finish().await;
    if code != 0 {
        bail!("`/bin/true` exited with code {code} in a container");
    }
    match engine.remove().await?.as_slice() {
        [] => Ok(()),
        left => bail!("a first pod left something behind: {left:?}"),
    }
}

/// The message for the person at the keyboard. The place is where the state lies, with the bytes that are free there.
fn explain(error: &anyhow::Error, seccomp: bool, place: &Path, free: Option<u64>) -> String {
    let fault = Fault::from(error);
    let errno = fault.errno.or_else(|| errno(error)).map(Errno::from_raw);
    let full = free.filter(|free| *free < FULL && matches!(errno, Some(Errno::ENOSPC | Errno::EDQUOT)));
    let (cause, remedy) = match full {
        Some(free) => (
            format!("The disk is full: {free} bytes are free at `{}`", place.display()),
            "Make room there, or let `HARNESS_STATE` name a directory on another disk",
        ),
        None => {
            let (cause, remedy) = diagnose(fault.step, errno, seccomp);
            (cause.to_owned(), remedy)
        }
    };
    let step = fault.step.map_or_else(|| "failed to run a first container".to_owned(), |step| step.to_string());
    let code = errno.map_or_else(String::new, |errno| format!(" ({errno:?})"));
    format!("the embedded engine cannot start: {step}{code}. {cause}. {remedy}. In full: {}", fault.text)
}

const UNCONFINED: &str = "Add `--security-opt seccomp=unconfined --security-opt systempaths=unconfined` to its \
    `docker run`, run on the host, or choose `--engine swarm`";

/// Cause and remedy, from what was seen on locked-down hosts.
fn diagnose(step: Option<Step>, errno: Option<Errno>, seccomp: bool) -> (&'static str, &'static str) {
    match (step, errno) {
        (Some(Step::UserNamespace), Some(Errno::EPERM)) if seccomp => {
            ("This process runs under a seccomp filter, probably in a container", UNCONFINED)
        }
        (Some(Step::UserNamespace), Some(Errno::EPERM)) => (
            "User namespaces are forbidden, by `kernel.unprivileged_userns_clone=0` or because this is a chroot",
            "Set `sysctl kernel.unprivileged_userns_clone=1`, leave the chroot, run as root, or choose `--engine swarm`",
        ),
        (Some(Step::UserNamespace | Step::Namespaces), Some(Errno::ENOSPC)) => (
            "The number of namespaces is limited to what is in use already",
            "Raise `user.max_user_namespaces` and the other `user.max_*_namespaces` sysctls",
        ),
        (Some(Step::IdMap | Step::Network | Step::Namespaces), Some(Errno::EPERM | Errno::EACCES)) => (
            "An unprivileged user namespace has no powers here, as with AppArmor's restriction on Ubuntu 23.10 and later",
            "Set `sysctl kernel.apparmor_restrict_unprivileged_userns=0`, give this program an AppArmor profile with \
             `userns`, or run as root",
        ),
        (Some(Step::MountProc | Step::Root), Some(Errno::EPERM)) => {
            ("`/proc` is partly masked, as in a container", UNCONFINED)
        }
        (Some(Step::Process), Some(Errno::EAGAIN)) => {
            ("The limit of processes is reached", "Raise `ulimit -u`, or end other processes of this user")
        }
        (Some(Step::Network), Some(Errno::EOPNOTSUPP)) => (
            "This kernel has no bridges or no veth pairs",
            "Load the modules `bridge` and `veth` as root, or choose `--engine swarm`",
        ),
        _ => (
            "The cause is not one that is known",
            "Does `main` call `stage()` first thing? If so, please report this, with the kernel's version",
        ),
    }
}

fn under_seccomp() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "2"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(step: Step, errno: Errno, seccomp: bool) -> String {
        let refused: Result<()> = Err(errno).context(step);
        explain(&refused.unwrap_err(), seccomp, Path::new("/state"), Some(FULL))
    }

    #[test]
    fn a_full_disk_is_called_that() {
        let full: Result<()> =
            Err(std::io::Error::from_raw_os_error(Errno::ENOSPC as i32)).context("failed to write `x`");
        let full = full.unwrap_err();
        let said = |free| explain(&full, false, Path::new("/state"), free);
        assert_eq!(
            said(Some(4096)),
            "the embedded engine cannot start: failed to run a first container (ENOSPC). The disk is full: 4096 bytes are \
             free at `/state`. Make room there, or let `HARNESS_STATE` name a directory on another disk. In full: failed \
             to write `x`: No space left on device (os error 28)"
        );
        // There is more than one limit that says so.
        assert!(said(Some(FULL)).contains("not one that is known") && said(None).contains("not one that is known"));
    }

    #[test]
    fn a_refusal_names_step_cause_and_remedy() {
        let text = message(Step::UserNamespace, Errno::EPERM, true);
        assert_eq!(
            text,
            "the embedded engine cannot start: failed to create a user namespace (EPERM). This process runs under a \
             seccomp filter, probably in a container. Add `--security-opt seccomp=unconfined --security-opt \
             systempaths=unconfined` to its `docker run`, run on the host, or choose `--engine swarm`. In full: \
             failed to create a user namespace: EPERM: Operation not permitted"
        );
    }

    #[test]
    fn every_known_refusal_has_a_cause_of_its_own() {
        let known = [
            (Step::UserNamespace, Errno::EPERM, "kernel.unprivileged_userns_clone"),
            (Step::Namespaces, Errno::ENOSPC, "user.max_user_namespaces"),
            (Step::IdMap, Errno::EACCES, "apparmor_restrict_unprivileged_userns"),
            (Step::MountProc, Errno::EPERM, "systempaths=unconfined"),
            (Step::Process, Errno::EAGAIN, "ulimit -u"),
        ];
        for (step, errno, word) in known {
            let text = message(step, errno, false);
            assert!(text.contains(word), "{text}");
        }
        assert!(message(Step::Program, Errno::EIO, false).contains("The cause is not one that is known"));
    }
}
