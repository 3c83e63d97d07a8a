//! Whose fault it is when an engine answers with an error.

use crate::engine;
use crate::fault::Failure;

/// The recipe's, unless the engine could not even be asked, or is in trouble of its own.
pub fn blame(error: anyhow::Error) -> Failure {
    match engine::is_out_of_reach(&error) {
        true => Failure::infrastructure(error),
        false => Failure::recipe(error),
    }
}
