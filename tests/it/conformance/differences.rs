//! Where one engine cannot be like the other, by name, and why.

use anyhow::{Context as _, Result};
use libtest_mimic::Trial;

use super::world::On;

/// A difference that cannot be removed. Its case asserts what each of the engines does, so that one that has gone away
/// does not stay in the list.
pub struct Difference {
    pub name: &'static str,
    /// The case that shows it.
    pub case: &'static str,
    pub reason: &'static str,
}

pub const DIFFERENCES: &[Difference] = &[
    Difference {
        name: "modes of one config",
        case: "objects::a_config_may_be_mounted_twice",
        reason: "an agent of Swarm keeps one file for a config in each container, so that two mounts share the mode of one",
    },
    Difference {
        name: "the size of an image",
        case: "usage::an_image_has_a_size_and_a_stand_in_has_none",
        reason: "what stands in for an image here is made of the machine's own programs, and has no size",
    },
];

/// What is expected of this engine, by a difference that the running case is listed for.
pub fn either<T>(name: &str, case: &str, on: On, embedded: T, swarm: T) -> Result<T> {
    let listed = DIFFERENCES.iter().any(|it| it.name == name && it.case == case);
    listed.then_some(()).with_context(|| format!("the case `{case}` is not listed for a difference `{name}`"))?;
    Ok(match on {
        On::Embedded => embedded,
        On::Swarm | On::Abra => swarm,
    })
}

/// The list names cases that exist, and gives a reason for each.
pub fn trial(cases: Vec<&'static str>) -> Trial {
    Trial::test("conformance::differences::each_is_shown_by_a_case_and_has_a_reason", move || {
        for difference in DIFFERENCES {
            if !cases.contains(&difference.case) || difference.reason.is_empty() {
                return Err(format!("the difference `{}` is shown by no case", difference.name).into());
            }
        }
        Ok(())
    })
}
