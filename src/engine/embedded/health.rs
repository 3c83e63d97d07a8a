//! Health checks: Docker's rules, with quick probes while a container starts.
//!
//! Docker waits a whole interval before the first probe. Here the first one runs at once and the next ones follow
//! quickly, so that health is known in milliseconds; a failure of such an extra probe counts only as often as Docker's
//! own probes would have failed, so that no container is given less time to come up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::{Health, TaskPhase, said_by_check};
use super::call;
use super::container::{Container, Plan};
use super::core::Core;
use super::image::Image;
use crate::recipe::stack::{HealthTest, Healthcheck};

/// Between two probes of a container that is starting; it grows up to the interval.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Of a probe's output, as much as Docker keeps of it for people.
const MAX_OUTPUT: usize = 300;

/// A complete check, with Docker's defaults filled in.
#[derive(Debug, PartialEq)]
pub struct Check {
    argv: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    retries: u32,
}

/// The check of a service, field by field before the image's; `None` when there is none or it is switched off.
pub fn check(service: Option<&Healthcheck>, image: &Image) -> Option<Check> {
    let (service, image) = (service.cloned().unwrap_or_default(), image.config.healthcheck.clone().unwrap_or_default());
    let argv = match service.test.or(image.test)? {
        HealthTest::None => return None,
        HealthTest::Cmd(argv) => argv,
        HealthTest::Shell(line) => vec!["/bin/sh".into(), "-c".into(), line],
    };
    // Docker reads zero as "not given".
    let given = |time: Option<Duration>| time.filter(|time| !time.is_zero());
    let or = |a, b, default| given(a).or(given(b)).unwrap_or(Duration::from_secs(default));
    Some(Check {
        argv,
        interval: or(service.interval, image.interval, 30),
        timeout: or(service.timeout, image.timeout, 30),
        start_period: or(service.start_period, image.start_period, 0),
        retries: service.retries.or(image.retries).filter(|retries| *retries > 0).unwrap_or(3),
    })
}

/// Probes for as long as the container is not unhealthy, and returns when it is.
pub async fn watch(core: &Core, plan: &Plan, container: &Arc<Container>, check: &Check) {
    let mut verdict = Verdict::new(Instant::now());
    loop {
        let (passed, output) = probe(core, container, check).await;
        let health = verdict.judge(passed, Instant::now(), check);
        core.change(|state| {
            if let Some(task) = state.task_mut(&plan.service, &plan.task) {
                task.health = health;
                task.health_output = output;
                if health == Health::Healthy && task.phase == TaskPhase::Starting {
                    task.phase = TaskPhase::Running;
                    task.running_since = Some(Instant::now());
                }
            }
        });
        if health == Health::Unhealthy {
            return;
        }
        tokio::time::sleep(verdict.pause(check)).await;
    }
}

async fn probe(core: &Core, container: &Container, check: &Check) -> (bool, String) {
    match call::run(core, container, &check.argv, &[], None, check.timeout).await {
        Ok(finished) => {
            let mut output = String::from_utf8_lossy(&finished.stdout).into_owned();
            output.push_str(&String::from_utf8_lossy(&finished.stderr));
            (finished.code == 0, said_by_check(&output, finished.code.into(), MAX_OUTPUT))
        }
        Err(error) => (false, format!("{error:#}").chars().take(MAX_OUTPUT).collect()),
    }
}

/// What the probes so far amount to.
struct Verdict {
    started: Instant,
    /// The last failure that counted; the start of the container before the first.
    counted: Instant,
    failures: u32,
    healthy_once: bool,
    pause: Duration,
}

impl Verdict {
    fn new(now: Instant) -> Verdict {
        Verdict { started: now, counted: now, failures: 0, healthy_once: false, pause: FIRST_PAUSE }
    }

    fn judge(&mut self, passed: bool, now: Instant, check: &Check) -> Health {
        if passed {
            self.healthy_once = true;
            self.failures = 0;
            return Health::Healthy;
        }
        let in_grace = !self.healthy_once && now - self.started < check.start_period;
        let due = self.healthy_once || now - self.counted >= check.interval;
        if !in_grace && due {
            self.failures += 1;
            self.counted = now;
        }
        match (self.failures >= check.retries, self.healthy_once) {
            (true, _) => Health::Unhealthy,
            (false, true) => Health::Healthy,
            (false, false) => Health::Starting,
        }
    }

    /// How long to wait before the next probe.
    fn pause(&mut self, check: &Check) -> Duration {
        if self.healthy_once {
            return check.interval;
        }
        let pause = self.pause.min(check.interval);
        // After three seconds of quick probes the app is a slow starter: do not burn its processor time.
        if self.started.elapsed() > Duration::from_secs(3) {
            self.pause = pause.mul_f32(1.5);
        }
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(interval: u64, start_period: u64, retries: u32) -> Check {
        let (interval, start_period) = (Duration::from_secs(interval), Duration::from_secs(start_period));
        Check { argv: vec![], interval, timeout: interval, start_period, retries }
    }

    /// The health after probes at these times in milliseconds.
    fn after(check: &Check, probes: &[(u64, bool)]) -> Health {
        let start = Instant::now();
        let mut verdict = Verdict::new(start);
        let judge = |(at, passed): &(u64, bool)| verdict.judge(*passed, start + Duration::from_millis(*at), check);
        probes.iter().map(judge).last().unwrap()
    }

    #[test]
    fn extra_failures_while_starting_cost_no_time() {
        let check = seconds(10, 0, 2);
        let quick: Vec<_> = (0..99).map(|n| (n * 100, false)).collect();
        assert_eq!(after(&check, &quick), Health::Starting);
        assert_eq!(after(&check, &[(0, false), (10_000, false), (20_000, false)]), Health::Unhealthy);
    }

    #[test]
    fn a_first_success_is_health_at_once_even_in_the_start_period() {
        assert_eq!(after(&seconds(10, 60, 3), &[(0, false), (100, true)]), Health::Healthy);
    }

    #[test]
    fn failures_in_the_start_period_do_not_count() {
        let check = seconds(1, 60, 1);
        assert_eq!(after(&check, &[(0, false), (30_000, false)]), Health::Starting);
        assert_eq!(after(&check, &[(0, false), (60_000, false)]), Health::Unhealthy);
    }

    #[test]
    fn a_healthy_container_fails_after_its_retries_in_a_row() {
        let check = seconds(1, 0, 2);
        assert_eq!(after(&check, &[(0, true), (1000, false)]), Health::Healthy);
        assert_eq!(after(&check, &[(0, true), (1000, false), (2000, true), (3000, false)]), Health::Healthy);
        assert_eq!(after(&check, &[(0, true), (1000, false), (2000, false)]), Health::Unhealthy);
    }
}
