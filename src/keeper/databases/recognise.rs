//! Which services are databases, and which files: by image, command, variables, and what the volumes hold.

use std::collections::BTreeSet;

use super::{KINDS, Kind};
use crate::engine::contents::Contents;
use crate::keeper::contents::{self, Listing};
use crate::recipe::image;
use crate::recipe::stack::{Mode, MountKind, Service, Stack};

/// Words in an image's name that say that it only has to do with a database.
const OTHERS: [&str; 14] = [
    "exporter",
    "backup",
    "backups",
    "commander",
    "admin",
    "client",
    "proxy",
    "operator",
    "sentinel",
    "insight",
    "dump",
    "cron",
    "router",
    "init",
];

/// Files of SQLite that are opened in one volume, largest first.
const FILES: usize = 3;

/// A database of the deployed stack.
pub struct Store {
    pub kind: &'static Kind,
    pub service: String,
    /// The volume it lies in, by its key.
    pub volume: Option<String>,
    /// Where in the volume: the directory, or the file.
    pub path: String,
    /// Of a database that is a file, its path in the container.
    pub file: Option<String>,
}

impl Store {
    /// The database, for people.
    pub fn what(&self) -> String {
        what(self.kind, &self.service, self.file.as_deref())
    }
}

/// `` the PostgreSQL database of service `db` ``
pub fn what(kind: &Kind, service: &str, file: Option<&str>) -> String {
    match file {
        Some(file) => format!("the {} database `{file}` of service `{service}`", kind.name),
        None => format!("the {} database of service `{service}`", kind.name),
    }
}

/// Every database of a stack whose volumes hold this.
pub fn stores(stack: &Stack, listing: &Listing) -> Vec<Store> {
    let mut stores = Vec::new();
    for (name, service) in running(stack) {
        stores.extend(KINDS.iter().filter(|kind| is_server(kind, service)).filter_map(|kind| {
            let (volume, path) = place(kind, service, listing);
            let is_cache = kind.may_be_a_cache && volume.is_none();
            (!is_cache).then(|| Store { kind, service: name.clone(), volume, path, file: None })
        }));
    }
    let mut known = BTreeSet::new();
    for (name, service) in running(stack) {
        for (volume, target) in volumes(service) {
            let Some(Ok(contents)) = listing.get(volume) else { continue };
            for path in files(contents) {
                // Two services may mount one volume, and one of them is enough.
                if known.insert((volume.to_owned(), path.clone())) {
                    stores.push(of_file(name, volume, target, path));
                }
            }
        }
    }
    stores
}

/// Servers' data in volumes of which no service is a server that is known: each with the reason why it is not looked into.
pub fn strangers(stores: &[Store], listing: &Listing) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (volume, listed) in listing {
        let is_known = stores.iter().any(|it| it.file.is_none() && it.volume.as_ref() == Some(volume));
        let Ok(contents) = listed else { continue };
        for directory in contents::databases(contents).into_iter().filter(|_| !is_known) {
            let shown = if directory.is_empty() { "the root".to_owned() } else { format!("`{directory}`") };
            let why = "no service that mounts it is a server that the harness knows a client of".to_owned();
            found.push((format!("the database in {shown} of the volume `{volume}`"), why));
        }
    }
    found
}

/// Whether a stack has a service that is a database: what lies in a file is not known before it runs.
pub fn has_server(stack: &Stack) -> bool {
    let mut services = running(stack);
    services.any(|(_, service)| KINDS.iter().any(|kind| !kind.may_be_a_cache && is_server(kind, service)))
}

/// The password that a service's command gives to its server, where it stands there.
pub fn password(service: &Service) -> Option<String> {
    let words: Vec<&str> = words(service).collect();
    let at = words.iter().position(|word| *word == "--requirepass")?;
    words.get(at + 1).filter(|word| !word.starts_with('$')).map(|word| (*word).to_owned())
}

fn of_file(service: &str, volume: &str, target: &str, path: String) -> Store {
    let file = Some(format!("{}/{path}", target.trim_end_matches('/')));
    let (service, volume) = (service.to_owned(), Some(volume.to_owned()));
    Store { kind: &super::sqlite::KIND, service, volume, path, file }
}

fn running(stack: &Stack) -> impl Iterator<Item = (&String, &Service)> {
    stack.services.iter().filter(|(_, service)| service.deploy.mode != Mode::Replicated(0))
}

/// The named volumes of a service, each with where it is, but for those that are read only.
fn volumes(service: &Service) -> impl Iterator<Item = (&str, &str)> {
    service.mounts.iter().filter(|mount| !mount.read_only).filter_map(|mount| match &mount.kind {
        MountKind::Volume(volume) => Some((volume.as_str(), mount.target.as_str())),
        _ => None,
    })
}

fn is_server(kind: &Kind, service: &Service) -> bool {
    let name = image::short_name(&service.image);
    let parts: Vec<&str> = name.split(['-', '_', '.']).collect();
    let by_image = kind.images.iter().any(|it| parts.contains(it)) && !parts.iter().any(|it| OTHERS.contains(it));
    let by_command = words(service).any(|word| kind.programs.contains(&word.rsplit('/').next().unwrap_or(word)));
    by_image || by_command || kind.variables.iter().any(|it| service.environment.contains_key(*it))
}

/// What entry point and command are made of.
fn words(service: &Service) -> impl Iterator<Item = &str> {
    let lines = service.entrypoint.iter().chain(&service.command).flatten();
    lines.flat_map(|line| line.split(|c: char| c.is_whitespace() || "\"';&|()".contains(c))).filter(|it| !it.is_empty())
}

/// The volume that holds a server's data: that in which they were seen, else the first.
fn place(kind: &Kind, service: &Service, listing: &Listing) -> (Option<String>, String) {
    let seen = volumes(service).find_map(|(volume, _)| {
        let contents = listing.get(volume)?.as_ref().ok()?;
        let marker = kind.marker?;
        let mut directories = contents::databases(contents).into_iter();
        let directory = directories.find(|it| {
            let path = if it.is_empty() { marker.to_owned() } else { format!("{it}/{marker}") };
            contents.entries.iter().any(|entry| entry.path == path)
        })?;
        Some((Some(volume.to_owned()), directory))
    });
    seen.unwrap_or_else(|| (volumes(service).next().map(|(volume, _)| volume.to_owned()), String::new()))
}

/// The files of SQLite in a volume.
fn files(contents: &Contents) -> Vec<String> {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let magic = data_encoding::HEXLOWER.encode(MAGIC);
    let servers = contents::databases(contents);
    let is_one = |path: &str| {
        !servers.iter().any(|it| contents::is_inside(path, it))
            && !["cache", "tmp", "temp"].iter().any(|it| path.split('/').any(|part| part == *it))
    };
    let mut found: Vec<(u64, &str)> = contents
        .entries
        .iter()
        .filter(|entry| !entry.is_dir && entry.begins == magic && is_one(&entry.path))
        .map(|entry| (entry.size, entry.path.as_str()))
        .collect();
    found.sort_by_key(|(size, path)| (std::cmp::Reverse(*size), *path));
    found.into_iter().take(FILES).map(|(_, path)| path.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::contents::Entry;
    use crate::recipe::stack::Mount;

    fn service(image: &str, command: &[&str], variables: &[&str], volume: Option<&str>) -> Service {
        let mount = |volume: &str| {
            let kind = MountKind::Volume(volume.into());
            Mount { kind, target: "/srv".into(), read_only: false, no_copy: false }
        };
        Service {
            image: image.into(),
            command: Some(command.iter().map(|it| it.to_string()).collect()),
            environment: variables.iter().map(|it| (it.to_string(), "x".into())).collect(),
            mounts: volume.map(mount).into_iter().collect(),
            ..Service::default()
        }
    }

    fn kinds(service: Service, listing: &Listing) -> Vec<&'static str> {
        let stack = Stack { services: [("db".to_owned(), service)].into(), ..Stack::default() };
        stores(&stack, listing).iter().map(|store| store.kind.name).collect()
    }

    #[test]
    fn a_server_is_known_by_image_command_or_variables_and_its_helpers_are_none() {
        let of = |image: &str, command: &[&str], variables: &[&str]| {
            kinds(service(image, command, variables, Some("data")), &Listing::new())
        };
        for image in ["postgres:15", "docker.io/pgvector/pgvector:pg16", "registry:5000/bitnami/postgresql@sha256:0"] {
            assert_eq!(of(image, &[], &[]), ["PostgreSQL"], "{image}");
        }
        assert_eq!(of("mariadb:11", &[], &[]), ["MariaDB"]);
        assert_eq!(of("example/db", &["sh", "-c", "exec /usr/bin/redis-server --save 60 1"], &[]), ["Redis"]);
        assert_eq!(of("example/db", &[], &["MYSQL_ROOT_PASSWORD_FILE"]), ["MariaDB"]);
        for image in ["prodrigestivill/postgres-backup-local", "oliver006/redis_exporter", "nginx:1", "mysqladmin"] {
            assert_eq!(of(image, &[], &["POSTGRES_PASSWORD"]), Vec::<&str>::new(), "{image}");
        }
    }

    #[test]
    fn redis_without_a_volume_is_a_cache_and_postgresql_is_none() {
        assert_eq!(kinds(service("redis", &[], &[], None), &Listing::new()), Vec::<&str>::new());
        assert_eq!(kinds(service("postgres", &[], &[], None), &Listing::new()), ["PostgreSQL"]);
    }

    #[test]
    fn a_file_of_sqlite_is_known_by_what_it_begins_with() {
        let entry = |path: &str, begins: &[u8]| Entry {
            path: path.into(),
            size: 9,
            begins: data_encoding::HEXLOWER.encode(begins),
            ..Entry::default()
        };
        let entries = vec![
            entry("app/a.db", b"SQLite format 3\0"),
            entry("cache/b.db", b"SQLite format 3\0"),
            entry("c.db", b"something else!!"),
        ];
        let listing: Listing = [("data".to_owned(), Ok(Contents { entries, cut: None }))].into();
        let stack = Stack {
            services: [("app".to_owned(), service("app:1", &[], &[], Some("data")))].into(),
            ..Stack::default()
        };
        let found: Vec<String> = stores(&stack, &listing).iter().map(Store::what).collect();
        assert_eq!(found, ["the SQLite database `/srv/app/a.db` of service `app`"]);
    }

    #[test]
    fn a_password_in_the_command_is_taken_from_it_and_one_that_a_shell_makes_is_not() {
        let of = |command: &[&str]| password(&service("redis", command, &[], None));
        assert_eq!(of(&["redis-server", "--requirepass", "s3cret"]).as_deref(), Some("s3cret"));
        assert_eq!(of(&["sh", "-c", "redis-server --requirepass \"s3cret\""]).as_deref(), Some("s3cret"));
        assert_eq!(of(&["sh", "-c", "redis-server --requirepass \"$(cat /run/secrets/x)\""]), None);
    }
}
