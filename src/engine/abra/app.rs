//! The app in abra's eyes: made once, deployed, and deployed again in place.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::{Abra, origin};
use crate::engine::{Deployment, Origin, ServiceState};
use crate::recipe::abra::{self as marks, Form};
use crate::recipe::secret::SecretValue;

/// abra's own wait may end later than the harness's, which says more about what it saw.
const MARGIN: Duration = Duration::from_secs(30);

/// Makes the app at the first call, and writes its `.env` and has its missing secrets made at every one.
pub(super) async fn prepare(abra: &Abra, deployment: &Deployment) -> Result<BTreeMap<String, SecretValue>> {
    let origin = origin(deployment)?;
    let mut made = abra.made.lock().await;
    if !*made {
        make_whole(origin).await?;
        // From here on there may be something to undeploy.
        *made = true;
        abra.app_new(origin.recipe.as_str()).await?;
        let file = abra.env_file();
        if !file.is_file() {
            bail!("`abra app new` was expected to write `{}`, and did not", file.display());
        }
    }
    check_out(origin).await?;
    let file = abra.env_file();
    std::fs::write(&file, origin.env.render()).with_context(|| format!("failed to write `{}`", file.display()))?;
    secrets(abra, deployment).await
}

/// Inserts what was supplied and has abra make the rest. The answer holds what abra made, as far as it said it.
async fn secrets(abra: &Abra, deployment: &Deployment) -> Result<BTreeMap<String, SecretValue>> {
    let stack = &deployment.stack;
    for (key, object) in &stack.secrets {
        if let Some(value) = deployment.secrets.get(key) {
            abra.swarm.remember_secret(&object.name, value).await?;
        }
    }
    let missing = abra.swarm.missing_secrets(stack).await?;
    if missing.is_empty() {
        return Ok(BTreeMap::new());
    }
    abra.swarm.announce_secrets(&missing)?;
    for (key, object) in stack.secrets.iter().filter(|(_, object)| missing.contains(&object.name)) {
        let Some(value) = deployment.secrets.get(key) else { continue };
        let (name, version) = parts(&object.name, &stack.name)?;
        abra.insert_secret(name, version, value).await?;
    }
    let mut made = BTreeMap::new();
    if !abra.swarm.missing_secrets(stack).await?.is_empty() {
        let said = abra.generate_secrets().await?;
        for (key, object) in
            stack.secrets.iter().filter(|(key, object)| !object.external && !deployment.secrets.contains_key(*key))
        {
            let of_it = |name: &str| {
                name == key || name == object.name || parts(&object.name, &stack.name).is_ok_and(|it| it.0 == name)
            };
            match said.iter().find(|(name, _)| of_it(name)) {
                Some((_, value)) => _ = made.insert(key.clone(), value.clone()),
                None if missing.contains(&object.name) => {
                    abra.note(format!("abra did not say the value of secret `{key}`: nobody looks for it in the logs"))
                }
                None => {}
            }
        }
    }
    let missing = abra.swarm.missing_secrets(stack).await?;
    if !missing.is_empty() {
        abra.swarm.retract_secrets(&missing)?;
        let found = abra.swarm.cut_short_in_secrets(&stack.name, &missing).await?;
        check_name(abra, &stack.name, found)?;
        bail!(
            "abra was expected to make every secret, and said nothing against it; secret not found: {}",
            missing.join(", ")
        );
    }
    Ok(made)
}

/// `<stack>_<name>_<version>`, taken apart as abra puts it together.
fn parts<'a>(secret: &'a str, stack: &str) -> Result<(&'a str, &'a str)> {
    let parts =
        secret.strip_prefix(stack).and_then(|rest| rest.strip_prefix('_')).and_then(|rest| rest.rsplit_once('_'));
    parts.with_context(|| format!("secret `{secret}` is not named `{stack}_<name>_<version>`, as abra names it"))
}

/// Deploys what the checkout holds.
pub(super) async fn deploy(abra: &Abra, deployment: &Deployment) -> Result<()> {
    let origin = origin(deployment)?;
    abra.swarm.deploy_by(&deployment.stack, deploy_by_abra(abra, origin, deployment)).await
}

async fn deploy_by_abra(abra: &Abra, origin: &Origin, deployment: &Deployment) -> Result<()> {
    // Whatever abra did to the checkout since: under chaos it deploys whatever lies there.
    check_out(origin).await?;
    let before = abra.swarm.services().await?;
    let version = match &origin.form {
        Form::Pinned { version } => Some(version.as_str()),
        Form::Chaos { .. } => None,
    };
    let again = version.is_some() && !before.is_empty();
    let said = abra.app_deploy(version, again, origin.deadline + MARGIN).await?;
    let after = abra.swarm.services().await?;
    if after.is_empty() {
        let stack = &deployment.stack.name;
        check_name(abra, stack, abra.swarm.cut_short(stack).await?)?;
    }
    if !said.failed() {
        ensure!(!after.is_empty(), "`abra app deploy` is content, and there is no stack `{}`", deployment.stack.name);
        return Ok(());
    }
    if !is_accepted(&before, &after, &deployment.stack.name, &origin.form) {
        bail!("`abra app deploy` exited with code {}: {}", said.code, said.complaint());
    }
    // abra gives up while a health check is in its start period, and may be wrong about what comes of it.
    abra.note(format!("abra gave up on the deployment, and the harness goes on waiting: {}", said.complaint()));
    Ok(())
}

/// That abra cuts a stack's name off after 45 characters, unless `STACK_NAME` says otherwise, is recalled. Under another
/// name nothing of the app would be found, neither now nor by teardown.
fn check_name(abra: &Abra, expected: &str, found: Option<String>) -> Result<()> {
    let Some(found) = found else { return Ok(()) };
    *super::locked(&abra.misnamed) = Some(found.clone());
    bail!("abra was expected to name the stack `{expected}`, and has cut that off to `{found}`: shorten `zone`")
}

/// Whether Swarm was given the deployment, whatever abra thinks became of it: it carries the marks that were asked for,
/// or its services were changed and then changed back.
fn is_accepted(before: &[ServiceState], after: &[ServiceState], stack: &str, form: &Form) -> bool {
    let app = after.iter().find(|service| service.name == marks::APP);
    let identity = app.map(|app| marks::identity(&app.labels, stack)).unwrap_or_default();
    let marked = match form {
        Form::Pinned { version } => identity.version.as_ref() == Some(version) && !identity.chaos,
        Form::Chaos { revision } => identity.is_commit(&revision.commit),
    };
    let old = |service: &ServiceState| before.iter().find(|old| old.name == service.name).map(|old| old.spec_version);
    let changed = after.iter().any(|service| old(service) != Some(service.spec_version));
    changed && (marked || !before.is_empty())
}

/// The commit again, by force: `abra app new` moves the checkout to the newest release, and other commands may too.
async fn check_out(origin: &Origin) -> Result<()> {
    let (checkout, revision) = (origin.checkout.clone(), origin.revision.clone());
    tokio::task::spawn_blocking(move || checkout.switch(&revision)).await.context("failed to check out")?
}

/// Gives the checkout all objects of its own: abra reads repositories with a library that follows no alternates out of
/// the repository (recalled, and harmless where it is not so).
async fn make_whole(origin: &Origin) -> Result<()> {
    let checkout = origin.checkout.clone();
    tokio::task::spawn_blocking(move || checkout.make_whole()).await.context("failed to copy the recipe's objects")?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secrets_name_is_taken_apart_as_abra_makes_it() {
        assert_eq!(parts("a_b_org_db_password_v12", "a_b_org").unwrap(), ("db_password", "v12"));
        let error = parts("other_db_v1", "a_b_org").unwrap_err().to_string();
        assert_eq!(error, "secret `other_db_v1` is not named `a_b_org_<name>_<version>`, as abra names it");
    }

    fn app(version: u64, label: &str) -> ServiceState {
        let labels = [("coop-cloud.s.version".to_owned(), label.to_owned())].into();
        ServiceState {
            name: "app".into(),
            image: "nginx".into(),
            replicas: 1,
            restarts: Default::default(),
            cycle: Default::default(),
            labels,
            spec_version: version,
            update: None,
            tasks: Vec::new(),
            mounts: Vec::new(),
        }
    }

    #[test]
    fn a_deployment_was_accepted_when_swarm_says_so() {
        let form = Form::Pinned { version: "2".into() };
        let accepted = |before: &[ServiceState], after: &[ServiceState]| is_accepted(before, after, "s", &form);
        assert!(accepted(&[], &[app(1, "2")]));
        assert!(!accepted(&[], &[]), "nothing is there");
        assert!(!accepted(&[], &[app(1, "1")]), "something else was deployed");
        assert!(!accepted(&[app(1, "2")], &[app(1, "2")]), "nothing has moved");
        assert!(accepted(&[app(1, "1")], &[app(3, "1")]), "it was changed, and rolled back");
    }
}
