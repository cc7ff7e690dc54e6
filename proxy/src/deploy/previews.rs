//! What commands of a deployment are told about how its new versions are reached before their release:
//! `TIDEGATE_PREVIEW_URL` is the command's own service, `TIDEGATE_URL_<SERVICE>` every service that is released with it.

use std::{collections::BTreeMap, net::SocketAddr};

use tidegate_config::{Config, ListenerId, ServiceId};
use tidegate_core::{
    ListenerIdx, Snapshot,
    deploy::{DeploymentId, engine::Engine, machine::variable},
};

/// The listeners, as somebody on this machine finds them.
#[derive(Debug, Default)]
pub(crate) struct Entrances(Vec<Entrance>);

#[derive(Debug)]
struct Entrance {
    scheme: &'static str,
    port: u16,
}

impl Entrances {
    /// The listeners of a configuration in their order, at the addresses that they have.
    pub(crate) fn new(config: &Config, addresses: &BTreeMap<ListenerId, SocketAddr>) -> Self {
        let entrance = |(id, listener): (&ListenerId, &tidegate_config::Listener)| Entrance {
            scheme: if listener.tls.is_some() { "https" } else { "http" },
            port: addresses.get(id).unwrap_or(&listener.address).port(),
        };
        Self(config.listeners.iter().map(entrance).collect())
    }

    /// Adds what a command of a deployment is told. Without a listener that has previews, nothing.
    pub(super) fn tell(
        &self,
        env: &mut BTreeMap<String, String>,
        service: &ServiceId,
        id: &DeploymentId,
        engine: &Engine,
        snapshot: &Snapshot,
    ) {
        let Some(deployment) = engine.get(id) else { return };
        let Some(label) = engine.preview_label(deployment) else { return };
        let offers = |at: u32| snapshot.offer(ListenerIdx(at)).and_then(|offer| offer.preview.as_deref());
        let Some((entrance, domain)) = self.0.iter().zip(0..).find_map(|(entrance, at)| Some((entrance, offers(at)?)))
        else {
            return;
        };
        let url = |service: &ServiceId| label.host(service, domain).map(|host| entrance.url(&host));
        for member in &deployment.plan.members {
            if let Some(url) = url(&member.service) {
                env.insert(format!("TIDEGATE_URL_{}", variable(member.service.as_str())), url);
            }
        }
        if let Some(url) = url(service) {
            env.insert("TIDEGATE_PREVIEW_URL".into(), url);
        }
    }
}

impl Entrance {
    fn url(&self, host: &str) -> String {
        match (self.scheme, self.port) {
            ("http", 80) | ("https", 443) => format!("{}://{host}", self.scheme),
            (scheme, port) => format!("{scheme}://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_the_port_where_it_is_not_the_usual_one() {
        let url = |scheme, port| Entrance { scheme, port }.url("h");
        let urls = [url("http", 80), url("https", 443), url("http", 443), url("https", 3092)];
        assert_eq!(urls, ["http://h", "https://h", "http://h:443", "https://h:3092"]);
    }
}
