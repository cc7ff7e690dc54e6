//! What lies in files of its own and is renewed while the process runs: certificates, tokens and the secrets of pins.
//!
//! All of it is read and checked first, and put in force together with the configuration that names it.

use std::{path::PathBuf, sync::Arc};

use arc_swap::ArcSwap;
use tidegate_admin::{Access, AccessToken, MetricsAccess};
use tidegate_config::{Config, Role, SecretSource, Token, server::AdminAddress};

use super::secrets::{Problem, Secrets};
use crate::{
    lane::{PinKeys, Shared},
    net::{self, Certificates},
};

/// What is in force.
pub(crate) struct Credentials {
    /// Where the admin API listens, whatever a later file says: what it needs to be safe depends on that.
    listen: AdminAddress,
    access: Arc<ArcSwap<Access>>,
    shared: Arc<Shared>,
    certificates: Arc<Certificates>,
}

/// What was read and waits to be put in force.
pub(crate) struct Renewal {
    access: Option<Access>,
    pins: PinKeys,
    certificates: net::Renewal,
}

impl Credentials {
    /// The credentials that a process began with.
    pub(crate) fn new(
        config: &Config,
        access: Arc<ArcSwap<Access>>,
        shared: Arc<Shared>,
        certificates: Arc<Certificates>,
    ) -> Self {
        Self { listen: config.admin.listen.clone(), access, shared, certificates }
    }

    /// Reads what a configuration names; all problems at once. Reads files.
    pub(crate) fn read(&self, config: &Config, secrets: &Secrets) -> Result<Renewal, Vec<Problem>> {
        let problem = |error: &net::TlsError| (format!("listener.{}.tls", error.listener), error.to_string());
        let certificates = self.certificates.read_again(&config.listeners);
        Ok(Renewal {
            // Tokens that suit another address may be too few for this one.
            access: (config.admin.listen == self.listen).then(|| access(config, secrets)),
            pins: pin_keys(secrets),
            certificates: certificates.map_err(|errors| errors.iter().map(problem).collect::<Vec<_>>())?,
        })
    }

    /// Puts them in force.
    pub(crate) fn renew(&self, renewal: Renewal) {
        if let Some(access) = renewal.access {
            self.access.store(Arc::new(access));
        }
        self.shared.pins.store(Arc::new(renewal.pins));
        self.certificates.renew(renewal.certificates);
    }
}

/// The files beside the configuration that hold credentials.
pub(crate) fn files(config: &Config) -> Vec<PathBuf> {
    let tokens = config.admin.tokens.iter().map(|token| &token.secret);
    let pins = config.services.values().filter_map(|service| service.pin.as_ref());
    let secrets = tokens.chain(pins).filter_map(|source| match source {
        SecretSource::File(path) => Some(path.clone()),
        SecretSource::Env(_) => None,
    });
    let tls = config.listeners.values().filter_map(|listener| listener.tls.as_ref());
    secrets.chain(tls.flat_map(|tls| [tls.cert.clone(), tls.key.clone()])).collect()
}

/// Who may pin requests.
pub(crate) fn pin_keys(secrets: &Secrets) -> PinKeys {
    let admin = secrets.tokens.iter().filter(|(token, _)| token.role == Role::Admin).map(|(_, secret)| secret);
    PinKeys::new(admin, secrets.pins.iter().map(|(service, secret)| (service.clone(), secret)))
}

/// Who may call the admin API.
pub(crate) fn access(config: &Config, secrets: &Secrets) -> Access {
    let token = |(token, secret): &(Token, _)| AccessToken::new(token.name.as_str(), token.role, secret);
    let metrics = if config.admin.metrics_auth { MetricsAccess::Token } else { MetricsAccess::Open };
    Access::new(secrets.tokens.iter().map(token).collect(), &config.admin.listen, config.admin.hosts.clone(), metrics)
}
