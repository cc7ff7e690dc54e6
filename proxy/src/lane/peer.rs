//! From an endpoint to pingora's `HttpPeer`, with every timeout set: pingora's defaults wait for ever.

use std::time::Duration;

use pingora_core::{protocols::TcpKeepalive, upstreams::peer::HttpPeer};
use pingora_error::{Error, ErrorType, Result};
use tidegate_config::{Host, Scheme, Timeouts};
use tidegate_core::Endpoint;

/// Requests that share one HTTP/2 connection to an endpoint: what servers usually allow.
const STREAMS: usize = 100;

/// A silent HTTP/2 connection is asked for a sign of life this often.
const PING: Duration = Duration::from_secs(30);

/// An endpoint that went without a word is noticed after idle + interval x count.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_PROBES: usize = 3;

/// Unacknowledged data ends a connection to an endpoint after this time.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Whether the request becomes a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Request and answer.
    Exchange,
    /// WebSocket: silent for as long as both sides like.
    Tunnel,
}

/// How to reach an endpoint. `random` chooses among the addresses of a name.
pub(super) fn peer(endpoint: &Endpoint, timeouts: &Timeouts, used: Use, random: u64) -> Result<Box<HttpPeer>> {
    let tls = endpoint.address.scheme == Scheme::Https;
    // Without a name pingora would not verify the certificate, so an address stands for itself.
    let name = |text: String| if tls { text } else { String::new() };
    let mut peer = match &endpoint.address.host {
        Host::Unix(path) => {
            HttpPeer::new_uds(path.to_str().ok_or_else(unresolved)?, tls, name("localhost".to_owned()))?
        }
        Host::Ip(address) => HttpPeer::new(*address, tls, name(address.ip().to_string())),
        Host::Name(host, _) => {
            let count = endpoint.sockets.len() as u64;
            let at = random.checked_rem(count).and_then(|at| usize::try_from(at).ok()).ok_or_else(unresolved)?;
            HttpPeer::new(endpoint.sockets.get(at).ok_or_else(unresolved)?, tls, name(host.to_string()))
        }
    };
    let options = &mut peer.options;
    options.connection_timeout = Some(timeouts.connect);
    options.total_connection_timeout = Some(timeouts.connect);
    options.write_timeout = Some(timeouts.response);
    options.idle_timeout = Some(timeouts.idle);
    options.read_timeout = match used {
        Use::Exchange => Some(timeouts.response),
        Use::Tunnel => None,
    };
    options.tcp_keepalive = Some(TcpKeepalive {
        idle: KEEPALIVE_IDLE,
        interval: KEEPALIVE_INTERVAL,
        count: KEEPALIVE_PROBES,
        #[cfg(target_os = "linux")]
        user_timeout: USER_TIMEOUT,
    });
    match endpoint.address.scheme {
        Scheme::Http => {}
        Scheme::H2c => options.set_http_version(2, 2),
        // WebSocket needs HTTP/1.1.
        Scheme::Https if used == Use::Tunnel => {}
        Scheme::Https => options.set_http_version(2, 1),
    }
    options.max_h2_streams = STREAMS;
    options.h2_ping_interval = Some(PING);
    Ok(Box::new(peer))
}

fn unresolved() -> Box<Error> {
    Error::explain(ErrorType::ConnectNoRoute, "the endpoint has no address")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use pingora_core::{protocols::ALPN, upstreams::peer::Peer};
    use tidegate_core::Health;

    use super::*;

    const TIMEOUTS: Timeouts =
        Timeouts { connect: Duration::from_secs(2), response: Duration::from_secs(3), idle: Duration::from_secs(4) };

    fn endpoint(text: &str, sockets: &[&str]) -> Endpoint {
        Endpoint {
            address: text.parse().unwrap(),
            sockets: sockets.iter().map(|socket| socket.parse().unwrap()).collect(),
            weight: 1,
            health: Health::Healthy,
            stats: Arc::default(),
        }
    }

    #[test]
    fn every_wait_for_an_endpoint_has_an_end() {
        let peer = peer(&endpoint("127.0.0.1:1", &[]), &TIMEOUTS, Use::Exchange, 0).unwrap();
        assert_eq!(peer.total_connection_timeout(), Some(TIMEOUTS.connect));
        assert_eq!(peer.options.read_timeout, Some(TIMEOUTS.response));
        assert_eq!(peer.options.write_timeout, Some(TIMEOUTS.response));
        assert_eq!(peer.idle_timeout(), Some(TIMEOUTS.idle));
    }

    #[test]
    fn the_scheme_decides_protocol_and_verification() {
        for (text, tls, sni, alpn) in [
            ("127.0.0.1:1", false, "", ALPN::H1),
            ("h2c://127.0.0.1:1", false, "", ALPN::H2),
            ("https://127.0.0.1:1", true, "127.0.0.1", ALPN::H2H1),
            ("https://example.org:1", true, "example.org", ALPN::H2H1),
            ("unix:/run/app.sock", false, "", ALPN::H1),
        ] {
            let peer = peer(&endpoint(text, &["127.0.0.9:1"]), &TIMEOUTS, Use::Exchange, 0).unwrap();
            assert_eq!((peer.tls(), peer.sni(), peer.get_alpn().unwrap()), (tls, sni, &alpn), "{text}");
            assert!(peer.verify_cert() && peer.verify_hostname(), "{text}");
        }
    }

    #[test]
    fn a_name_is_reached_at_each_of_its_addresses_and_not_at_all_without_one() {
        let name = endpoint("example.org:1", &["127.0.0.1:1", "127.0.0.2:1"]);
        let reached = |random| peer(&name, &TIMEOUTS, Use::Exchange, random).unwrap().address().to_string();
        assert_eq!([reached(0), reached(1), reached(2)], ["127.0.0.1:1", "127.0.0.2:1", "127.0.0.1:1"]);
        assert!(peer(&endpoint("example.org:1", &[]), &TIMEOUTS, Use::Exchange, 0).is_err());
    }

    #[test]
    fn a_tunnel_may_be_silent() {
        let peer = peer(&endpoint("https://127.0.0.1:1", &[]), &TIMEOUTS, Use::Tunnel, 0).unwrap();
        assert_eq!((peer.options.read_timeout, peer.get_alpn().unwrap()), (None, &ALPN::H1));
    }
}
