//! One `[[service]]` table: a named upstream, where it listens and who may log in.
//!
//! Knows one service at a time; what services must not have in common is checked one level up.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use manifold_core::auth::{Auth, Secret, Users};
use manifold_discovery::{Place as NodePlace, Protocol, Upstream, Whereabouts, Zookeeper};
use toml::de::DeTable;

use super::listen::Listen;
use super::problem::{Place, Problems};
use super::section::{Section, Source, Written};
use super::users;
use super::value::Count;

/// Connections to a node, all shards together, unless a service says otherwise.
pub const CONNECTIONS_MAX_DEFAULT: u32 = 20;

/// The fewest connections to a Redis node: two lanes, and as many for those who need one alone.
const REDIS_CONNECTIONS_MIN: u32 = 4;

/// The longest name of a service, in bytes: it stands in every error that a client gets.
const NAME_BYTES_MAX: usize = 63;

/// The largest users file that is read, in bytes.
const USERS_BYTES_MAX: u64 = 64 << 20;

/// Every key of `[[service]]`.
pub const KEYS: &[&str] = &[
    "name",
    "listen",
    "upstream",
    "connections_max",
    "auth",
    "users",
    "admin",
];

/// The words for `admin`.
const ADMIN_WORDS: [(&str, bool); 2] = [("deny", false), ("allow", true)];

/// The words for `auth`.
pub const AUTH_WORDS: [(&str, Auth); 3] = [
    ("relay", Auth::Relay),
    ("trust", Auth::Trust),
    ("users", Auth::Users),
];

/// A service that can be served.
#[derive(Clone, Debug)]
pub struct Service {
    /// The name that users and logs see.
    pub name: Arc<str>,
    /// Where clients find it, each with the place where that was written.
    pub listen: Vec<Written<Listen>>,
    /// Where its node is, and what is spoken there.
    pub upstream: Upstream,
    /// Connections to the node, all shards together.
    pub connections_max: u32,
    /// How clients are authenticated.
    pub auth: Auth,
    /// Who may log in, for [`Auth::Users`].
    pub users: Arc<Users>,
    /// Whether clients may run what acts on the whole node; Redis only.
    pub is_admin: bool,
    /// Where the service was written.
    pub place: Place,
}

impl Service {
    /// Reads a table. None if it is too far from usable; the problems say why.
    pub fn read(
        source: &Source,
        table: &DeTable<'_>,
        place: Place,
        problems: &mut Problems,
    ) -> Option<Self> {
        let mut section = Section::new(source, table, "[[service]]");
        let name = section.take::<String>("name", problems);
        let listen = section.take_list::<String>("listen", problems);
        let upstream = section.take::<String>("upstream", problems);
        let connections_max = section.take("connections_max", problems).map_or(
            CONNECTIONS_MAX_DEFAULT,
            |Written {
                 value: Count(count),
                 ..
             }| count,
        );
        let written_auth = section.take_word("auth", &AUTH_WORDS, problems);
        let auth = written_auth.unwrap_or(Auth::Relay);
        let written_admin = section.take_word("admin", &ADMIN_WORDS, problems);
        let users_path = section.take::<String>("users", problems);
        for (key, example) in REQUIRED {
            if !table.contains_key(*key) {
                problems.error(place.clone(), format!("{key}: is missing"), *example);
            }
        }
        section.finish(&[("under [limits]", super::limits::KEYS), TOP], problems);
        let users = read_users(source, auth, &place, users_path.as_ref(), problems);
        // All of them before the first that is missing ends it: each has problems of its own.
        let name = name.map(|name| check_name(name, problems));
        let listen = listen.map(|texts| parse_listen(texts, problems));
        let upstream = upstream.and_then(|text| parse_upstream(source, text, problems));
        let service = Self {
            name: name?.into(),
            listen: listen?,
            upstream: upstream?,
            connections_max,
            auth,
            users: Arc::new(users),
            is_admin: written_admin.unwrap_or(false),
            place,
        };
        service.check_keys(written_auth.is_some(), written_admin.is_some(), problems);
        Some(service)
    }

    /// Whether it has what its protocol needs, and nothing that belongs to another.
    fn check_keys(&self, has_auth: bool, has_admin: bool, problems: &mut Problems) {
        if self.upstream.protocol == Protocol::Postgres && has_admin {
            problems.warn(
                self.place.clone(),
                "admin: is not used, because the service is none of Redis",
                "remove it",
            );
        }
        if self.upstream.protocol != Protocol::Redis {
            return;
        }
        if has_auth {
            problems.warn(
                self.place.clone(),
                "auth: is not used, because a Redis node itself decides who may do what",
                "remove it",
            );
        }
        self.check_connections(problems);
    }

    /// Whether there are enough connections for its protocol.
    pub fn check_connections(&self, problems: &mut Problems) {
        let is_redis = self.upstream.protocol == Protocol::Redis;
        if is_redis && self.connections_max < REDIS_CONNECTIONS_MIN {
            problems.error(
                self.place.clone(),
                format!(
                    "connections_max: {} are too few for Redis",
                    self.connections_max
                ),
                "4 are the fewest: two are shared, and whoever blocks needs one alone",
            );
        }
    }

    /// Notes what works but not in every case.
    pub fn warn(&self, problems: &mut Problems) {
        if self.upstream.protocol == Protocol::Redis {
            return;
        }
        match self.auth {
            Auth::Relay => problems.warn(
                self.place.clone(),
                format!(
                    "service {:?}: auth = \"relay\" keeps no secret, so an upstream that was \
                     opened by an md5 or SCRAM login cannot be opened again: if it is lost, its \
                     clients have to reconnect",
                    self.name
                ),
                "auth = \"users\" with a users file lets the proxy log in by itself",
            ),
            Auth::Trust => self.warn_trust(problems),
            Auth::Users => self.warn_verifiers(problems),
        }
    }

    fn warn_trust(&self, problems: &mut Problems) {
        for written in &self.listen {
            if matches!(&written.value, Listen::Ip(ip) if !ip.ip().to_canonical().is_loopback()) {
                let message = format!(
                    "service {:?}: auth = \"trust\" believes everybody who reaches {}",
                    self.name, written.value
                );
                problems.warn(written.place.clone(), message, "listen on loopback only");
            }
        }
    }

    fn warn_verifiers(&self, problems: &mut Problems) {
        let is_verifier = |(_, secret): &(&[u8], &Secret)| matches!(secret, Secret::Scram(_));
        let count = self.users.iter().filter(is_verifier).count();
        if count > 0 {
            let message = format!(
                "service {:?}: {count} of its users have SCRAM verifiers, with which the proxy can \
                 log in only to a node that stores the very same, and only once such a user has \
                 logged in here",
                self.name
            );
            problems.warn(
                self.place.clone(),
                message,
                "give their passwords, or let the node trust the proxy's address",
            );
        }
    }
}

/// The keys without which there is no service, each with an example.
const REQUIRED: &[(&str, &str)] = &[
    ("name", "name = \"app\""),
    ("listen", "listen = [\"127.0.0.1:6432\"]"),
    ("upstream", "upstream = \"postgres://127.0.0.1:5432\""),
];

/// The keys that belong above all services.
const TOP: (&str, &[&str]) = (
    "at the top of the file, before the first [table]",
    &["shards", "driver", "log", "drain_time_max", "control"],
);

fn check_name(name: Written<String>, problems: &mut Problems) -> String {
    if name.value.len() > NAME_BYTES_MAX {
        problems.error(
            name.place.clone(),
            "name: is too long",
            "63 bytes are the most",
        );
    }
    if name.value.chars().any(|c| c.is_control() || c == '"') {
        problems.error(
            name.place,
            "name: has a quote or a control character",
            "the name stands in errors and log lines",
        );
    }
    name.value
}

fn parse_listen(texts: Vec<Written<String>>, problems: &mut Problems) -> Vec<Written<Listen>> {
    let mut parsed = Vec::with_capacity(texts.len());
    for Written { value, place } in texts {
        match Listen::parse(&value) {
            Ok(value) => parsed.push(Written { value, place }),
            Err(error) => problems.error(place, format!("listen: {error}"), error.hint()),
        }
    }
    parsed
}

fn parse_upstream(
    source: &Source,
    text: Written<String>,
    problems: &mut Problems,
) -> Option<Upstream> {
    let mut upstream = match Upstream::parse(&text.value) {
        Ok(upstream) => upstream,
        Err(error) => {
            problems.error(text.place, format!("upstream: {error}"), error.hint());
            return None;
        }
    };
    if let Whereabouts::Zookeeper(listed) = &mut upstream.whereabouts
        && let Some(file) = &mut listed.auth_file
    {
        let path = resolve(source, file);
        *file = path.to_string_lossy().into();
        check_auth_file(&path, &text.place, problems);
    }
    Some(upstream)
}

/// Whether the secret for ZooKeeper is there and is one. It is read anew for each session.
fn check_auth_file(path: &Path, place: &Place, problems: &mut Problems) {
    let wrong = match read_bounded(path) {
        Ok(bytes) if bytes.contains(&b':') => None,
        Ok(_) => Some("has no user:password".to_owned()),
        Err(error) => Some(format!("cannot be read: {error}")),
    };
    match wrong {
        None => warn_readable("auth_file", path, place, problems),
        Some(wrong) => problems.error(
            place.clone(),
            format!("upstream: the auth_file {} {wrong}", path.display()),
            "it is one line of user:password, readable by the user that the proxy runs as",
        ),
    }
}

/// Reads the users file of a service, if it needs one.
fn read_users(
    source: &Source,
    auth: Auth,
    place: &Place,
    file: Option<&Written<String>>,
    problems: &mut Problems,
) -> Users {
    match (auth, file) {
        (Auth::Users, None) => problems.error(
            place.clone(),
            "users: is missing, and auth = \"users\" needs it",
            "users = \"/etc/manifold/userlist.txt\"",
        ),
        (Auth::Users, Some(file)) => {
            let path = resolve(source, &file.value);
            match read_bounded(&path) {
                Ok(bytes) => {
                    warn_readable("users", &path, &file.place, problems);
                    return users::parse(&path.to_string_lossy().into(), &bytes, problems);
                }
                Err(error) => problems.error(
                    file.place.clone(),
                    format!("users: {} cannot be read: {error}", path.display()),
                    "the file must exist and be readable by the user that the proxy runs as",
                ),
            }
        }
        (_, Some(file)) => problems.warn(
            file.place.clone(),
            "users: is not used, because auth is not \"users\"",
            "auth = \"users\"",
        ),
        (_, None) => {}
    }
    Users::default()
}

/// A path in a configuration file is relative to that file, wherever the proxy was started.
fn resolve(source: &Source, path: &str) -> PathBuf {
    Path::new(&*source.name)
        .parent()
        .unwrap_or(Path::new(""))
        .join(path)
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(USERS_BYTES_MAX + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > USERS_BYTES_MAX {
        return Err(io::Error::other("it is larger than 64 MiB"));
    }
    Ok(bytes)
}

fn warn_readable(what: &str, path: &Path, place: &Place, problems: &mut Problems) {
    let mode = path
        .metadata()
        .map(|metadata| metadata.permissions().mode())
        .unwrap_or_default();
    if mode & 0o004 != 0 {
        let message = format!("{what}: everybody on this host can read {}", path.display());
        problems.warn(
            place.clone(),
            message,
            format!("chmod o-r {}", path.display()),
        );
    }
}

/// Whether a service would connect to itself.
pub fn loops(service: &Service) -> bool {
    let is_node = |listen: &Listen, place: &NodePlace| match (listen, place) {
        (Listen::Ip(listen), NodePlace::Ip(node)) => listen == node,
        _ => false,
    };
    let is_there = |listen: &Listen| match (listen, &service.upstream.whereabouts) {
        (Listen::Ip(listen), Whereabouts::Ip(node)) => listen == node,
        (Listen::Unix(listen), Whereabouts::Unix(node)) => listen == Path::new(&**node),
        // What ZooKeeper lists is not known yet; that it is not here, is.
        (
            listen,
            Whereabouts::Zookeeper(Zookeeper {
                ensemble: places, ..
            }),
        )
        | (listen, Whereabouts::Seeds(places) | Whereabouts::List(places)) => {
            places.iter().any(|place| is_node(listen, place))
        }
        (listen, Whereabouts::Sentinel(sentinel)) => {
            sentinel.places.iter().any(|place| is_node(listen, place))
        }
        _ => false,
    };
    service
        .listen
        .iter()
        .any(|written| is_there(&written.value))
}
