//! Which control groups this process may make, from what the kernel says of itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::Access;

use super::super::stage::mounts::unescape;
use super::Controller;

/// A directory in which groups can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub parent: PathBuf,
    pub version: Version,
    /// What groups bound here.
    pub controllers: Vec<Controller>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    One,
    Two,
}

impl Place {
    /// Lets the groups below a group bound what it bounds: version 2 asks for that, and refuses it where processes are in
    /// the group itself.
    pub fn delegate(&self, dir: &Path) -> Result<()> {
        if self.version == Version::One {
            return Ok(());
        }
        let names = self.controllers.iter().map(|controller| format!("+{}", controller.name()));
        let file = dir.join("cgroup.subtree_control");
        fs::write(&file, names.collect::<Vec<_>>().join(" "))
            .with_context(|| format!("failed to write `{}`", file.display()))
    }
}

/// What is known of this machine.
pub struct Machine {
    /// `/proc/self/cgroup`
    own: String,
    /// `/proc/self/mountinfo`
    mounts: String,
}

/// A hierarchy that is mounted here, and this process's place in it.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    top: PathBuf,
    own: PathBuf,
}

impl Machine {
    /// Looks; a file that cannot be read says nothing.
    pub fn look() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Machine { own: read("/proc/self/cgroup"), mounts: read("/proc/self/mountinfo") }
    }

    /// Where groups can be made, and what none can be made for, with the reason.
    pub fn places(&self) -> (Vec<Place>, BTreeMap<Controller, String>) {
        let (mut places, mut missing) = (Vec::<Place>::new(), BTreeMap::new());
        let mut unclaimed = Vec::new();
        for controller in Controller::ALL {
            let Some(hierarchy) = self.hierarchy("cgroup", Some(controller.name())) else {
                unclaimed.push(controller);
                continue;
            };
            match writable(&hierarchy.own) {
                Err(why) => drop(missing.insert(controller, why)),
                Ok(()) => match places.iter_mut().find(|place| place.parent == hierarchy.own) {
                    Some(place) => place.controllers.push(controller),
                    None => places.push(Place {
                        parent: hierarchy.own,
                        version: Version::One,
                        controllers: vec![controller],
                    }),
                },
            }
        }
        self.unified(&unclaimed, &mut places, &mut missing);
        (places, missing)
    }

    /// In version 2 processes and groups do not go together: the place is next to the group that this process is in, or
    /// above, where the controllers are handed down already.
    fn unified(&self, wanted: &[Controller], places: &mut Vec<Place>, missing: &mut BTreeMap<Controller, String>) {
        let Some(hierarchy) = self.hierarchy("cgroup2", None).filter(|_| !wanted.is_empty()) else {
            missing.extend(wanted.iter().map(|it| (*it, format!("no control groups of `{}` are mounted", it.name()))));
            return;
        };
        let above = hierarchy.own.ancestors().take_while(|dir| dir.starts_with(&hierarchy.top));
        let given = above.map(|dir| (dir, handed_down(dir, wanted))).filter(|(_, given)| !given.is_empty());
        let given: Vec<_> = given.collect();
        let with_memory = given.iter().find(|(_, given)| given.contains(&Controller::Memory));
        let chosen = with_memory.or_else(|| given.first());
        let refused = match chosen {
            None => Some(format!(
                "`{}` and the control groups above it hand down none of {}",
                hierarchy.own.display(),
                wanted.iter().map(|it| format!("`{}`", it.name())).collect::<Vec<_>>().join(", ")
            )),
            Some((dir, _)) => writable(dir).err().map(|why| {
                format!(
                    "{why}; `systemd-run --user --scope -p Delegate=yes` before the command gives it some of its own"
                )
            }),
        };
        let controllers = chosen.filter(|_| refused.is_none()).map(|(_, given)| given.clone()).unwrap_or_default();
        for controller in wanted.iter().filter(|it| !controllers.contains(it)) {
            let why = refused.clone().unwrap_or_else(|| format!("no control group hands down `{}`", controller.name()));
            missing.insert(*controller, why);
        }
        if let Some((dir, _)) = chosen.filter(|_| refused.is_none()) {
            places.push(Place { parent: dir.to_path_buf(), version: Version::Two, controllers });
        }
    }

    /// The hierarchy of this type that has a controller, if it is mounted and this process's place in it can be seen.
    fn hierarchy(&self, kind: &str, controller: Option<&str>) -> Option<Hierarchy> {
        let mut lines = self.own.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        });
        let has = |list: &str| controller.map_or(list.is_empty(), |name| list.split(',').any(|it| it == name));
        let (_, own) = lines.find(|(list, _)| has(list))?;
        let mut mounts = self.mounts.lines().filter_map(|line| mount_of(line, kind, controller));
        mounts.find_map(|(root, top)| {
            let below = Path::new(own).strip_prefix(&root).ok()?;
            let inside = below.components().all(|part| matches!(part, std::path::Component::Normal(_)));
            inside.then(|| Hierarchy { own: top.join(below), top })
        })
    }
}

/// Root and point of a mount, when it is of this type and, where one is named, has this controller.
fn mount_of(line: &str, kind: &str, controller: Option<&str>) -> Option<(PathBuf, PathBuf)> {
    let (before, after) = line.split_once(" - ")?;
    let mut after = after.split(' ');
    let (found, options) = (after.next()?, after.nth(1)?);
    let has = controller.is_none_or(|name| options.split(',').any(|option| option == name));
    let mut before = before.split(' ').skip(3);
    (found == kind && has).then_some(())?;
    Some((unescape(before.next()?).into(), unescape(before.next()?).into()))
}

/// Those of the controllers that groups in a directory can have.
fn handed_down(dir: &Path, wanted: &[Controller]) -> Vec<Controller> {
    let given = fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    wanted.iter().filter(|it| given.split_whitespace().any(|name| name == it.name())).copied().collect()
}

/// Whether groups can be made in a directory, and processes moved into them from here.
fn writable(dir: &Path) -> Result<(), String> {
    for path in [dir.to_owned(), dir.join("cgroup.procs")] {
        rustix::fs::access(&path, Access::WRITE_OK)
            .map_err(|error| format!("`{}` is not to be written: {error}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file system with directories that look like groups, below a temporary one.
    fn machine(
        own: &str,
        mounts: &[(&str, &str, &str, &str)],
        groups: &[(&str, &str)],
    ) -> (tempfile::TempDir, Machine) {
        let dir = tempfile::tempdir().unwrap();
        for (group, handed_down) in groups {
            let group = dir.path().join(group);
            fs::create_dir_all(&group).unwrap();
            fs::write(group.join("cgroup.subtree_control"), handed_down).unwrap();
            fs::write(group.join("cgroup.procs"), "").unwrap();
        }
        let line = |(kind, root, point, options): &(&str, &str, &str, &str)| {
            format!("30 25 0:26 {root} {}/{point} rw,nosuid shared:4 - {kind} none rw{options}\n", dir.path().display())
        };
        let mounts = mounts.iter().map(line).collect();
        (dir, Machine { own: own.to_owned(), mounts })
    }

    #[test]
    fn version_1_has_a_place_for_each_hierarchy_where_this_process_is() {
        let mounts =
            [("cgroup", "/", "m", ",memory"), ("cgroup", "/", "c", ",cpu,cpuacct"), ("cgroup", "/box", "p", ",pids")];
        let (dir, machine) = machine(
            "4:memory:/a/b\n3:cpu,cpuacct:/\n2:pids:/box/in\n0::/\n",
            &mounts,
            &[("m/a/b", ""), ("c", ""), ("p/in", "")],
        );
        let (places, missing) = machine.places();
        let place = |at: &str, controller| Place {
            parent: dir.path().join(at),
            version: Version::One,
            controllers: vec![controller],
        };
        let expected = [
            place("m/a/b", Controller::Memory),
            place("p/in", Controller::Processes),
            place("c", Controller::Processors),
        ];
        assert_eq!(places, expected);
        assert_eq!(missing, BTreeMap::new());
    }

    #[test]
    fn version_2_takes_the_nearest_group_that_hands_memory_down() {
        let groups = [("u", "cpu memory pids"), ("u/user", "memory pids"), ("u/user/scope", "")];
        let (dir, machine) = machine("0::/user/scope\n", &[("cgroup2", "/", "u", "")], &groups);
        let (places, missing) = machine.places();
        let controllers = vec![Controller::Memory, Controller::Processes];
        assert_eq!(places, [Place { parent: dir.path().join("u/user"), version: Version::Two, controllers }]);
        assert_eq!(missing, BTreeMap::from([(Controller::Processors, "no control group hands down `cpu`".into())]));
    }

    #[test]
    fn what_cannot_be_had_is_said() {
        let (dir, nothing) = machine("0::/scope\n", &[("cgroup2", "/", "u", "")], &[("u", "hugetlb"), ("u/scope", "")]);
        let (places, missing) = nothing.places();
        assert_eq!((places, missing.len()), (Vec::new(), 3));
        let expected = format!(
            "`{}/u/scope` and the control groups above it hand down none of `memory`, `pids`, `cpu`",
            dir.path().display()
        );
        assert_eq!(missing[&Controller::Memory], expected);
        let elsewhere = Machine { own: "0::/../other\n".into(), mounts: nothing.mounts };
        assert_eq!(elsewhere.places().1[&Controller::Memory], "no control groups of `memory` are mounted");
    }

    #[test]
    fn a_place_that_is_not_there_is_no_place() {
        let (dir, machine) = machine("4:memory:/gone\n", &[("cgroup", "/", "m", ",memory")], &[("m", "")]);
        let expected =
            format!("`{}/m/gone` is not to be written: No such file or directory (os error 2)", dir.path().display());
        assert_eq!(machine.places().1[&Controller::Memory], expected);
    }
}
