//! Pictures of the app as a visitor sees it, after install and after upgrade: taken beside the assertions, in a cage.
//!
//! What an app shows is not to be trusted: the browser reaches nothing but the app, asks it for nothing but what changes
//! nothing, and goes with its cage. A page with credentials on it is not photographed.

use std::fs;
use std::io::Cursor;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use png::Transformations;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;

use super::journal::Event;
use super::read_back::read_back;
use super::{Keeper, leaks};
use crate::engine::embedded::builtin::{self, photograph};
use crate::engine::embedded::cage::{Cage, Ended, Given, How, Kind, Limits};
use crate::engine::embedded::executable;
use crate::script::run::door;
use crate::tier::Tier;

/// Below the run's directory.
pub const DIR: &str = "pictures";
/// A browser starts in a second, and a page that takes longer than this shows nothing that can be waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// As Debian and others call it.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome-stable", "google-chrome"];
/// What a browser reads of the machine beside its programs: Debian's own starts with the second.
const NEEDED: [&str; 3] = ["/etc/fonts", "/etc/chromium.d", "/etc/chromium"];
const LARGEST_PICTURE: u64 = 8 << 20;
const LARGEST_TEXT: u64 = 32 << 20;
const LARGEST_OUT: u64 = 64 << 20;

/// A picture of the app, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Picture {
    Taken {
        /// A PNG file, by its place in the run's directory.
        file: String,
    },
    NotTaken {
        /// Why.
        not_taken: String,
    },
}

/// A picture that is being taken.
pub struct Photographing {
    tier: Tier,
    task: JoinHandle<()>,
    taken: Arc<StdMutex<Option<Picture>>>,
}

/// Begins to take a picture after the operation of a tier; nobody waits for it but the next operation.
pub async fn begin(keeper: &Arc<Keeper>, tier: Tier) {
    // Whoever asks for one assertion wants its answer, and no picture.
    let is_asked_for = keeper.is_asked_for(&format!("tier::{tier}"));
    if !keeper.spec.settings.screenshots.on || !matches!(tier, Tier::Install | Tier::Upgrade) || !is_asked_for {
        return;
    }
    let mut photographing = keeper.photographing.lock().await;
    // Under the lock: teardown ends what was begun before it, and nothing is begun after that.
    if keeper.is_down() {
        return;
    }
    let taken = Arc::new(StdMutex::new(None));
    let task = tokio::spawn({
        let (keeper, taken) = (keeper.clone(), taken.clone());
        async move {
            let picture = match take(&keeper, tier).await {
                Ok(file) => Picture::Taken { file },
                Err(error) => Picture::NotTaken { not_taken: format!("{error:#}") },
            };
            *taken.lock().unwrap_or_else(PoisonError::into_inner) = Some(picture);
        }
    });
    *photographing = Some(Photographing { tier, task, taken });
}

/// Waits for the picture that is being taken, and journals it. Once the run is to be torn down nobody waits any longer.
pub async fn settle(keeper: &Keeper) {
    // Held to the end: teardown must not remove what the browser still uses.
    let mut photographing = keeper.photographing.lock().await;
    let Some(Photographing { tier, task, taken }) = &mut *photographing else { return };
    let given_up = tokio::select! {
        biased;
        _ = &mut *task => None,
        () = keeper.down() => Some("the run was broken off".to_owned()),
        () = tokio::time::sleep(PATIENCE) => Some(format!("it was not done within {}s", PATIENCE.as_secs())),
    };
    if given_up.is_some() {
        task.abort();
        // The cage goes with it.
        let _ = task.await;
    }
    let picture = taken.lock().unwrap_or_else(PoisonError::into_inner).take();
    let not_taken = given_up.unwrap_or_else(|| "the attempt panicked".into());
    let picture = picture.unwrap_or(Picture::NotTaken { not_taken });
    // Without it nothing is wrong with the run.
    let _ = keeper.journal.write(Event::Photographed { tier: *tier, picture });
    *photographing = None;
}

/// Takes the picture, and returns where it lies. An error is the reason that people read.
async fn take(keeper: &Arc<Keeper>, tier: Tier) -> Result<String> {
    let settings = &keeper.spec.settings;
    let program = find(settings.screenshots.chromium.as_deref())?;
    let url = keeper.app.lock().await.url.clone().map_err(|reason| anyhow!("the app has no address: {reason}"))?;
    let host = keeper.spec.host();
    let (door, inside) = door(&url, &host, &settings.https).await?;
    let dir = keeper.dir.join("cage");
    crate::config::state::create_private(&dir)?;
    let dir = tempfile::Builder::new().prefix("photo-").tempdir_in(dir).context("failed to create a directory")?;
    let out = dir.path().join("out");
    fs::create_dir(&out).context("failed to create a directory")?;
    // The user in the cage is another one; nobody else can get as far as this directory.
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).context("failed to open a directory to the cage")?;
    let address = format!("{inside}{}", settings.recipe_toml.http.path);
    let mut argv = vec![format!("{}/photograph", builtin::BIN), program, address, "/out".into()];
    argv.push(format!("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE {host}"));
    if !settings.https.verify {
        argv.push("--ignore-certificate-errors".into());
    }
    let given = Given { from: out.clone(), target: "/out".into(), writable: Some(LARGEST_OUT) };
    let cage = Cage {
        argv,
        env: [("HOME", "/tmp"), ("TMPDIR", "/tmp"), ("LANG", "C.UTF-8")]
            .map(|(key, value)| (key.into(), value.into()))
            .into(),
        working_dir: "/tmp".into(),
        mounts: NEEDED.into_iter().filter(|dir| Path::new(dir).is_dir()).map(needed).chain([given]).collect(),
        own: Some(executable(dir.path())?),
        kind: Kind::Browser,
        limits: Limits::within(PATIENCE),
        door: Some(door),
        hatch: None,
        deadline: PATIENCE,
    };
    let ended = cage.run(dir.path()).await.context("no cage could be had for the browser")?;
    let picture = picture(&ended)?;
    let texts = read_back(left(&ended)?, photograph::TEXTS, LARGEST_TEXT)?.context("the browser left no text")?;
    if let Some(what) = leaks::stands_in(keeper, &texts).await? {
        bail!("{what} stands on the page");
    }
    dir.close().context("failed to remove the browser's directory")?;
    keep(&keeper.dir, tier, &clean(&picture)?)
}

fn needed(dir: &str) -> Given {
    Given { from: dir.into(), target: dir.into(), writable: None }
}

/// What was photographed, or why nothing was.
fn picture(ended: &Ended) -> Result<Vec<u8>> {
    let out = left(ended)?;
    if let Some(reason) = read_back(out, photograph::REFUSED, LARGEST_TEXT)? {
        // The browser's words may be the app's.
        let reason: String = String::from_utf8_lossy(&reason).chars().take(400).collect();
        bail!("{}", crate::plain::plain(&reason).replace('\n', " "));
    }
    match &ended.how {
        How::Exited(0) => read_back(out, photograph::PICTURE, LARGEST_PICTURE)?.context("the browser left no picture"),
        how => bail!("the browser {how}: {}", ended.output.trim()),
    }
}

/// The directory that the browser wrote to.
fn left(ended: &Ended) -> Result<&OwnedFd> {
    ended.left.first().context("the cage kept nothing of what the browser wrote")
}

/// The picture made anew: whatever else a hostile page got into the file is gone.
fn clean(picture: &[u8]) -> Result<Vec<u8>> {
    let size = |at: usize| Some(u32::from_be_bytes(picture.get(at..at + 4)?.try_into().ok()?));
    ensure!(
        picture.starts_with(b"\x89PNG\r\n\x1a\n") && size(16).zip(size(20)) == Some(photograph::SIZE),
        "the browser left no picture of the size that was asked for"
    );
    let (pixels, frame) = pixels(picture).context("the browser left a broken picture")?;
    let mut made = Vec::new();
    let mut encoder = png::Encoder::new(&mut made, frame.width, frame.height);
    encoder.set_color(frame.color_type);
    encoder.set_depth(frame.bit_depth);
    let written = encoder.write_header().and_then(|mut writer| writer.write_image_data(&pixels));
    written.context("failed to write the picture")?;
    Ok(made)
}

/// What is seen, and nothing of the texts, profiles and times that a PNG may carry along.
fn pixels(picture: &[u8]) -> Result<(Vec<u8>, png::OutputInfo)> {
    let mut decoder = png::Decoder::new(Cursor::new(picture));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().context("it is too large")?];
    let frame = reader.next_frame(&mut pixels)?;
    pixels.truncate(frame.buffer_size());
    Ok((pixels, frame))
}

fn keep(run_dir: &Path, tier: Tier, picture: &[u8]) -> Result<String> {
    let file = format!("{DIR}/{tier}.png");
    crate::config::state::create_private(&run_dir.join(DIR))?;
    fs::write(run_dir.join(&file), picture).with_context(|| format!("failed to write `{file}`"))?;
    Ok(file)
}

/// The browser to use: the given one, else the first that is there.
fn find(given: Option<&Path>) -> Result<String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = |name: &str| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    let found: Option<PathBuf> = match given {
        Some(given) if !given.is_file() => bail!("there is no Chromium at `{}`", given.display()),
        Some(given) => Some(given.to_owned()),
        None => NAMES.into_iter().find_map(on_path),
    };
    Ok(found.context("chromium is not installed")?.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture of one colour, with a text that nobody sees.
    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut made = Vec::new();
        let mut encoder = png::Encoder::new(&mut made, width, height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.add_text_chunk("Comment".into(), "a hidden text".into()).unwrap();
        let pixels = [12, 34, 56].repeat((width * height) as usize);
        encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
        made
    }

    #[test]
    fn a_picture_is_made_anew_and_what_is_none_is_refused() {
        let mut dirty = png(photograph::SIZE.0, photograph::SIZE.1);
        dirty.extend_from_slice(b"<script>");
        let cleaned = clean(&dirty).unwrap();
        let has = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
        for hidden in ["<script>", "a hidden text"] {
            assert!(has(&dirty, hidden.as_bytes()) && !has(&cleaned, hidden.as_bytes()), "{hidden}");
        }
        let (seen, frame) = pixels(&cleaned).unwrap();
        assert_eq!((frame.width, frame.height), photograph::SIZE);
        assert_eq!(seen, pixels(&dirty).unwrap().0, "what is seen must be the same");
        for wrong in [png(10, 10), b"GIF89a".to_vec(), Vec::new()] {
            let error = clean(&wrong).unwrap_err().to_string();
            assert_eq!(error, "the browser left no picture of the size that was asked for");
        }
        let broken = &dirty[..60];
        assert_eq!(clean(broken).unwrap_err().to_string(), "the browser left a broken picture");
    }

    #[test]
    fn a_browser_that_is_not_there_is_named() {
        let error = find(Some(Path::new("/nowhere/chromium"))).unwrap_err().to_string();
        assert_eq!(error, "there is no Chromium at `/nowhere/chromium`");
        assert_eq!(find(Some(Path::new("/bin/sh"))).unwrap(), "/bin/sh");
    }

    #[test]
    fn what_the_browser_refused_comes_before_how_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |how: How| {
            let left = vec![OwnedFd::from(fs::File::open(dir.path()).unwrap())];
            picture(&Ended { how, output: "oops\n".into(), left }).unwrap_err().to_string()
        };
        assert_eq!(refusal(How::Exited(0)), "the browser left no picture");
        assert_eq!(refusal(How::Exited(3)), "the browser exited with code 3: oops");
        let late = "the browser did not end within 30s, and was killed: oops";
        assert_eq!(refusal(How::Late(PATIENCE)), late);
        fs::write(dir.path().join(photograph::REFUSED), "the page asks\nfor a password").unwrap();
        assert_eq!(refusal(How::Exited(0)), "the page asks for a password");
    }
}
