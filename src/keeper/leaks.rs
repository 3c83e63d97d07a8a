//! Whether a secret stands in anything that the run wrote: looked for at its end, in every file that stays.
//!
//! Besides the app's secrets there is a canary: a value that stands in the keeper's environment and nowhere else. Where
//! it is found, the environment of the process that deploys has leaked, with whatever else stands in it.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Keeper;
use super::protocol::Hidden;
use crate::mask::Masks;

/// The variable of the canary.
pub const CANARY: &str = "RECIPE_HARNESS_CANARY";

const CANARY_TEXT: &str = "the canary of the keeper's environment";

/// A canary's value.
pub fn new_canary() -> String {
    format!("canary-{:032x}", rand::random::<u128>())
}

/// One sentence for every file of the run's directory that holds a secret or the canary, and for every one that could
/// not be read.
pub async fn search(keeper: &Keeper) -> Vec<String> {
    let mut found = Vec::new();
    for (what, masks) in searches(keeper).await {
        // What was decided before there was any secret may say the same by chance: a supplied one can be a plain word.
        let before = |file: &String| *file == "run.json" && what != CANARY_TEXT;
        match masks.and_then(|masks| files_with(&keeper.dir, &masks)) {
            Ok(files) => found
                .extend(files.into_iter().filter(|file| !before(file)).map(|file| format!("`{file}` holds {what}"))),
            Err(error) => found.push(format!("nobody knows whether the run's files hold {what}: {error:#}")),
        }
    }
    found
}

/// What must stand nowhere, each with its name.
async fn searches(keeper: &Keeper) -> Vec<(String, Result<Masks>)> {
    let secrets = keeper.app.lock().await.secrets.clone();
    let secrets = secrets.iter();
    let mut searches: Vec<(String, Result<Masks>)> = secrets
        .map(|(name, value)| (format!("the value of the secret `{name}`"), Masks::new([value.expose()])))
        .collect();
    if let Ok(canary) = std::env::var(CANARY) {
        searches.push((CANARY_TEXT.into(), Masks::new([canary.as_str()])));
    }
    searches
}

/// All that must stand nowhere, for whoever writes something after this keeper has searched.
pub async fn values(keeper: &Keeper) -> Hidden {
    let secrets = keeper.app.lock().await.secrets.clone();
    let secrets = secrets.values().map(|value| value.expose().to_owned());
    Hidden(secrets.chain(std::env::var(CANARY).ok()).collect())
}

/// What of all that must stand nowhere stands in a text.
pub async fn stands_in(keeper: &Keeper, text: &[u8]) -> Result<Option<String>> {
    for (what, masks) in searches(keeper).await {
        if masks?.finds_bytes(text) {
            return Ok(Some(what));
        }
    }
    Ok(None)
}

/// The files and directories below a directory in whose content or name one of the values stands, in any encoding.
pub fn files_with(dir: &Path, masks: &Masks) -> Result<Vec<String>> {
    let (mut directories, mut found) = (vec![dir.to_owned()], Vec::new());
    while let Some(current) = directories.pop() {
        for entry in fs::read_dir(&current).with_context(|| format!("failed to list `{}`", current.display()))? {
            let entry = entry.with_context(|| format!("failed to list `{}`", current.display()))?;
            let kind = entry.file_type().with_context(|| format!("failed to look at `{}`", entry.path().display()))?;
            let is_named = masks.finds_bytes(entry.file_name().as_encoded_bytes());
            if is_named || kind.is_file() && holds(&entry.path(), masks)? {
                let name = entry.path().strip_prefix(dir).unwrap_or(&entry.path()).display().to_string();
                found.push(masks.mask(&name));
            }
            if kind.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Whether one of the values stands in a file. It is read in pieces: what is cut by one is found in the masked text of both.
pub fn holds(path: &Path, masks: &Masks) -> Result<bool> {
    let failed = || format!("failed to read `{}`", path.display());
    let mut file = File::open(path).with_context(failed)?;
    let (mut buffer, mut tail) = (vec![0; 256 * 1024], Vec::new());
    loop {
        let read = file.read(&mut buffer).with_context(failed)?;
        if read == 0 {
            return Ok(false);
        }
        tail.extend_from_slice(&buffer[..read]);
        if masks.finds_bytes(&tail) {
            return Ok(true);
        }
        let kept = tail.len().saturating_sub(masks.longest());
        tail.drain(..kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_found_in_any_file_and_encoding() {
        let dir = tempfile::tempdir().unwrap();
        let canary = new_canary();
        let masks = Masks::new([canary.as_str()]).unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        fs::write(dir.path().join("events.jsonl"), "nothing here").unwrap();
        fs::write(dir.path().join("empty"), "").unwrap();
        assert_eq!(files_with(dir.path(), &masks).unwrap(), Vec::<String>::new());
        let encoded = data_encoding::BASE64.encode(format!("a:{canary}").as_bytes());
        // Across the border of two pieces.
        let text = format!("{}{encoded}", "x".repeat(256 * 1024 - 10));
        fs::write(dir.path().join("logs/app.log"), text).unwrap();
        fs::write(dir.path().join("keeper.log"), &canary).unwrap();
        assert_eq!(files_with(dir.path(), &masks).unwrap(), ["keeper.log", "logs/app.log"]);
        // A name is read by everybody who lists the directory; it is not repeated.
        fs::create_dir(dir.path().join(format!("of {canary}"))).unwrap();
        fs::write(dir.path().join(format!("logs/{canary}.log")), "").unwrap();
        let named = ["keeper.log", "logs/***.log", "logs/app.log", "of ***"];
        assert_eq!(files_with(dir.path(), &masks).unwrap(), named);
        assert!(files_with(&dir.path().join("none"), &masks).unwrap_err().to_string().starts_with("failed to list"));
    }
}
