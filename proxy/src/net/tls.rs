//! TLS of listeners: certificate and key from PEM files, HTTP/2 or HTTP/1.1 by ALPN. Certificates are renewed without
//! touching connections: each handshake takes what is in force then.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use tidegate_config::{Listener, ListenerId, Tls};
use tokio_rustls::rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

/// Protocols in the order of preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("listener {listener}: {path}: {reason}", path = .path.display())]
pub(crate) struct TlsError {
    /// The listener.
    pub(crate) listener: ListenerId,
    /// The file.
    path: PathBuf,
    /// What is wrong with it.
    reason: String,
}

/// The certificate of a listener, as the next handshake takes it.
pub(super) type Certificate = Arc<ArcSwap<ServerConfig>>;

/// The certificates of all listeners that have one.
#[derive(Debug, Default)]
pub(crate) struct Certificates(BTreeMap<ListenerId, Certificate>);

/// Certificates that were read and checked, and wait to be put in force.
#[derive(Debug)]
pub(crate) struct Renewal(Vec<(ListenerId, Arc<ServerConfig>)>);

impl Certificates {
    /// Loads a listener's certificate.
    pub(super) fn load(&mut self, listener: &ListenerId, files: &Tls) -> Result<Certificate, TlsError> {
        let certificate = Arc::new(ArcSwap::new(read(listener, files)?));
        self.0.insert(listener.clone(), Arc::clone(&certificate));
        Ok(certificate)
    }

    /// Reads the certificates of these listeners again; all problems at once. Listeners that were not there at the start
    /// are passed over.
    pub(crate) fn read_again(&self, listeners: &BTreeMap<ListenerId, Listener>) -> Result<Renewal, Vec<TlsError>> {
        let (mut read_well, mut problems) = (Vec::new(), Vec::new());
        for id in self.0.keys() {
            let Some(files) = listeners.get(id).and_then(|listener| listener.tls.as_ref()) else { continue };
            match read(id, files) {
                Ok(config) => read_well.push((id.clone(), config)),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(Renewal(read_well)) } else { Err(problems) }
    }

    /// Puts them in force for the handshakes to come.
    pub(crate) fn renew(&self, renewal: Renewal) {
        for (listener, config) in renewal.0 {
            if let Some(certificate) = self.0.get(&listener) {
                certificate.store(config);
            }
        }
    }
}

fn read(listener: &ListenerId, files: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    let bad = |path: &Path, reason: String| TlsError { listener: listener.clone(), path: path.into(), reason };
    let chain: Vec<_> = CertificateDer::pem_file_iter(&files.cert)
        .and_then(Iterator::collect)
        .map_err(|error| bad(&files.cert, format!("cannot read the certificate chain: {error}")))?;
    if chain.is_empty() {
        return Err(bad(&files.cert, "holds no certificate; it must be a PEM file with the chain".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| bad(&files.key, format!("cannot read the private key: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| bad(&files.cert, format!("cannot be used with {}: {error}", files.key.display())))?;
    config.alpn_protocols = ALPN.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}
