//! Whether the server can pull images, which a registry may refuse to those who pull too much.

use std::time::Duration;

use super::Step;

pub(super) const STEP: Step = Step {
    name: "image pulls",
    needs: &["swarm"],
    remedy: |patient| {
        let image = &patient.asked.image;
        format!(
            "see that the server reaches the registry, and that it has `{image}` (`--image` names another); `docker login` there lifts the limits for strangers"
        )
    },
    deadline: Duration::from_secs(120),
    look: |patient| {
        Box::pin(async {
            let image = &patient.asked.image;
            let digest = patient.host()?.pull(image).await?;
            Ok(format!("`{image}` is {digest}"))
        })
    },
};
