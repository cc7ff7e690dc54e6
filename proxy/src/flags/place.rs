//! Finds the store of a source and opens links to it, and asks again whether it is still there.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use redis::Value;
use tidegate_config::{RedisAddress, RedisServer, RedisSource, Secret, SecretSource, flags::RedisTls};
use tokio::sync::Notify;

use super::{
    failure::Failure,
    link::{Greeting, Link, Login, greet},
    socket,
};
use crate::control::secrets;

/// How long a question about where the store is may take, beside the reading of its values.
const ASIDE: Duration = Duration::from_millis(700);

/// The way to the store of a source.
#[derive(Debug)]
pub(super) struct Place {
    source: RedisSource,
    sentinels: Option<Sentinels>,
    /// Where the last link led to.
    server: Option<RedisServer>,
}

impl Place {
    /// The way to the store of this source.
    pub(super) fn new(source: &RedisSource) -> Self {
        let sentinels = match &source.address {
            RedisAddress::Sentinel { sentinels, master } => Some(Sentinels::new(sentinels, master, source)),
            RedisAddress::Tcp(_) | RedisAddress::Unix(_) => None,
        };
        Self { source: source.clone(), sentinels, server: None }
    }

    /// Whether its address can change while a link is open without the link ending.
    pub(super) fn is_told_by_sentinels(&self) -> bool {
        self.sentinels.is_some()
    }

    /// Opens a link. With `wake`, the store is asked to tell of changes by it.
    pub(super) async fn open(&mut self, wake: Option<Arc<Notify>>) -> Result<Link, Failure> {
        let server = match (&self.source.address, &mut self.sentinels) {
            (RedisAddress::Unix(_), _) => None,
            (RedisAddress::Tcp(server), _) => Some(server.clone()),
            (RedisAddress::Sentinel { .. }, Some(sentinels)) => Some(sentinels.master().await?),
            (RedisAddress::Sentinel { .. }, None) => None,
        };
        self.server = server;
        // The password is read each time: it may have been changed, here as there.
        let login = Login {
            username: self.source.username.clone(),
            password: password(self.source.password.as_ref()).await?,
            database: self.source.database,
        };
        let (stream, peer) = self.socket().await?;
        match greet(stream, peer, &login, wake.clone()).await {
            Ok(link) => Ok(link),
            Err(Greeting::Failed(failure)) => Err(failure),
            Err(Greeting::OldProtocol) if wake.is_none() => Err(Failure::Garbage("it knows no protocol of ours")),
            Err(Greeting::OldProtocol) => {
                let (stream, peer) = self.socket().await?;
                greet(stream, peer, &login, None).await.map_err(|greeting| match greeting {
                    Greeting::Failed(failure) => failure,
                    Greeting::OldProtocol => Failure::Refused("ERR in its greeting".into()),
                })
            }
        }
    }

    async fn socket(&self) -> Result<(Box<dyn crate::outbound::Socket>, Option<SocketAddr>), Failure> {
        match (&self.source.address, &self.server) {
            (RedisAddress::Unix(path), _) => Ok((socket::open_unix(path).await?, None)),
            (_, Some(server)) => {
                let (stream, peer) = socket::open(server, self.source.tls.as_ref()).await?;
                Ok((stream, Some(peer)))
            }
            (_, None) => Err(Failure::Garbage("no server is known")),
        }
    }

    /// Ends with a failure when the store is known to be somewhere else by now. Not to learn it is no failure: the
    /// values that the link gives are the best there are.
    pub(super) async fn check(&mut self, peer: Option<SocketAddr>) -> Result<(), Failure> {
        let asked = async {
            match (&mut self.sentinels, &self.server, peer) {
                (Some(sentinels), Some(server), _) => match sentinels.master().await {
                    Ok(master) if master != *server => Err(Failure::Moved(master.to_string())),
                    Ok(_) | Err(_) => Ok(()),
                },
                (None, Some(server), Some(peer)) if server.host.parse::<std::net::IpAddr>().is_err() => {
                    match socket::resolve(server).await {
                        Ok(addresses) if !addresses.contains(&peer) => Err(Failure::Moved("another address".into())),
                        Ok(_) | Err(_) => Ok(()),
                    }
                }
                _ => Ok(()),
            }
        };
        tokio::time::timeout(ASIDE, asked).await.unwrap_or(Ok(()))
    }
}

async fn password(source: Option<&SecretSource>) -> Result<Option<Secret>, Failure> {
    let Some(source) = source.cloned() else { return Ok(None) };
    let read = tokio::task::spawn_blocking(move || secrets::read(&source)).await;
    read.unwrap_or_else(|_| Err("the password could not be read".into())).map(Some).map_err(Failure::Secret)
}

/// The Sentinels of a source, and a link to one of them.
#[derive(Debug)]
struct Sentinels {
    servers: Vec<RedisServer>,
    master: String,
    password: Option<SecretSource>,
    tls: Option<RedisTls>,
    link: Option<Link>,
    /// The one that is asked.
    current: usize,
}

impl Sentinels {
    fn new(servers: &[RedisServer], master: &str, source: &RedisSource) -> Self {
        Self {
            servers: servers.to_vec(),
            master: master.to_owned(),
            password: source.sentinel_password.clone(),
            tls: source.tls.clone(),
            link: None,
            current: 0,
        }
    }

    /// Where the master is, as the first Sentinel says that answers.
    async fn master(&mut self) -> Result<RedisServer, Failure> {
        let mut problem = String::new();
        for _ in 0..self.servers.len() {
            // The link is out of the way while it is asked: if this future is dropped, its answer must not be taken for
            // that of the next question.
            match self.ask().await {
                Ok(server) => return Ok(server),
                Err(failure) => problem = failure.to_string(),
            }
            self.current = (self.current + 1) % self.servers.len();
        }
        Err(Failure::Sentinel { master: self.master.clone(), problem })
    }

    async fn ask(&mut self) -> Result<RedisServer, Failure> {
        let mut link = match self.link.take() {
            Some(link) => link,
            None => self.connect().await?,
        };
        let mut command = redis::cmd("SENTINEL");
        command.arg("get-master-addr-by-name").arg(&self.master);
        let answer = link.command(command).await?;
        self.link = Some(link);
        match answer {
            Value::Array(parts) => server_of(&parts).ok_or(Failure::Garbage("an address is no host and port")),
            _ => Err(Failure::Refused("it knows no such master".into())),
        }
    }

    async fn connect(&self) -> Result<Link, Failure> {
        let Some(server) = self.servers.get(self.current) else { return Err(Failure::Garbage("no sentinel is given")) };
        let login = Login { password: password(self.password.as_ref()).await?, ..Login::default() };
        let (stream, peer) = socket::open(server, self.tls.as_ref()).await?;
        greet(stream, Some(peer), &login, None).await.map_err(|greeting| match greeting {
            Greeting::Failed(failure) => failure,
            Greeting::OldProtocol => Failure::Refused("ERR in its greeting".into()),
        })
    }
}

fn server_of(parts: &[Value]) -> Option<RedisServer> {
    let text = |value: &Value| match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        _ => None,
    };
    let [host, port] = parts else { return None };
    Some(RedisServer { host: text(host)?, port: text(port)?.parse().ok()? })
}
