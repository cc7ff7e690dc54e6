//! TLS of listeners: certificate and key from PEM files, HTTP/2 or HTTP/1.1 by ALPN.

use std::{path::Path, sync::Arc};

use tidegate_config::{ListenerId, Tls};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

use super::bind::BindError;

/// Protocols in the order of preference.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Loads a listener's certificate.
pub(super) fn acceptor(listener: &ListenerId, files: &Tls) -> Result<TlsAcceptor, BindError> {
    let bad = |path: &Path, reason: String| BindError::Tls { listener: listener.clone(), path: path.into(), reason };
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
    Ok(TlsAcceptor::from(Arc::new(config)))
}
