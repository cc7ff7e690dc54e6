//! How many connections a listener and a client may have. Bounded by themselves: a client without one is forgotten.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// The connections of all workers.
#[derive(Debug)]
pub(super) struct Caps {
    per_client: usize,
    clients: Mutex<HashMap<IpAddr, usize>>,
}

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct ListenerCap {
    limit: usize,
    open: AtomicUsize,
}

impl ListenerCap {
    /// A listener without connections.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, open: AtomicUsize::new(0) }
    }
}

/// A connection that counts until it is dropped.
#[derive(Debug)]
pub(super) struct Admitted {
    caps: Arc<Caps>,
    listener: Arc<ListenerCap>,
    client: IpAddr,
}

impl Caps {
    /// No connections yet.
    pub(super) fn new(per_client: usize) -> Self {
        Self { per_client, clients: Mutex::default() }
    }

    /// Counts a connection, or refuses it because its listener or its client has too many.
    pub(super) fn admit(self: &Arc<Self>, listener: &Arc<ListenerCap>, client: IpAddr) -> Option<Admitted> {
        let client = identity(client);
        listener.open.fetch_update(Relaxed, Relaxed, |open| (open < listener.limit).then_some(open + 1)).ok()?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let open = clients.entry(client).or_default();
        if *open >= self.per_client {
            listener.open.fetch_sub(1, Relaxed);
            return None;
        }
        *open += 1;
        drop(clients);
        Some(Admitted { caps: Arc::clone(self), listener: Arc::clone(listener), client })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.listener.open.fetch_sub(1, Relaxed);
        let mut clients = self.caps.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = clients.get_mut(&self.client) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// Who a connection counts for. An IPv6 client is its /64: one subscriber owns all of it.
fn identity(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_client_does_not_use_up_its_listener() {
        let caps = Arc::new(Caps::new(2));
        let listener = Arc::new(ListenerCap::new(3));
        let [a, b]: [IpAddr; 2] = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        let first = caps.admit(&listener, a).unwrap();
        let _second = caps.admit(&listener, a).unwrap();
        assert!(caps.admit(&listener, a).is_none());
        let _third = caps.admit(&listener, b).unwrap();
        assert!(caps.admit(&listener, b).is_none(), "the listener is full");
        drop(first);
        assert!(caps.admit(&listener, a).is_some());
    }

    #[test]
    fn clients_without_connections_are_forgotten() {
        let caps = Arc::new(Caps::new(1));
        let listener = Arc::new(ListenerCap::new(1));
        drop(caps.admit(&listener, [10, 0, 0, 1].into()).unwrap());
        assert!(caps.clients.lock().unwrap().is_empty());
        assert_eq!(listener.open.load(Relaxed), 0);
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let one: IpAddr = "2001:db8:1:2:3::1".parse().unwrap();
        let two: IpAddr = "2001:db8:1:2:4::9".parse().unwrap();
        let other: IpAddr = "2001:db8:1:3::1".parse().unwrap();
        assert_eq!(identity(one), identity(two));
        assert_ne!(identity(one), identity(other));
        assert_eq!(identity("::ffff:10.0.0.1".parse().unwrap()), IpAddr::from([10, 0, 0, 1]));
    }
}
