//! The cache of unpacked images, whole or not there at all.

use std::collections::BTreeMap;

use super::*;
use crate::engine::embedded::image;

#[test]
fn a_tree_is_removed_whatever_its_modes() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("closed/inner")).unwrap();
    fs::write(tree.join("closed/inner/file"), "x").unwrap();
    std::os::unix::fs::symlink(dir.path(), tree.join("closed/link")).unwrap();
    fs::set_permissions(tree.join("closed/inner"), Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(tree.join("closed"), Permissions::from_mode(0o500)).unwrap();
    remove_tree(&tree).unwrap();
    assert!(!tree.exists() && dir.path().exists());
    remove_tree(&tree).unwrap();
}

#[test]
fn what_is_no_directory_is_not_removed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    let error = remove_tree(&file).unwrap_err().to_string();
    assert_eq!(error, format!("failed to remove `{}`", file.display()));
}

/// The executable of unit tests is libtest's, which knows no stages.
#[tokio::test]
async fn an_executable_without_the_stage_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let entry = Entry::new(&dir.path().join("cache"), Digest::of(b""));
    let Claim::Missing(partial) = entry.claim().await.unwrap() else { panic!("an empty cache has an image") };
    let error = image::unpack::unpack(partial, Vec::new(), Vec::new()).await.unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("the stage `__unpack` gave no result and exited with code 0; does this executable call"),
        "{error}"
    );
    let left = fs::read_dir(dir.path().join("cache")).unwrap().count();
    assert_eq!(left, 1, "more than the lock was left");
}

#[tokio::test]
async fn builtins_and_the_host_need_no_cache() {
    let map = BTreeMap::from([("nginx".to_owned(), "builtin:static-web".to_owned())]);
    let nowhere = Path::new("/nowhere/at/all");
    let found = image::resolve("nginx:1.27", &map, nowhere).await.unwrap();
    assert_eq!((found.reference.as_str(), &found.root, &found.digest), ("nginx:1.27", &image::Root::Builtin, &None));
    let found = image::resolve("host", &map, nowhere).await.unwrap();
    assert_eq!((found.root, found.config.cmd), (image::Root::Host, vec!["/bin/sh".to_owned()]));
    let error = image::resolve("builtin:web", &map, nowhere).await.unwrap_err().to_string();
    let expected = "image `builtin:web` stands for `builtin:web`, but the only built-in image is `builtin:static-web`";
    assert_eq!(error, expected);
}

/// Callers spawn it on a runtime with several threads.
#[test]
fn resolving_may_move_between_threads() {
    fn assert_send(_: impl Send) {}
    assert_send(image::resolve("nginx", &BTreeMap::new(), Path::new("/cache")));
}
