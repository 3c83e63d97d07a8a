//! A keeper that is gone fails every trial that is left. Why it is gone is said at length where it was noticed first, and
//! with that tier's operation; everywhere else one line says where.

use std::sync::OnceLock;

use super::selection::operation_name;
use crate::fault::Failure;
use crate::keeper::silence;
use crate::tier::Tier;

/// The first trial whose keeper was gone, and its tier.
#[derive(Default)]
pub struct ToldOnce(OnceLock<(String, Option<Tier>)>);

impl ToldOnce {
    /// What a trial says of its failure.
    pub fn said_of(&self, trial: &str, tier: Option<Tier>, failure: Failure) -> Failure {
        if !silence::is_behind(&failure) {
            return failure;
        }
        let (first, of) = self.0.get_or_init(|| (trial.to_owned(), tier));
        let is_operation = tier.is_some_and(|tier| *of == Some(tier) && trial == operation_name(tier));
        if trial == first || is_operation { failure } else { silence::as_told_by(first) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;
    use crate::keeper::silence::Silence;

    #[test]
    fn the_first_trial_and_its_operation_say_why_and_the_others_say_where_that_stands() {
        let gone = || Silence::default().failure(anyhow::anyhow!("it was killed")).downcast::<Failure>().unwrap();
        let (told, short) = (ToldOnce::default(), silence::as_told_by("generic::backup::stored"));
        let other = Failure::new(Fault::Recipe, "expected 1, seen 2");
        assert_eq!(told.said_of("generic::install::answers", Some(Tier::Install), other.clone()), other);
        let said = |trial: &str, tier| told.said_of(trial, Some(tier), gone());
        assert_eq!(said("generic::backup::stored", Tier::Backup), gone());
        assert_eq!(said("tier::backup", Tier::Backup), gone());
        assert_eq!(said("generic::backup::other", Tier::Backup), short);
        assert_eq!(said("tier::restore", Tier::Restore), short);
        assert_eq!(said("generic::backup::stored", Tier::Backup), gone());
    }
}
