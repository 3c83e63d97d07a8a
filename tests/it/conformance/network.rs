//! Names and ports: between services, and from this machine.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::engine::UpdateState;
use harness::poll::Look;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::recipe::Recipe;
use super::world::World;

crate::cases! {
    "network::services_reach_each_other_by_name_and_alias" => names,
    "network::services_of_different_networks_do_not" => apart,
    "network::an_internal_network_is_reached_all_the_same" => internal,
    "network::a_port_accepts_connections_or_does_not" => connects,
    "network::a_published_address_stays_over_updates" => published,
    "network::a_published_address_leads_to_every_replica" => replicas,
}

/// A web server and three others, on two networks.
const STACK: &str = r#"
services:
  web:
    <<: *web
    deploy: *quick
    networks:
      front:
        aliases: [shop, www.example.org]
  near:
    <<: *idle
    deploy: *quick
    networks: [front, back]
  far:
    <<: *idle
    deploy: *quick
    networks: [back]
networks:
  front:
  back:
"#;

async fn names(world: &World) -> Result<()> {
    world.deployed(&Recipe::new(STACK)).await?;
    let full = format!("{}_web", world.stack());
    for name in ["web", "shop", "www.example.org", "tasks.web", &full] {
        // What the page is differs by image; that a server answers does not.
        let line = format!("curl -sS --max-time 5 -o /dev/null http://{name}/");
        world.until_sh("near", &line).await.with_context(|| format!("`{name}`"))?;
    }
    // A service is known to itself, and the other two to each other.
    for (from, name) in [("web", "web"), ("far", "near"), ("near", "far")] {
        world.until_sh(from, &format!("getent hosts {name}")).await?;
    }
    Ok(())
}

async fn apart(world: &World) -> Result<()> {
    world.deployed(&Recipe::new(STACK)).await?;
    world.until_sh("far", "getent hosts near").await?;
    for name in ["web", "shop", "tasks.web"] {
        let output = world.exec("far", &["getent", "hosts", name]).await?;
        ensure!(output.code == 2 && output.stdout.is_empty(), "`{name}` is known: {output:?}");
    }
    world.engine.write_file("web", PAGE, b"of the front").await?;
    let address = world.until_sh("near", "getent hosts tasks.web").await?;
    let address = address.split_whitespace().next().context("no address")?;
    let line = format!("curl -sS --max-time 2 http://{address}/conformance.html");
    let page = world.until_sh("near", &line).await?;
    ensure!(page == "of the front", "{page}");
    // Its packets may leave by the way to the world and be answered there, so the page decides and not the connection.
    let output = world.exec("far", &["sh", "-c", &line]).await?;
    ensure!(!output.text().contains("of the front"), "the other network is reached: {output:?}");
    Ok(())
}

async fn internal(world: &World) -> Result<()> {
    let recipe = Recipe::new(
        r#"
services:
  web:
    <<: *web
    deploy: *quick
    networks: [inner]
networks:
  inner:
    internal: true
"#,
    );
    world.deployed(&recipe).await?;
    world.wait("port 80", || async { look(world.engine.connects("web", 80).await?) }).await?;
    ensure!(!world.engine.connects("web", 81).await?);
    Ok(())
}

fn look(ready: bool) -> Result<Look<()>> {
    Ok(if ready { Look::Ready(()) } else { Look::NotYet("it refuses them".into()) })
}

async fn connects(world: &World) -> Result<()> {
    let text = "services:\n  web:\n    <<: *web\n    deploy: *quick\n  app:\n    <<: *idle\n    deploy: *quick\n";
    world.deployed(&Recipe::new(text)).await?;
    world.wait("port 80", || async { look(world.engine.connects("web", 80).await?) }).await?;
    for (service, port) in [("web", 81), ("app", 80)] {
        ensure!(!world.engine.connects(service, port).await?, "port {port} of `{service}` accepts connections");
    }
    Ok(())
}

/// Status and body of a page, asked for by HTTP/1.0, so that the end of the connection is the end of the body.
async fn get(address: &str, path: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address.trim_start_matches("http://")).await?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: conformance\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        anyhow::Ok(answer)
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), exchange).await.context("no answer within 5s")??;
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer by HTTP: {answer:?}"))?;
    let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
    Ok((status.with_context(|| format!("no status: {head:?}"))?, body.to_owned()))
}

/// The first page of a server that may not listen yet.
async fn answered(world: &World, address: &str, path: &str) -> Result<(u16, String)> {
    let look = || async {
        Ok(match get(address, path).await {
            Ok(answer) => Look::Ready(answer),
            Err(error) => Look::NotYet(format!("{error:#}")),
        })
    };
    world.wait(format!("an answer from {address}"), look).await
}

const PAGE: &str = "/usr/share/nginx/html/conformance.html";

fn web(tag: &str, replicas: u32) -> Recipe {
    let recipe = Recipe::new(
        r#"
services:
  web:
    <<: *web
    image: nginx:<TAG>
    deploy:
      replicas: <N>
      update_config: { monitor: 200ms }
"#,
    );
    recipe.put("TAG", tag).put("N", &replicas.to_string())
}

async fn published(world: &World) -> Result<()> {
    // The address is there before anything answers under it.
    let address = world.engine.publish("web", 80).await?;
    ensure!(address.starts_with("http://127.0.0.1:"), "{address}");
    ensure!(get(&address, "/").await.is_err(), "something answers");
    for tag in ["1.27.4", "1.27.5"] {
        world.deployed(&web(tag, 1)).await?;
        let service = world.service("web").await?;
        ensure!(tag == "1.27.4" || service.update.is_some_and(|it| it.state == UpdateState::Completed));
        let (status, _) = answered(world, &address, "/conformance.html").await?;
        ensure!(status == 404, "{status}");
        world.engine.write_file("web", PAGE, tag.as_bytes()).await?;
        let page = get(&address, "/conformance.html").await?;
        ensure!(page == (200, tag.to_owned()), "{page:?}");
    }
    ensure!(world.engine.publish("web", 80).await? == address, "the same again is the same");
    Ok(())
}

async fn replicas(world: &World) -> Result<()> {
    world.deployed(&web("1.27.4", 2)).await?;
    let address = world.engine.publish("web", 80).await?;
    answered(world, &address, "/").await?;
    // Only the newest task has the page.
    world.engine.write_file("web", PAGE, b"x").await?;
    let statuses = std::sync::Mutex::new(std::collections::BTreeSet::new());
    world
        .wait("both replicas", || async {
            let seen = get(&address, "/conformance.html").await;
            let mut statuses = statuses.lock().unwrap();
            statuses.extend(seen.ok().map(|(status, _)| status));
            Ok(if statuses.len() == 2 { Look::Ready(()) } else { Look::NotYet(format!("{statuses:?}")) })
        })
        .await?;
    let statuses = statuses.into_inner().unwrap();
    ensure!(statuses == [200, 404].into(), "{statuses:?}");
    Ok(())
}
