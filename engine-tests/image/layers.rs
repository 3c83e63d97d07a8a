//! What layers do to a root file system.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Result, ensure};
use tar::EntryType;

use crate::Case;
use crate::fixture::{Bench, Layer, Tar, root, tree};

pub const CASES: &[Case] = &[
    ("layers::plain_gzip_and_zstd_are_unpacked", plain_gzip_and_zstd_are_unpacked),
    ("layers::whiteouts_hide_what_lower_layers_hold", whiteouts_hide_what_lower_layers_hold),
    ("layers::whiteouts_spare_what_their_own_layer_holds", whiteouts_spare_what_their_own_layer_holds),
    ("layers::opaque_directories_keep_their_own_layers_entries", opaque_directories_keep_their_own_layers_entries),
    ("layers::files_directories_and_links_replace_each_other", files_directories_and_links_replace_each_other),
    ("layers::a_repeated_directory_keeps_its_content", a_repeated_directory_keeps_its_content),
    ("layers::absolute_symlinks_lead_into_the_image", absolute_symlinks_lead_into_the_image),
    ("layers::hard_links_share_a_file", hard_links_share_a_file),
    ("layers::a_hard_link_to_nothing_is_refused", a_hard_link_to_nothing_is_refused),
    ("layers::modes_are_kept", modes_are_kept),
    ("layers::owners_are_kept_by_root_and_counted_by_others", owners_are_kept_by_root_and_counted_by_others),
    ("layers::devices_are_skipped", devices_are_skipped),
    ("layers::long_names_are_read", long_names_are_read),
    ("layers::paths_with_two_dots_are_refused", paths_with_two_dots_are_refused),
    ("layers::absolute_paths_stay_in_the_image", absolute_paths_stay_in_the_image),
    ("layers::writing_through_a_symlink_stays_in_the_image", writing_through_a_symlink_stays_in_the_image),
    ("layers::whiteouts_through_a_symlink_stay_in_the_image", whiteouts_through_a_symlink_stay_in_the_image),
    ("layers::hard_links_to_the_host_are_refused", hard_links_to_the_host_are_refused),
    ("layers::whiteouts_of_the_parent_are_refused", whiteouts_of_the_parent_are_refused),
    ("layers::endless_symlinks_are_refused", endless_symlinks_are_refused),
    ("layers::a_file_in_the_way_is_refused", a_file_in_the_way_is_refused),
    ("layers::unknown_types_are_refused", unknown_types_are_refused),
    ("layers::broken_streams_are_refused", broken_streams_are_refused),
];

/// Unpacks the layers and compares the result, line by line.
fn check(layers: &[Layer], expected: &[&str]) -> Result<()> {
    let bench = Bench::with_layers(layers)?;
    let found = tree(&root(&bench.resolve()?));
    let expected: String = expected.iter().map(|line| format!("{line}\n")).collect();
    ensure!(found == expected, "expected:\n{expected}found:\n{found}");
    Ok(())
}

/// Fails to unpack the layers, with this last cause, and leaves nothing.
fn check_refusal(layers: &[Layer], cause: &str) -> Result<()> {
    let bench = Bench::with_layers(layers)?;
    let refusal = bench.refusal()?;
    ensure!(refusal.starts_with("failed to resolve image `app:1`: failed to unpack into `DIR/cache`: "), "{refusal}");
    ensure!(refusal.contains(cause), "expected: {cause}\nfound: {refusal}");
    let left = bench.cached()?;
    ensure!(left.is_empty(), "left in the cache: {left:?}");
    Ok(())
}

fn plain_gzip_and_zstd_are_unpacked() -> Result<()> {
    let layers = [
        Tar::new().file("plain", "1").plain(),
        Tar::new().file("gzip", "2").gzip(),
        Tar::new().file("zstd", "3").zstd(),
    ];
    check(&layers, &["gzip 644 2", "plain 644 1", "zstd 644 3"])
}

fn whiteouts_hide_what_lower_layers_hold() -> Result<()> {
    let lower = Tar::new().file("a/kept", "1").file("a/file", "1").file("a/dir/x", "1").symlink("a/link", "/etc");
    let upper = Tar::new()
        .whiteout("a/.wh.file")
        .whiteout("a/.wh.dir")
        .whiteout("a/.wh.link")
        .whiteout("a/.wh.never-there")
        .whiteout("not/there/.wh.x")
        .whiteout("a/kept/.wh.below-a-file")
        .whiteout(".wh..wh.plnk");
    check(&[lower.gzip(), upper.gzip()], &["a/ 755", "a/kept 644 1"])
}

fn whiteouts_spare_what_their_own_layer_holds() -> Result<()> {
    let lower = Tar::new().file("dir/old", "1").file("file", "1");
    // The order of entries in a layer means nothing.
    let upper = Tar::new().file("dir/new", "2").whiteout(".wh.dir").file("file", "2").whiteout(".wh.file");
    check(&[lower.gzip(), upper.gzip()], &["dir/ 755", "dir/new 644 2", "file 644 2"])
}

fn opaque_directories_keep_their_own_layers_entries() -> Result<()> {
    let lower = || Tar::new().file("d/old", "1").file("d/sub/old", "1").file("d/both", "1").file("e/old", "1");
    let expected = ["d/ 755", "d/both 644 2", "d/sub/ 755", "d/sub/new 644 2", "e/ 755", "e/old 644 1"];
    let last = Tar::new().dir("d", 0o755).file("d/both", "2").file("d/sub/new", "2").whiteout("d/.wh..wh..opq");
    check(&[lower().gzip(), last.gzip()], &expected)?;
    let first = Tar::new().whiteout("d/.wh..wh..opq").dir("d", 0o755).file("d/both", "2").file("d/sub/new", "2");
    check(&[lower().gzip(), first.gzip()], &expected)?;
    // Through a symbolic link the directory is the same one.
    let link = Tar::new().symlink("l", "/d");
    let through = Tar::new().file("l/both", "2").file("d/sub/new", "2").whiteout("l/.wh..wh..opq");
    let mut expected = expected.to_vec();
    expected.push("l -> /d");
    check(&[lower().gzip(), link.gzip(), through.gzip()], &expected)
}

fn files_directories_and_links_replace_each_other() -> Result<()> {
    let lower = Tar::new().file("file", "1").file("dir/x", "1").symlink("link", "dir").file("l/x", "1");
    let upper = Tar::new().dir("file", 0o700).file("file/x", "2").file("dir", "2").dir("link", 0o755);
    let upper = upper.symlink("l", "file");
    let expected = ["dir 644 2", "file/ 700", "file/x 644 2", "l -> file", "link/ 755"];
    check(&[lower.gzip(), upper.gzip()], &expected)
}

fn a_repeated_directory_keeps_its_content() -> Result<()> {
    let lower = Tar::new().dir("d", 0o755).file("d/x", "1");
    let upper = Tar::new().dir("d", 0o1777).dir("./", 0o711);
    let bench = Bench::with_layers(&[lower.gzip(), upper.gzip()])?;
    let root = root(&bench.resolve()?);
    ensure!(tree(&root) == "d/ 1777\nd/x 644 1\n", "{}", tree(&root));
    ensure!(fs::metadata(&root)?.mode() & 0o7777 == 0o711, "the root's mode is {:o}", fs::metadata(&root)?.mode());
    Ok(())
}

fn absolute_symlinks_lead_into_the_image() -> Result<()> {
    let lower = Tar::new().dir("run", 0o755).symlink("var/run", "/run").symlink("var/lock", "/run/lock/../lock");
    let lower = lower.symlink("up", "../../../run");
    let upper = Tar::new().file("var/run/pid", "1").file("var/lock/x", "2").file("up/up", "3");
    let expected = [
        "run/ 755",
        "run/lock/ 755",
        "run/lock/x 644 2",
        "run/pid 644 1",
        "run/up 644 3",
        "up -> ../../../run",
        "var/ 755",
        "var/lock -> /run/lock/../lock",
        "var/run -> /run",
    ];
    check(&[lower.gzip(), upper.gzip()], &expected)
}

fn hard_links_share_a_file() -> Result<()> {
    let lower = Tar::new().file("bin/a", "1").hard_link("bin/b", "bin/a").symlink("s", "/nowhere").symlink("d", "/bin");
    let upper = Tar::new().hard_link("c", "/d/a").hard_link("t", "s");
    let bench = Bench::with_layers(&[lower.gzip(), upper.gzip()])?;
    let root = root(&bench.resolve()?);
    let inode = |path: &str| fs::symlink_metadata(root.join(path)).map(|found| found.ino());
    ensure!(inode("bin/a")? == inode("bin/b")? && inode("bin/a")? == inode("c")?, "{}", tree(&root));
    ensure!(inode("s")? == inode("t")?, "{}", tree(&root));
    Ok(())
}

fn a_hard_link_to_nothing_is_refused() -> Result<()> {
    let layer = Tar::new().hard_link("b", "a");
    check_refusal(&[layer.gzip()], "failed to unpack `b`: it is a hard link to `a`, which is not there")
}

fn modes_are_kept() -> Result<()> {
    let layer = Tar::new().mode("su", 0o4755).mode("sg", 0o2755).mode("none", 0o400).dir("tmp", 0o1777);
    let layer = layer.dir("closed", 0o555).file("closed/file", "x").dir("shared", 0o2775).file("shared/file", "x");
    let expected = [
        "closed/ 555",
        "closed/file 644 x",
        "none 400 x",
        "sg 2755 x",
        "shared/ 2775",
        "shared/file 644 x",
        "su 4755 x",
        "tmp/ 1777",
    ];
    check(&[layer.gzip()], &expected)
}

fn owners_are_kept_by_root_and_counted_by_others() -> Result<()> {
    let layer = Tar::new().owned("mine", "x", 0o644, 0, 0).owned("other", "x", 0o4755, 101, 102);
    let bench = Bench::with_layers(&[layer.gzip()])?;
    let image = bench.resolve()?;
    let root = root(&image);
    let owner =
        |path: &str| fs::metadata(root.join(path)).map(|found| (found.uid(), found.gid(), found.mode() & 0o7777));
    let me = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    // Root's containers have ids of their own, which are nobody's on the machine.
    let first = harness::engine::embedded::first_id();
    let mine = first.map_or(me, |first| (first, first));
    let (other, failed) = match me.0 {
        0 => ((first.unwrap_or(0) + 101, first.unwrap_or(0) + 102, 0o4755), 0),
        _ => ((me.0, me.1, 0o4755), 1),
    };
    ensure!(owner("mine")? == (mine.0, mine.1, 0o644), "{:?}", owner("mine")?);
    ensure!(owner("other")? == other, "{:?}", owner("other")?);
    ensure!(image.unowned_files() == failed, "{} files are not their owner's", image.unowned_files());
    Ok(())
}

fn devices_are_skipped() -> Result<()> {
    let lower = Tar::new().file("dev/null", "a file");
    let upper = Tar::new().special("dev/null", EntryType::Char).special("dev/sda", EntryType::Block);
    let upper = upper.special("dev/fifo", EntryType::Fifo).special("pax", EntryType::XGlobalHeader);
    check(&[lower.gzip(), upper.gzip()], &["dev/ 755"])
}

fn long_names_are_read() -> Result<()> {
    let (dir, name) = ("d".repeat(90), "n".repeat(150));
    let path = format!("{dir}/{name}");
    let layer = Tar::new().file(&path, "x").symlink("link", &path);
    check(&[layer.gzip()], &[&format!("{dir}/ 755"), &format!("{path} 644 x"), &format!("link -> {path}")])
}

fn paths_with_two_dots_are_refused() -> Result<()> {
    for name in ["../evil", "a/../../evil", "/../evil"] {
        let layer = Tar::new().hostile(name, EntryType::Regular, "");
        check_refusal(
            &[layer.gzip()],
            &format!("failed to unpack `{name}`: `..` in the path of an entry is not allowed"),
        )?;
    }
    Ok(())
}

fn absolute_paths_stay_in_the_image() -> Result<()> {
    let layer = Tar::new().hostile("/etc/evil", EntryType::Regular, "").hostile("//x", EntryType::Regular, "");
    check(&[layer.gzip()], &["etc/ 755", "etc/evil 644 ", "x 644 "])
}

fn writing_through_a_symlink_stays_in_the_image() -> Result<()> {
    let outside = tempfile::tempdir()?;
    let target = outside.path().display().to_string();
    let layer = Tar::new().symlink("out", &target).file("out/evil", "x").symlink("up", "../../../../../..");
    let layer = layer.file("up/evil", "x").symlink("file", &format!("{target}/file")).file("file", "x");
    let bench = Bench::with_layers(&[layer.gzip()])?;
    let root = root(&bench.resolve()?);
    ensure!(fs::read_dir(outside.path())?.next().is_none(), "the host was written to");
    ensure!(root.join(target.trim_start_matches('/')).join("evil").is_file(), "{}", tree(&root));
    ensure!(root.join("evil").is_file() && root.join("file").is_file(), "{}", tree(&root));
    Ok(())
}

fn whiteouts_through_a_symlink_stay_in_the_image() -> Result<()> {
    let outside = tempfile::tempdir()?;
    fs::write(outside.path().join("victim"), "x")?;
    let lower = Tar::new().symlink("out", &outside.path().display().to_string());
    let upper = Tar::new().whiteout("out/.wh.victim").whiteout("out/.wh..wh..opq");
    Bench::with_layers(&[lower.gzip(), upper.gzip()])?.resolve()?;
    ensure!(outside.path().join("victim").is_file(), "a file of the host was removed");
    Ok(())
}

fn hard_links_to_the_host_are_refused() -> Result<()> {
    for target in ["/etc/passwd", "../../../../../../../../etc/passwd", "/proc/self/root/etc/passwd"] {
        let layer = Tar::new().hostile("stolen", EntryType::Link, target);
        let cause = format!("failed to unpack `stolen`: it is a hard link to `{target}`, which is not there");
        check_refusal(&[layer.gzip()], &cause)?;
    }
    Ok(())
}

fn whiteouts_of_the_parent_are_refused() -> Result<()> {
    for name in ["a/.wh...", "a/.wh..", "a/.wh."] {
        let layer = Tar::new().file("a/b", "x").hostile(name, EntryType::Regular, "");
        check_refusal(&[layer.gzip()], &format!("failed to unpack `{name}`: it hides no file"))?;
    }
    Ok(())
}

fn endless_symlinks_are_refused() -> Result<()> {
    let layer = Tar::new().symlink("a", "b").symlink("b", "a").file("a/x", "x");
    check_refusal(&[layer.gzip()], "failed to unpack `a/x`: more than 40 symbolic links lead to its directory")
}

fn a_file_in_the_way_is_refused() -> Result<()> {
    let layers = [Tar::new().file("a", "1").gzip(), Tar::new().file("a/b", "2").gzip()];
    check_refusal(&layers, "failed to apply layer 2 of 2, `")?;
    check_refusal(&layers, "failed to unpack `a/b`: `/a` is in its way and not a directory")
}

fn unknown_types_are_refused() -> Result<()> {
    let layer = Tar::new().hostile("x", EntryType::new(b'V'), "");
    check_refusal(&[layer.gzip()], "failed to unpack `x`: its type `V` is unknown")
}

fn broken_streams_are_refused() -> Result<()> {
    let cut = |layer: Layer, end: usize| Layer { bytes: layer.bytes[..layer.bytes.len() - end].to_vec(), ..layer };
    let layer = || Tar::new().file("x", &"content ".repeat(5000));
    // Cut in the middle, and cut in the checksum behind the archive.
    check_refusal(&[cut(layer().gzip(), 50)], "failed to unpack `x`: ")?;
    check_refusal(&[cut(layer().gzip(), 3)], "failed to read behind the archive: ")?;
    check_refusal(&[cut(layer().zstd(), 50)], "failed to ")?;
    check_refusal(&[cut(layer().plain(), 10_000)], "failed to unpack `x`: ")?;
    let mislabelled = Layer { media_type: crate::fixture::GZIP, ..layer().plain() };
    check_refusal(&[mislabelled], "failed to read the archive: invalid gzip header")?;
    let garbage = Layer { bytes: vec![b'x'; 2000], ..layer().plain() };
    check_refusal(&[garbage], "failed to read the archive: ")
}
