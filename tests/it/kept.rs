//! The pages that are kept of recorded runs: what would be the same in all of them, or stands beside them as a file, is not
//! repeated there.

use std::path::{Path, PathBuf};

use crate::runner::checkout;

const STYLE: &str = "/* templates/report.css */\n";

/// A page with a line in the place of the stylesheet, and names in the places of the run's pictures.
pub fn without_repetitions(page: &str, run: &Path) -> String {
    let mut page = page.to_owned();
    for (whole, short) in repetitions(run) {
        assert!(page.contains(&whole), "what `{}` stands for has to be in the page", short.trim());
        page = page.replace(&whole, &short);
    }
    page
}

/// The page of a recorded run, as it was written.
pub fn whole(run: &Path) -> String {
    let mut page = std::fs::read_to_string(run.join("report.html")).unwrap();
    for (whole, short) in repetitions(run) {
        assert!(page.contains(&short), "`{}` has to be in the page of {}", short.trim(), run.display());
        page = page.replace(&short, &whole);
    }
    page
}

fn repetitions(run: &Path) -> Vec<(String, String)> {
    let mut pairs = vec![(std::fs::read_to_string(checkout().join("templates/report.css")).unwrap(), STYLE.to_owned())];
    let pictures = std::fs::read_dir(run.join("pictures")).into_iter().flatten().flatten();
    let mut pictures: Vec<PathBuf> = pictures.map(|entry| entry.path()).collect();
    pictures.sort();
    // An app may look the same after its upgrade: the first name stands for both.
    for file in pictures {
        let png = data_encoding::BASE64.encode(&std::fs::read(&file).unwrap());
        let name = file.file_name().unwrap().to_str().unwrap();
        let uri = format!("data:image/png;base64,{png}");
        if pairs.iter().all(|(whole, _)| *whole != uri) {
            pairs.push((uri, format!("pictures/{name}")));
        }
    }
    pairs
}
