//! Flag sources: stores by their URL, and files.
//!
//! No message repeats a URL: whoever writes a password into one must not find it in a log.

use super::{
    flags::Sources,
    names::Names,
    read::{Node, Table},
    scalar::{file, nonempty_text, secret},
};
use crate::{
    FlagSource, RedisAddress, RedisServer, RedisSource, SecretSource, SourceId, SourceSpec,
    flags::{EMBEDDED, RedisTls},
};

/// The name of the only source, when the file gives just its URL.
const MAIN: &str = "main";

/// What a URL of a store looks like.
const FORMS: &str = "redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:/PATH or redis+sentinel://HOST:PORT,.../NAME/DB";

/// Databases are numbered from 0; stores have 16 unless they are told otherwise.
const MAX_DATABASE: u64 = 65_535;

/// `source = "embedded"`, one URL, or `[flags.source.NAME]`.
pub(super) fn sources(node: Node<'_>) -> Option<Sources> {
    if node.is_table() {
        return node.map(|entry| {
            let name = entry.key(|name| match name {
                EMBEDDED => Err("this name means the values in the process: use another".to_owned()),
                name => SourceId::parse(name).map_err(|why| why.to_string()),
            });
            (name, entry.node.table(source).flatten())
        });
    }
    let text = node.text_like("\"embedded\", a URL, or tables [flags.source.NAME]")?;
    if text == EMBEDDED {
        return Some(Sources::new());
    }
    let url = url(node)?;
    let name = SourceId::parse(MAIN).ok()?;
    Some([(name, SourceSpec::Redis(Box::new(url)))].into())
}

/// The name of a source, or `embedded`.
pub(super) fn source_name(node: Node<'_>, names: &Names) -> Option<FlagSource> {
    if node.text()? == EMBEDDED {
        return Some(FlagSource::Embedded);
    }
    names.text(node, SourceId::parse).map(FlagSource::Named)
}

fn source(t: &mut Table<'_>) -> Option<SourceSpec> {
    let path = t.get("file", file);
    let redis = t.get("url", url);
    let parts = Parts::read(t);
    match (t.has("url"), t.has("file")) {
        (true, true) => t.refuse("file", "there is a url already: keep one of the two"),
        (false, false) => t.refuse_all("missing: write url = \"redis://127.0.0.1:6379/0\", or file = \"PATH\""),
        (false, true) if !parts.is_empty() => t.refuse_all("a file needs nothing else: leave the other keys out"),
        _ => {}
    }
    if let Some(path) = path {
        return Some(SourceSpec::File(path));
    }
    Some(SourceSpec::Redis(Box::new(parts.complete(t, redis?))))
}

/// What belongs to a store beside its URL.
#[derive(PartialEq, Default)]
struct Parts {
    database: Option<u32>,
    username: Option<String>,
    password: Option<SecretSource>,
    sentinel_password: Option<SecretSource>,
    tls: RedisTls,
    hash: Option<String>,
    document: Option<String>,
}

impl Parts {
    fn read(t: &mut Table<'_>) -> Self {
        let database = t.get("database", |node| node.integer(0..=MAX_DATABASE));
        let username = t.get("username", nonempty_text);
        let password = t.get("password", password);
        let sentinel_password = t.get("sentinel_password", password_of_sentinels);
        let ca = t.get("ca", file);
        let (cert, key) = (t.get("cert", file), t.get("key", file));
        for (one, other) in [("cert", "key"), ("key", "cert")] {
            if t.has(one) && !t.has(other) {
                t.refuse(other, format!("missing: {one} needs it"));
            }
        }
        Self {
            database: database.and_then(|number| u32::try_from(number).ok()),
            username,
            password,
            sentinel_password,
            tls: RedisTls { ca, identity: cert.zip(key) },
            hash: t.get("hash", nonempty_text),
            document: t.get("document", nonempty_text),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn complete(self, t: &Table<'_>, url: RedisSource) -> RedisSource {
        if self.database.is_some_and(|_| url.database != 0) {
            t.refuse("database", "the url names a database already: keep one of the two");
        }
        if self.username.is_some() && url.username.is_some() {
            t.refuse("username", "the url names a user already: keep one of the two");
        }
        if url.tls.is_none() && self.tls != RedisTls::default() {
            let key = ["ca", "cert", "key"].into_iter().find(|key| t.has(key)).unwrap_or("ca");
            t.refuse(key, "this is for TLS: begin the url with rediss:// or rediss+sentinel://");
        }
        if self.sentinel_password.is_some() && !matches!(url.address, RedisAddress::Sentinel { .. }) {
            t.refuse("sentinel_password", "the url names no Sentinels: leave this out");
        }
        RedisSource {
            database: self.database.unwrap_or(url.database),
            username: self.username.or(url.username),
            password: self.password,
            sentinel_password: self.sentinel_password,
            tls: url.tls.is_some().then_some(self.tls),
            hash: self.hash,
            document: self.document,
            address: url.address,
        }
    }
}

/// One who writes the password itself here must not see it in a message.
fn password(node: Node<'_>) -> Option<SecretSource> {
    if node.is_table() {
        return secret(node);
    }
    node.refuse("a password is not written here: write password = { env = \"NAME\" } or { file = \"PATH\" }")
}

fn password_of_sentinels(node: Node<'_>) -> Option<SecretSource> {
    if node.is_table() { secret(node) } else { password(node) }
}

/// A store by its URL.
fn url(node: Node<'_>) -> Option<RedisSource> {
    node.parsed(|text| parsed(text).map_err(|why| format!("this is not the URL of a store: {why}; write {FORMS}")))
}

fn parsed(text: &str) -> Result<RedisSource, &'static str> {
    let plain = |address, database, username, tls: bool| RedisSource {
        address,
        database,
        username,
        password: None,
        sentinel_password: None,
        tls: tls.then(RedisTls::default),
        hash: None,
        document: None,
    };
    if text.contains(['?', '#']) {
        return Err("options have keys of their own here");
    }
    for scheme in ["redis+unix:", "unix:"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            if !path.starts_with('/') || path.contains('\0') {
                return Err("a Unix socket has an absolute path");
            }
            return Ok(plain(RedisAddress::Unix(path.into()), 0, None, false));
        }
    }
    let (scheme, rest) = text.split_once("://").ok_or("it has no scheme")?;
    let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let username = match user {
        None | Some("") => None,
        Some(user) if user.contains(':') => {
            return Err("it holds a password, which belongs into password = { env = \"NAME\" } or { file = \"PATH\" }");
        }
        Some(user) => Some(user.to_owned()),
    };
    match scheme {
        "redis" | "rediss" => {
            let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
            let address = RedisAddress::Tcp(server(host, 6379)?);
            Ok(plain(address, number(database)?, username, scheme == "rediss"))
        }
        "redis+sentinel" | "rediss+sentinel" => {
            let (hosts, rest) = rest.split_once('/').ok_or("the name of the master is missing")?;
            let (master, database) = rest.split_once('/').unwrap_or((rest, ""));
            if master.is_empty() || !master.bytes().all(|b| b.is_ascii_graphic()) {
                return Err("the name of the master is missing");
            }
            let sentinels = hosts.split(',').map(|host| server(host, 26_379)).collect::<Result<_, _>>()?;
            let address = RedisAddress::Sentinel { sentinels, master: master.to_owned() };
            Ok(plain(address, number(database)?, username, scheme == "rediss+sentinel"))
        }
        _ => Err("the scheme is unknown"),
    }
}

fn number(text: &str) -> Result<u32, &'static str> {
    let wrong = "a database is a number";
    match text {
        "" => Ok(0),
        digits if digits.bytes().all(|b| b.is_ascii_digit()) => {
            digits.parse().ok().filter(|number| u64::from(*number) <= MAX_DATABASE).ok_or(wrong)
        }
        _ => Err(wrong),
    }
}

fn server(text: &str, default: u16) -> Result<RedisServer, &'static str> {
    let wrong = "a server is host:port, with a literal IPv6 address in brackets";
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(wrong)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong)?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(wrong)?) })
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let named = !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:".contains(&b));
    let digits = |port: &str| port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse().ok()).flatten();
    let port = port.map_or(Some(default), digits).filter(|port| *port != 0).ok_or(wrong)?;
    if named { Ok(RedisServer { host: host.to_owned(), port }) } else { Err(wrong) }
}
