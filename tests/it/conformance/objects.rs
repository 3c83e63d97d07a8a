//! Secrets and configs.

use anyhow::{Result, ensure};
use harness::engine::UpdateState;

use super::recipe::Recipe;
use super::world::{World, brief, error_of};

crate::cases! {
    "objects::secrets_are_files_with_owner_and_mode" => secrets,
    "objects::a_secret_without_a_value_is_refused" => no_value,
    "objects::configs_are_files_and_templates_are_filled_in" => configs,
    "objects::a_config_may_be_mounted_twice" => mounted_twice,
    "objects::content_cannot_change_under_its_name" => changed_content,
    "objects::a_secret_stays_what_it_was" => same_secret,
}

async fn secrets(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    secrets:
      - plain
      - source: owned
        target: renamed
        uid: "33"
        gid: "34"
        mode: 0400
      - source: elsewhere
        target: /etc/app/key
        mode: 0440
    deploy: *quick
secrets:
  plain: { external: true, name: "${STACK_NAME}_plain_v1" }
  owned: { external: true, name: "${STACK_NAME}_owned_v1" }
  elsewhere: { external: true, name: "${STACK_NAME}_elsewhere_v1" }
"#,
    );
    let value = "hunter2 $x \"y\"\n\u{e4}";
    world.deployed(&recipe.secret("plain", value).secret("owned", value).secret("elsewhere", value)).await?;
    for (path, expected) in
        [("/run/secrets/plain", "0 0 444"), ("/run/secrets/renamed", "33 34 400"), ("/etc/app/key", "0 0 440")]
    {
        let seen = world.sh("app", &format!("cat {path}; stat -c '|%u %g %a' {path}")).await?;
        ensure!(seen == format!("hunter2 $x \"y\"\n\u{e4}|{expected}\n"), "{path}: {seen}");
    }
    let output = world.exec("app", &["sh", "-c", "echo x > /run/secrets/plain"]).await?;
    ensure!(output.code != 0, "a secret can be overwritten");
    ensure!(world.sh("app", "env | grep -c hunter || true").await? == "0\n");
    Ok(())
}

/// Which of the mounts decides is not to be foreseen: the docker CLI gives them in any order.
async fn mounted_twice(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    configs:
      - source: conf
        target: /one
        mode: 0444
      - source: conf
        target: /two
        mode: 0555
    deploy: *quick
configs:
  conf:
    name: ${STACK_NAME}_conf_v1
    file: conf
"#,
    );
    world.deployed(&recipe.file("conf", "x")).await?;
    let seen = world.sh("app", "cat /one /two; echo; stat -c %a /one; stat -c %a /two").await?;
    let lines: Vec<&str> = seen.lines().collect();
    ensure!(lines[0] == "xx", "{seen}");
    let are_told_apart = world.either("modes of one config", true, false)?;
    ensure!((lines[1..] == ["444", "555"]) == are_told_apart && (lines[1] != lines[2]) == are_told_apart, "{seen}");
    Ok(())
}

async fn no_value(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        "services:\n  app:\n    <<: *idle\n    secrets: [pw]\nsecrets:\n  pw:\n    external: true\n    name: ${STACK_NAME}_pw_v1\n",
    );
    let error = error_of(world.deploy(&recipe).await)?;
    ensure!(error.ends_with(&format!("secret not found: {}_pw_v1", world.stack())), "{error}");
    ensure!(world.engine.services().await?.is_empty(), "something was deployed");
    Ok(())
}

async fn configs(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    environment:
      GREETING: good day
    configs:
      - plain
      - source: other
        target: /etc/app/plain.conf
        uid: "33"
        mode: 0555
      - source: filled
        target: /etc/app/filled.conf
    secrets:
      - pw
    deploy: *quick
configs:
  plain:
    name: ${STACK_NAME}_plain_v1
    file: plain.conf
  other:
    name: ${STACK_NAME}_other_v1
    file: plain.conf
  filled:
    name: ${STACK_NAME}_filled_v1
    file: filled.tmpl
    template_driver: golang
secrets:
  pw:
    external: true
    name: ${STACK_NAME}_pw_v1
"#,
    );
    let plain = "$x {{ env \"GREETING\" }} 'a' \\ \u{e4}\n";
    let filled =
        "{{ env \"GREETING\" }}, {{ env \"DOMAIN\" }}!\n{{ if eq (env \"NOTHING\") \"\" }}no{{ else }}yes{{ end }}\n";
    world.deployed(&recipe.file("plain.conf", plain).file("filled.tmpl", filled).secret("pw", "x")).await?;
    for (path, expected) in [("/plain", "0 0 444"), ("/etc/app/plain.conf", "33 0 555")] {
        let seen = world.sh("app", &format!("cat {path}; stat -c '%u %g %a' {path}")).await?;
        ensure!(seen == format!("{plain}{expected}\n"), "{path}: {seen}");
    }
    let seen = world.sh("app", "cat /etc/app/filled.conf").await?;
    ensure!(seen == format!("good day, {}!\nno\n", world.domain), "{seen}");
    Ok(())
}

/// One config, under a name with this version.
fn config(version: &str, content: &str) -> Recipe {
    let recipe = Recipe::new(
        r#"
services:
  app:
    <<: *idle
    configs:
      - conf
    deploy: *quick
configs:
  conf:
    name: ${STACK_NAME}_conf_<VERSION>
    file: conf
"#,
    );
    recipe.put("VERSION", version).file("conf", content)
}

async fn changed_content(world: &World) -> Result<()> {
    world.deployed(&config("v1", "one")).await?;
    let before = world.service("app").await?;
    let error = error_of(world.deploy(&config("v1", "two")).await)?;
    ensure!(error.contains(&format!("failed to update config {}_conf_v1", world.stack())), "{error}");
    ensure!(error.contains("only updates to Labels are allowed"), "{error}");
    let after = world.service("app").await?;
    ensure!(after == before, "{} became {}", brief(&before), brief(&after));
    world.deploy(&config("v2", "two")).await?;
    world.update("app", UpdateState::Completed).await?;
    ensure!(world.sh("app", "cat /conf").await? == "two");
    Ok(())
}

async fn same_secret(world: &World) -> Result<()> {
    let recipe = |name: &str, value: &str| {
        let recipe = Recipe::new(
            r#"
services:
  app:
    <<: *idle
    secrets: [pw]
    deploy: *quick
secrets:
  pw:
    external: true
    name: ${STACK_NAME}_pw_<NAME>
"#,
        );
        recipe.put("NAME", name).secret("pw", value)
    };
    world.deployed(&recipe("v1", "one")).await?;
    world.deployed(&recipe("v1", "one")).await?;
    let service = world.service("app").await?;
    ensure!(service.tasks.len() == 1 && service.update.is_none(), "{}", brief(&service));
    let error = error_of(world.deploy(&recipe("v1", "two")).await)?;
    ensure!(error.contains(&format!("failed to update secret {}_pw_v1", world.stack())), "{error}");
    world.deploy(&recipe("v2", "two")).await?;
    world.update("app", UpdateState::Completed).await?;
    ensure!(world.sh("app", "cat /run/secrets/pw").await? == "two");
    Ok(())
}
