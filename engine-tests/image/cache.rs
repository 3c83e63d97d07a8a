//! The cache under concurrency, interruption, death and a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use harness::engine::embedded::image;
use harness::poll::{Look, Poll};
use harness::process;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::json;

use crate::Case;
use crate::fixture::{Bench, GZIP, Tar, block_on, root, tree};

pub const CASES: &[Case] = &[
    ("cache::an_image_in_the_cache_needs_no_layers", an_image_in_the_cache_needs_no_layers),
    ("cache::half_written_images_are_not_used", half_written_images_are_not_used),
    ("cache::concurrent_tasks_unpack_once", concurrent_tasks_unpack_once),
    ("cache::concurrent_processes_unpack_once", concurrent_processes_unpack_once),
    ("cache::dropping_the_future_leaves_nothing", dropping_the_future_leaves_nothing),
    ("cache::unpacking_dies_with_its_process", unpacking_dies_with_its_process),
    ("cache::unpacking_sees_nothing_but_the_image", unpacking_sees_nothing_but_the_image),
    ("cache::a_full_disk_is_named_and_left_empty", a_full_disk_is_named_and_left_empty),
    ("cache::an_image_of_another_user_is_refused", an_image_of_another_user_is_refused),
    ("cache::an_unwritable_cache_is_named", an_unwritable_cache_is_named),
];

fn an_image_in_the_cache_needs_no_layers() -> Result<()> {
    let layer = Tar::new().file("x", "y").gzip();
    let digest = crate::fixture::digest(&layer.bytes);
    let bench = Bench::with_layers(&[layer])?;
    let first = bench.resolve()?;
    fs::remove_file(bench.blob_path(&digest))?;
    ensure!(bench.resolve()? == first, "the second image differs");
    ensure!(bench.cached()?.len() == 1, "{:?}", bench.cached()?);
    let mode = fs::metadata(bench.cache().join(&bench.cached()?[0]))?.mode() & 0o777;
    ensure!(mode == 0o700, "other users may look into the image: {mode:o}");
    Ok(())
}

fn half_written_images_are_not_used() -> Result<()> {
    let bench = Bench::with_layers(&[Tar::new().file("x", "y").gzip()])?;
    let image = bench.resolve()?;
    let entry = bench.cache().join(&bench.cached()?[0]);
    // What a crash could leave: a sibling, with a directory that its owner may not write to.
    let sibling = entry.with_file_name(format!("{}.partial-0", bench.cached()?[0]));
    fs::create_dir_all(sibling.join("rootfs/closed"))?;
    fs::write(sibling.join("rootfs/closed/x"), "half")?;
    fs::set_permissions(sibling.join("rootfs/closed"), fs::Permissions::from_mode(0o500))?;
    // And what a person could: an entry with parts missing.
    fs::remove_file(entry.join("config.json"))?;
    fs::write(root(&image).join("x"), "half")?;
    ensure!(bench.resolve()? == image && tree(&root(&image)) == "x 644 y\n", "{}", tree(&root(&image)));
    ensure!(bench.cached()?.len() == 1, "{:?}", bench.cached()?);
    Ok(())
}

fn concurrent_tasks_unpack_once() -> Result<()> {
    let bench = Bench::with_layers(&[Tar::new().file("x", "y").gzip()])?;
    let map = BTreeMap::from([("app".to_owned(), format!("oci:{}", bench.layout().display()))]);
    let inodes = block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (map, cache) = (map.clone(), bench.cache());
            tasks.spawn(async move { image::resolve("app:1", &map, &cache).await.map(|image| inode(&root(&image))) });
        }
        tasks.join_all().await
    });
    let inodes: Vec<u64> = inodes.into_iter().map(|inode| inode?).collect::<Result<_>>()?;
    ensure!(inodes.len() == 8 && inodes.iter().all(|inode| *inode == inodes[0]), "different images: {inodes:?}");
    ensure!(bench.cached()?.len() == 1, "{:?}", bench.cached()?);
    Ok(())
}

fn inode(root: &Path) -> Result<u64> {
    Ok(fs::metadata(root.join("x"))?.ino())
}

fn concurrent_processes_unpack_once() -> Result<()> {
    let bench = Bench::with_layers(&[Tar::new().file("x", &"y".repeat(100_000)).gzip()])?;
    let children: Vec<Child> = (0..4).map(|_| resolver(&bench)).collect::<Result<_>>()?;
    for child in children {
        let output = child.wait_with_output()?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(said == format!("ok {}\n", root(&bench.resolve()?).display()), "{said}");
    }
    ensure!(bench.cached()?.len() == 1, "{:?}", bench.cached()?);
    Ok(())
}

/// Another process that resolves the layout's image.
fn resolver(bench: &Bench) -> Result<Child> {
    let mut command = process::command("/proc/self/exe");
    command.arg("__resolve").arg(format!("oci:{}", bench.layout().display())).arg(bench.cache());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("failed to start")
}

/// A layout whose only layer is a pipe, and its path: unpacking reads until somebody writes to it.
fn stuck() -> Result<(Bench, PathBuf)> {
    let mut bench = Bench::new()?;
    let digest = crate::fixture::digest(b"never written");
    let layer = json!({ "mediaType": GZIP, "digest": digest, "size": 0 });
    let config = json!({ "os": "linux", "architecture": crate::fixture::architecture() });
    let image = bench.image_of(config, vec![layer])?;
    bench.list(image, None)?;
    let pipe = bench.blob_path(&digest);
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU)?;
    Ok((bench, pipe))
}

/// Opens the pipe for writing, which succeeds as soon as the stage has opened it for reading.
async fn stage_reads(pipe: &Path) -> Result<fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let open = || fs::File::options().write(true).custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits()).open(pipe);
    let look = || async { Ok(open().map_or_else(|error| Look::NotYet(error.to_string()), Look::Ready)) };
    Poll::within(Duration::from_secs(20)).until("the stage to read its layer", look).await
}

async fn nothing_is_left(bench: &Bench) -> Result<()> {
    let look = || async {
        let left = bench.cached()?;
        Ok(if left.is_empty() { Look::Ready(()) } else { Look::NotYet(format!("{left:?}")) })
    };
    Poll::within(Duration::from_secs(20)).until("an empty cache", look).await
}

fn dropping_the_future_leaves_nothing() -> Result<()> {
    let (bench, pipe) = stuck()?;
    let map = BTreeMap::from([("app".to_owned(), format!("oci:{}", bench.layout().display()))]);
    block_on(async {
        let cache = bench.cache();
        let _writer = tokio::select! {
            result = image::resolve("app:1", &map, &cache) => panic!("resolved a layer that nobody wrote: {result:?}"),
            writer = stage_reads(&pipe) => writer?,
        };
        nothing_is_left(&bench).await
    })
}

fn unpacking_dies_with_its_process() -> Result<()> {
    let (bench, pipe) = stuck()?;
    let mut child = resolver(&bench)?;
    let stages = block_on(async {
        let writer = stage_reads(&pipe).await?;
        let stages = children_of(child.id())?;
        ensure!(stages.len() == 1, "{stages:?}");
        child.kill()?;
        child.wait()?;
        let gone = || async {
            let alive: Vec<&u32> = stages.iter().filter(|pid| is_alive(**pid)).collect();
            Ok(if alive.is_empty() { Look::Ready(()) } else { Look::NotYet(format!("{alive:?} live")) })
        };
        Poll::within(Duration::from_secs(20)).until("the stage to die", gone).await?;
        drop(writer);
        Ok(stages)
    })?;
    // Its remains are swept by the next one, which finds no lock in its way.
    ensure!(bench.cached()?.len() == 1, "stages {stages:?} left {:?}", bench.cached()?);
    fs::remove_file(&pipe)?;
    fs::write(&pipe, "")?;
    let refusal = bench.refusal()?;
    ensure!(refusal.ends_with("it is damaged or was tampered with"), "{refusal}");
    ensure!(bench.cached()?.is_empty(), "{:?}", bench.cached()?);
    Ok(())
}

fn unpacking_sees_nothing_but_the_image() -> Result<()> {
    let (bench, pipe) = stuck()?;
    let mut child = resolver(&bench)?;
    let seen = block_on(async {
        let _writer = stage_reads(&pipe).await?;
        let stage = *children_of(child.id())?.first().context("no stage")?;
        // The stage opens its layers before it shuts itself in.
        let look = || async {
            let entries = match fs::read_dir(format!("/proc/{stage}/root")) {
                Ok(entries) => entries.flatten().map(|entry| entry.file_name()).collect(),
                // The kernel hides a process that changed its namespaces from everybody but root.
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            Ok(if entries.is_empty() { Look::Ready(()) } else { Look::NotYet(format!("it sees {entries:?}")) })
        };
        Poll::within(Duration::from_secs(20)).until("the stage to see an empty root directory", look).await
    });
    child.kill()?;
    child.wait()?;
    seen
}

fn children_of(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        if stat(pid).is_some_and(|fields| fields[1] == parent.to_string()) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|fields| fields[0] != "Z" && fields[0] != "X")
}

/// State, parent and what follows in `/proc/<pid>/stat`.
fn stat(pid: u32) -> Option<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = line.rsplit_once(") ")?;
    Some(fields.split(' ').map(str::to_owned).collect())
}

fn a_full_disk_is_named_and_left_empty() -> Result<()> {
    // Random enough to stay large, small enough to be made quickly.
    let content: String = (0..400_000u32).map(|i| format!("{:x}", i.wrapping_mul(2_654_435_761))).collect();
    let bench = Bench::with_layers(&[Tar::new().file("small", "x").file("large", &content).gzip()])?;
    fs::create_dir(bench.cache())?;
    let mut command = process::command("/proc/self/exe");
    command.arg("__small_disk").arg(format!("oci:{}", bench.layout().display())).arg(bench.cache());
    let output = command.stdin(Stdio::null()).output()?;
    let said = String::from_utf8(output.stdout)?.replace(&bench.dir.path().display().to_string(), "DIR");
    let expected = "failed to unpack into `DIR/cache`: no space left for the image; free some, or use a state directory \
                    elsewhere: failed to apply layer 1 of 1, `sha256:";
    ensure!(said.contains(expected) && said.contains("failed to unpack `large`: "), "{said}");
    ensure!(said.ends_with("left: []\n"), "{said}");
    Ok(())
}

fn an_image_of_another_user_is_refused() -> Result<()> {
    let bench = Bench::with_layers(&[Tar::new().file("x", "y").gzip()])?;
    bench.resolve()?;
    let entry = bench.cache().join(&bench.cached()?[0]);
    if std::os::unix::fs::chown(&entry, Some(12_345), None).is_err() {
        // Only root can give a directory away, so only root can prove this.
        return Ok(());
    }
    let expected = format!(
        "`DIR/cache/{}` was unpacked by uid 12345, and this is uid 0: remove it, or use a state directory of your own",
        bench.cached()?[0]
    );
    ensure!(bench.refusal()?.ends_with(&expected), "{}", bench.refusal()?);
    Ok(())
}

fn an_unwritable_cache_is_named() -> Result<()> {
    let bench = Bench::with_layers(&[])?;
    fs::write(bench.cache(), "a file")?;
    let expected =
        "failed to resolve image `app:1`: failed to create the image cache `DIR/cache`: File exists (os error 17)";
    ensure!(bench.refusal()? == expected, "{}", bench.refusal()?);
    Ok(fs::remove_file(bench.cache())?)
}

/// The hidden subcommands of these tests: `__resolve <reference> <cache>`, and `__small_disk`, which does it on a file
/// system of one megabyte.
pub fn stage(args: &[String]) -> Option<ExitCode> {
    let [name, reference, cache] = args else { return None };
    match name.as_str() {
        "__resolve" => {}
        "__small_disk" => mount_small(Path::new(cache)).expect("a small file system"),
        _ => return None,
    }
    let result = block_on(image::resolve(reference, &BTreeMap::new(), Path::new(cache)));
    let mut out = std::io::stdout();
    let said = match &result {
        Ok(image) => writeln!(out, "ok {}", root(image).display()),
        Err(error) => {
            // The kind of a registry's refusal: `Denied("…")`.
            let kind = error.downcast_ref::<image::PullError>().map(|error| format!("{error:?}")).unwrap_or_default();
            writeln!(out, "{error:#}\n{kind}\nleft: {:?}", left_in(Path::new(cache)))
        }
    };
    Some(if said.is_ok() && result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn left_in(cache: &Path) -> Vec<std::ffi::OsString> {
    let names = fs::read_dir(cache).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| !name.to_string_lossy().ends_with(".lock")).collect()
}

fn mount_small(dir: &Path) -> Result<()> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    Ok(mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), Some("size=1m"))?)
}
