//! The page's pictures of the app, in the page itself.

use std::path::{Component, Path};

use anyhow::Result;
use data_encoding::BASE64;

use super::super::markdown::printable;
use super::super::results::Results;
use crate::keeper::photo::Picture;

/// A picture after one tier, or why there is none.
pub struct PictureView {
    pub tier: &'static str,
    /// A data URI.
    pub source: Option<String>,
    pub reason: String,
}

/// `read` gives the file of a picture, if it is still there.
pub fn view(results: &Results, read: impl Fn(&str) -> Result<Option<Vec<u8>>>) -> Vec<PictureView> {
    let taken = results.tiers.iter().filter_map(|tier| Some((tier.tier.name(), tier.picture.as_ref()?)));
    let view = |(tier, picture): (&'static str, &Picture)| match picture {
        Picture::Taken { file } => {
            let gone = || format!("`{file}` is not there any more");
            let read = if is_inside(file) { read(file) } else { Ok(None) };
            let (png, reason) = match read {
                Ok(png) => (png, gone()),
                Err(why) => (None, format!("{why:#}")),
            };
            let source = png.map(|png| format!("data:image/png;base64,{}", BASE64.encode(&png)));
            PictureView { tier, source, reason: printable(&reason) }
        }
        Picture::NotTaken { not_taken } => PictureView { tier, source: None, reason: printable(not_taken) },
    };
    taken.map(view).collect()
}

/// Whether a name leads to nowhere but below the run's directory.
fn is_inside(file: &str) -> bool {
    Path::new(file).components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_that_is_gone_is_said_to_be() {
        let path = crate::program::root().join("tests/data/runs/green/results.json");
        let mut results: Results = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        results.tiers[0].picture = Some(Picture::Taken { file: "pictures/install.png".into() });
        results.tiers[1].picture = Some(Picture::NotTaken { not_taken: "chromium is not installed".into() });
        let views = view(&results, |_| Ok(None));
        let told: Vec<(&str, &str)> = views.iter().map(|view| (view.tier, view.reason.as_str())).collect();
        let gone = "`pictures/install.png` is not there any more";
        assert_eq!(told, [("install", gone), ("upgrade", "chromium is not installed")]);
        let views = view(&results, |_| Err(anyhow::anyhow!("`x` is no file")));
        assert_eq!((views[0].source.as_ref(), views[0].reason.as_str()), (None, "`x` is no file"));
        let views = view(&results, |file| Ok((file == "pictures/install.png").then(|| b"png".to_vec())));
        assert_eq!(views[0].source.as_deref(), Some("data:image/png;base64,cG5n"));
        results.tiers[0].picture = Some(Picture::Taken { file: "../other/secret".into() });
        assert_eq!(view(&results, |_| Ok(Some(b"png".to_vec())))[0].source, None);
    }
}
