//! `[server]`, `[admin]` and `[listener.NAME]`: what belongs to the process.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    read::{Node, Table, quoted},
    route::host_name,
    scalar::{duration, file, secret_keys, size, some_duration, truth},
};
use crate::{AccessLog, Admin, AdminAddress, Limits, Listener, ListenerId, Network, Role, Server, Tls, Token, ids};

/// `[server]`.
pub(super) fn server(t: &mut Table<'_>) -> Server {
    Server {
        threads: t.get("threads", |node| count(node, 1..=1024)),
        state_dir: t.get("state_dir", file).unwrap_or_else(|| "./state".into()),
        grace: t.get("grace", duration).unwrap_or(Duration::from_secs(30)),
        trusted_proxies: t.get("trusted_proxies", |node| node.list(network)).unwrap_or_default(),
        limits: t.section("limits", limits),
        access_log: t.section("access_log", access_log),
        forwarded: t.get("forwarded", truth).unwrap_or(false),
    }
}

fn limits(t: &mut Table<'_>) -> Limits {
    Limits {
        // pingora takes at most 1 MiB and 256 fields.
        header_bytes: t.get("header_bytes", |node| at_least(node, size(node, 1 << 20)?, 1024)).unwrap_or(64 << 10),
        header_fields: t.get("header_fields", |node| count(node, 8..=256)).unwrap_or(100),
        header_timeout: t.get("header_timeout", some_duration).unwrap_or(Duration::from_secs(10)),
        body_min_rate: t.get("body_min_rate", |node| size(node, 1 << 40)).unwrap_or(500),
        connections: t.get("connections", |node| count(node, 1..=10_000_000)).unwrap_or(10_000),
        connections_per_client: t.get("connections_per_client", |node| count(node, 1..=10_000_000)).unwrap_or(1000),
    }
}

fn access_log(t: &mut Table<'_>) -> AccessLog {
    let share = |node: Node<'_>| match node.number()? {
        share if (0.0..=1.0).contains(&share) => Some(share),
        other => node.refuse(format!("{other} is not a share: write 0.0 (nothing) to 1.0 (every request)")),
    };
    AccessLog { sample: t.get("sample", share).unwrap_or(0.0) }
}

fn count(node: Node<'_>, range: std::ops::RangeInclusive<u64>) -> Option<usize> {
    node.integer(range).and_then(|number| usize::try_from(number).ok())
}

fn at_least(node: Node<'_>, number: u64, least: u64) -> Option<usize> {
    if number < least { node.refuse(format!("{number} is less than {least}")) } else { usize::try_from(number).ok() }
}

/// `10.0.0.0/8`, or one address.
fn network(node: Node<'_>) -> Option<Network> {
    node.parsed(|text| {
        let bad = || format!("{} is not a network: write one such as \"10.0.0.0/8\" or an address", quoted(text));
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let digits = |prefix: &str| prefix.bytes().all(|b| b.is_ascii_digit()).then(|| prefix.parse().ok()).flatten();
        let prefix = prefix.map_or(Some(bits), digits).filter(|p: &u8| *p <= bits).ok_or_else(bad)?;
        let first = first_address(address, prefix);
        if first == address {
            Ok(Network { address, prefix })
        } else {
            Err(format!("{text} does not begin its network: write \"{first}/{prefix}\""))
        }
    })
}

fn first_address(address: IpAddr, prefix: u8) -> IpAddr {
    let prefix = u32::from(prefix);
    match address {
        IpAddr::V4(v4) => IpAddr::V4((v4.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into()),
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into()),
    }
}

/// `[admin]`.
pub(super) fn admin(t: &mut Table<'_>, listeners: &BTreeMap<ListenerId, Listener>) -> Admin {
    let default = AdminAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 3091)));
    let wrong = t.has("listen");
    let listen = t.get("listen", admin_address);
    let wrong = wrong && listen.is_none();
    let admin = Admin {
        listen: listen.unwrap_or(default),
        tokens: t.get("tokens", tokens).unwrap_or_default(),
        hosts: t.get("hosts", |node| node.list(|node| node.parsed(host_name))).unwrap_or_default(),
        metrics_auth: t.get("metrics_auth", truth).unwrap_or(false),
    };
    if let (AdminAddress::Tcp(address), false) = (&admin.listen, wrong) {
        if let Some((name, listener)) = listeners.iter().find(|(_, listener)| meet(listener.address, *address)) {
            let taken = listener.address;
            t.refuse("listen", format!("{address} is taken by listener {name} ({taken}): use another port"));
        }
        if !address.ip().to_canonical().is_loopback() && !t.has("tokens") {
            let advice =
                "give tokens = [{ name = \"ci\", role = \"operate\", env = \"NAME\" }], or listen on 127.0.0.1";
            t.refuse("tokens", format!("missing: {address} can be reached by other machines: {advice}"));
        }
    }
    if admin.metrics_auth && !t.has("tokens") {
        t.refuse("metrics_auth", "there is no token to ask for: give tokens, or leave metrics_auth out");
    }
    admin
}

/// Whether two addresses cannot both be listened on. `[::]` takes IPv4 too.
fn meet(a: SocketAddr, b: SocketAddr) -> bool {
    let covers = |a: SocketAddr, b: SocketAddr| a.ip().is_unspecified() && (a.is_ipv6() || b.is_ipv4());
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || covers(a, b) || covers(b, a))
}

/// `ip:port`, or `unix:/path`.
fn admin_address(node: Node<'_>) -> Option<AdminAddress> {
    match node.text()?.strip_prefix("unix:") {
        None => socket_address(node).map(AdminAddress::Tcp),
        Some(path) if Path::new(path).is_absolute() && !path.contains('\0') => {
            Some(AdminAddress::Unix(PathBuf::from(path)))
        }
        Some(_) => node.refuse("a Unix socket needs an absolute path: write \"unix:/run/tidegate/admin.sock\""),
    }
}

fn socket_address(node: Node<'_>) -> Option<SocketAddr> {
    node.parsed(|text| {
        text.parse().map_err(|_| format!("{} is not an address: write ip:port such as \"0.0.0.0:3090\"", quoted(text)))
    })
}

fn tokens(node: Node<'_>) -> Option<Vec<Token>> {
    let mut names = HashMap::new();
    node.nonempty("give a token, or leave the key out", |node| {
        let token = node.table(token)??;
        match names.insert(token.name.clone(), ()) {
            None => Some(token),
            Some(()) => node.refuse(format!(
                "there is a token named {} already: the audit log needs to tell them apart",
                token.name
            )),
        }
    })
}

fn token(t: &mut Table<'_>) -> Option<Token> {
    let name = t.require("name", "the audit log shows it", |node| {
        node.parsed(|text| ids::check(text).map(|()| text.to_owned()).map_err(|why| why.to_string()))
    });
    let role = t.require("role", "write \"read\", \"operate\" or \"admin\"", |node| {
        node.one_of(&[("read", Role::Read), ("operate", Role::Operate), ("admin", Role::Admin)])
    });
    let secret = secret_keys(t);
    Some(Token { name: name?, role: role?, secret: secret? })
}

/// `[listener.NAME]`, all of them.
pub(super) fn listeners(node: Node<'_>) -> Option<BTreeMap<ListenerId, Listener>> {
    let mut taken: HashMap<SocketAddr, String> = HashMap::new();
    node.map(|entry| {
        let listener = entry.node.table(|t| listener(t, &mut taken)).flatten();
        (entry.key(ListenerId::parse), listener)
    })
}

fn listener(t: &mut Table<'_>, taken: &mut HashMap<SocketAddr, String>) -> Option<Listener> {
    let address = t.require("address", "write ip:port such as \"0.0.0.0:3090\"", socket_address);
    let tls = t.get("tls", |node| node.table(tls)?);
    let h2c = t.get("h2c", truth).unwrap_or(false);
    if h2c && t.has("tls") {
        t.refuse("h2c", "a listener with tls speaks HTTP/2 by ALPN: leave h2c out");
    }
    let service_paths = t.get("service_paths", truth).unwrap_or(false);
    let preview = t.get("preview", |node| node.parsed(host_name));
    let address = address?;
    // Port 0 is a free one each time.
    if address.port() != 0
        && let Some(other) = taken.insert(address, t.name().to_owned())
    {
        t.refuse("address", format!("{address} is taken by listener {other}: use another port"));
    }
    Some(Listener { address, tls, h2c, service_paths, preview })
}

fn tls(t: &mut Table<'_>) -> Option<Tls> {
    let cert = t.require("cert", "write the path of the certificate chain (PEM)", file);
    let key = t.require("key", "write the path of the private key (PEM)", file);
    Some(Tls { cert: cert?, key: key? })
}
