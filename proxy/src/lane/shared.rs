//! What every request of the process reads.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tidegate_config::{AccessLog, Config, Limits, Network};

use super::pins::PinKeys;
use crate::{
    mirror::Mirrors,
    net::Rosters,
    observe::counters::Counters,
    routing::{PassiveSigns, Routing},
};

/// What the file says about requests and does not belong to a service. Read at the start: a change needs an upgrade or a restart.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// What a client may use.
    pub(crate) limits: Limits,
    /// Networks whose forwarding headers are believed.
    pub(crate) trusted_proxies: Vec<Network>,
    /// Whether `Forwarded` is sent to endpoints.
    pub(crate) forwarded: bool,
    /// Which requests are logged.
    pub(crate) access_log: AccessLog,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The snapshot in force.
    pub(crate) routing: Arc<Routing>,
    /// Where signs against an endpoint go.
    pub(crate) signs: PassiveSigns,
    /// Who may pin a request to a target.
    pub(crate) pins: ArcSwap<PinKeys>,
    /// Copies for shadows.
    pub(crate) mirrors: Mirrors,
    /// What is counted and belongs to no service.
    pub(crate) counters: Arc<Counters>,
    /// What is open.
    pub(crate) rosters: Arc<Rosters>,
    /// What the file says.
    pub(crate) settings: Settings,
}

impl Shared {
    /// Puts it together. Listeners are counted in the order of the file, which is that of their indices.
    pub(crate) fn new(
        config: &Config,
        routing: Arc<Routing>,
        signs: PassiveSigns,
        pins: PinKeys,
        mirrors: Mirrors,
    ) -> Self {
        let server = &config.server;
        Self {
            routing,
            signs,
            pins: ArcSwap::from_pointee(pins),
            mirrors,
            counters: Arc::new(Counters::new(config.listeners.keys().cloned())),
            rosters: Arc::default(),
            settings: Settings {
                limits: server.limits,
                trusted_proxies: server.trusted_proxies.clone(),
                forwarded: server.forwarded,
                access_log: server.access_log,
            },
        }
    }
}
