//! Opens the socket to a store or a Sentinel: TCP, TLS or Unix. No part of the protocol is known here.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use pingora_core::tls::{
    ClientConfig, RootCertStore, ServerName, TlsConnector, install_default_crypto_provider, load_ca_file_into_store,
    load_certs_and_key_files, load_platform_certs_incl_env_into_store,
};
use tidegate_config::{RedisServer, flags::RedisTls};
use tokio::net::{TcpStream, UnixStream};

use super::failure::Failure;
use crate::outbound::Socket;

/// From the first byte to a socket that can be written to.
const CONNECT: Duration = Duration::from_secs(1);

/// Connects to a server; also says at which address it is.
pub(super) async fn open(
    server: &RedisServer,
    tls: Option<&RedisTls>,
) -> Result<(Box<dyn Socket>, SocketAddr), Failure> {
    let opened = async {
        let (stream, peer) = first_that_accepts(server).await?;
        let Some(tls) = tls else { return Ok((Box::new(stream) as Box<dyn Socket>, peer)) };
        let name = ServerName::try_from(server.host.clone())
            .map_err(|_| Failure::Tls(format!("{} is not a name that a certificate can hold", server.host)))?;
        let connector = TlsConnector::from(Arc::new(settings(tls).await?));
        let stream = connector.connect(name, stream).await.map_err(|error| Failure::Tls(error.to_string()))?;
        Ok((Box::new(stream) as Box<dyn Socket>, peer))
    };
    within_deadline(opened).await
}

/// Connects to a Unix socket.
pub(super) async fn open_unix(path: &Path) -> Result<Box<dyn Socket>, Failure> {
    let opened = async {
        let connect =
            |error: std::io::Error| Failure::Connect { to: path.display().to_string(), problem: text(&error) };
        Ok(Box::new(UnixStream::connect(path).await.map_err(connect)?) as Box<dyn Socket>)
    };
    within_deadline(opened).await
}

async fn within_deadline<T>(opened: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(CONNECT, opened).await.unwrap_or(Err(Failure::Timeout("connection", CONNECT)))
}

/// The addresses of a server now.
pub(super) async fn resolve(server: &RedisServer) -> Result<Vec<SocketAddr>, Failure> {
    let unresolved = |problem: String| Failure::Unresolved { host: server.host.clone(), problem };
    let found = tokio::net::lookup_host((server.host.as_str(), server.port)).await;
    let addresses: Vec<_> = found.map_err(|error| unresolved(text(&error)))?.collect();
    if addresses.is_empty() { Err(unresolved("it is not known".into())) } else { Ok(addresses) }
}

async fn first_that_accepts(server: &RedisServer) -> Result<(TcpStream, SocketAddr), Failure> {
    let mut last = None;
    for address in resolve(server).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok((stream, address));
            }
            Err(error) => last = Some(error),
        }
    }
    let problem = last.map_or_else(|| "it has no address".into(), |error| text(&error));
    Err(Failure::Connect { to: server.to_string(), problem })
}

fn text(error: &std::io::Error) -> String {
    error.kind().to_string()
}

/// Read anew for each connection: certificates are replaced while the process runs. Off the runtime's threads, since
/// the system's store is some hundred files.
async fn settings(tls: &RedisTls) -> Result<ClientConfig, Failure> {
    let tls = tls.clone();
    let read = tokio::task::spawn_blocking(move || read_settings(&tls));
    read.await.unwrap_or_else(|_| Err(Failure::Tls("the certificates could not be read".into())))
}

fn read_settings(tls: &RedisTls) -> Result<ClientConfig, Failure> {
    install_default_crypto_provider();
    let mut roots = RootCertStore::empty();
    match &tls.ca {
        Some(path) => load_ca_file_into_store(path, &mut roots)
            .map_err(|error| Failure::Tls(format!("cannot read {}: {error}", path.display())))?,
        None => load_platform_certs_incl_env_into_store(&mut roots)
            .map_err(|error| Failure::Tls(format!("cannot read the system's certificates: {error}")))?,
    }
    if let (true, Some(path)) = (roots.is_empty(), &tls.ca) {
        return Err(Failure::Tls(format!("{} holds no certificate", path.display())));
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    let Some((chain, key)) = &tls.identity else { return Ok(config.with_no_client_auth()) };
    let unusable = |problem: String| {
        Failure::Tls(format!("cannot use {} with the key {}: {problem}", chain.display(), key.display()))
    };
    let (chain, key) = load_certs_and_key_files(&chain.to_string_lossy(), &key.to_string_lossy())
        .map_err(|error| unusable(error.to_string()))?
        .ok_or_else(|| unusable("a certificate or a key is missing".into()))?;
    config.with_client_auth_cert(chain, key).map_err(|error| unusable(error.to_string()))
}
