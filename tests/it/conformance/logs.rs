//! The log of a service: both streams, in order, over all its tasks.

use anyhow::{Result, ensure};
use harness::engine::LogLine;

use super::recipe::Recipe;
use super::world::World;

crate::cases! {
    "logs::both_streams_come_in_their_order" => streams,
    "logs::a_log_goes_on_over_restarts" => restarts,
    "logs::lines_are_kept_whatever_they_hold" => odd_lines,
}

fn shell(line: &str) -> Recipe {
    let text = "services:\n  app:\n    <<: *idle\n    command: [\"sh\", \"-c\", \"<LINE>\"]\n    deploy: *quick\n  silent:\n    <<: *idle\n    deploy: *quick\n";
    Recipe::new(text).put("LINE", line)
}

fn texts(log: &[LogLine]) -> Vec<&str> {
    log.iter().map(|line| line.text.as_str()).collect()
}

async fn streams(world: &World) -> Result<()> {
    // A pause between two streams: no engine can know an order that there is not.
    let line = "for i in 1 2 3; do echo out $$i; sleep 0.1; echo err $$i >&2; sleep 0.1; done; exec sleep 1000";
    world.deployed(&shell(line)).await?;
    let log = world.until_log("app", |log| log.len() == 6).await?;
    let lines: Vec<(&str, &str)> = log.iter().map(|line| (line.stream.as_str(), line.text.as_str())).collect();
    let expected = [
        ("stdout", "out 1"),
        ("stderr", "err 1"),
        ("stdout", "out 2"),
        ("stderr", "err 2"),
        ("stdout", "out 3"),
        ("stderr", "err 3"),
    ];
    ensure!(lines == expected, "{lines:?}");
    let task = world.service("app").await?.tasks[0].id.clone();
    ensure!(log.iter().all(|line| line.task == task), "{log:?}");
    for (tail, expected) in [(2, &["out 3", "err 3"][..]), (0, &[]), (100, &texts(&log))] {
        let last = world.engine.logs("app", Some(tail)).await?;
        ensure!(texts(&last) == expected, "the last {tail}: {last:?}");
    }
    ensure!(world.engine.logs("silent", None).await?.is_empty());
    Ok(())
}

async fn restarts(world: &World) -> Result<()> {
    world.deploy(&shell("echo begin; echo end; exit 1")).await?;
    let three = |log: &[LogLine]| log.len() >= 6;
    let log = world.until_log("app", three).await?;
    // A task may be in the middle of its words.
    let whole = &log[..6];
    ensure!(texts(whole) == ["begin", "end", "begin", "end", "begin", "end"], "{log:?}");
    for pair in whole.chunks(2) {
        ensure!(pair[0].task == pair[1].task, "{log:?}");
    }
    ensure!(whole[0].task != whole[2].task && whole[2].task != whole[4].task, "{log:?}");
    let service = world.service("app").await?;
    ensure!(service.tasks.iter().any(|task| task.id == whole[2].task), "{log:?} {service:?}");
    Ok(())
}

async fn odd_lines(world: &World) -> Result<()> {
    let line = r"printf 'a  b\n\n\303\244\n\377\n  indented\ttab\n'; head -c 40000 /dev/zero | tr '\0' x; echo; printf 'no newline'; sleep 0.2; exec sleep 1000";
    let line = line.replace('\\', "\\\\");
    world.deploy(&shell(&line)).await?;
    let log = world.until_log("app", |log| log.iter().any(|line| line.text.contains('x'))).await?;
    let first = &texts(&log)[..5];
    ensure!(first == ["a  b", "", "ä", "\u{fffd}", "  indented\ttab"], "{first:?}");
    // Docker keeps long lines in pieces of 16 KiB.
    let log = world.until_log("app", |log| log.iter().map(|line| line.text.len()).sum::<usize>() >= 40_000).await?;
    let long: Vec<usize> = log.iter().filter(|line| line.text.contains('x')).map(|line| line.text.len()).collect();
    ensure!(long == [40_000], "{long:?}");
    Ok(())
}
