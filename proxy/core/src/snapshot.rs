//! The compiled, immutable state that requests read. Each request reads exactly one.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use tidegate_config::{
    EndpointAddress, FailoverPolicy, Host, MirrorId, MirrorSpec, Retry, ServiceId, ServiceSpec, Sticky, TargetId,
    Timeouts, Weight,
};

use crate::{
    flags::{FlagCheck, FlagTable},
    health::Health,
    pool::Pools,
    route::Router,
    rules::Rule,
    sequence::{Sequence, SplitTable},
    state::{Generation, ListenerOffer, State},
    stats::{EndpointStats, MirrorStats, ServiceStats, TargetStats},
};

macro_rules! idx {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u32);

        impl $name {
            /// The position as an index.
            pub fn get(self) -> usize {
                self.0 as usize
            }
        }
    };
}

idx!(
    /// Position of a listener in [`State::listeners`].
    ListenerIdx
);
idx!(
    /// Position of a service in a snapshot.
    ServiceIdx
);
idx!(
    /// Position of a target in its service.
    TargetIdx
);
idx!(
    /// Position of an endpoint in its target.
    EndpointIdx
);
idx!(
    /// Position of a mirror in its service.
    MirrorIdx
);

/// Everything that a request's decision reads.
#[derive(Debug)]
pub struct Snapshot {
    /// Its number.
    pub generation: Generation,
    /// What it was compiled from, for those who show it and for the next [`compile`](crate::compile).
    pub state: Arc<State>,
    /// From host and path to a service.
    pub router: Arc<Router>,
    /// The services, in the order of their names.
    pub services: Vec<Arc<Service>>,
    /// The flags.
    pub flags: Arc<FlagTable>,
    /// What listeners offer beside routes, by their position; `None`: none of them offers anything.
    pub offers: Option<Arc<[ListenerOffer]>>,
}

impl Snapshot {
    /// What a listener offers beside routes.
    pub fn offer(&self, listener: ListenerIdx) -> Option<&ListenerOffer> {
        self.offers.as_ref()?.get(listener.get())
    }

    /// The service at an index of this snapshot.
    pub fn service(&self, idx: ServiceIdx) -> Option<&Arc<Service>> {
        self.services.get(idx.get())
    }

    /// The service of this name.
    pub fn service_named(&self, id: &ServiceId) -> Option<&Arc<Service>> {
        self.services.binary_search_by(|service| service.id.cmp(id)).ok().and_then(|at| self.services.get(at))
    }
}

/// A service, compiled.
///
/// In this order in memory: what every decision reads fills the first two cache lines, since with many services each
/// decision finds its service outside the nearest caches. A plain decision reads nothing else, but for its sequence.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Service {
    /// From a draw or bucket to a target.
    pub split: SplitTable,
    /// Where the split's traffic goes instead, and the share of it, while a failover is on.
    pub overlay: Option<(TargetIdx, Weight)>,
    /// The stable target.
    pub stable: TargetIdx,
    /// [`ServiceStats::sequence`], at hand.
    pub sequence: Sequence,
    /// Stickiness.
    pub sticky: Option<Box<Sticky>>,
    /// Rules in order.
    pub rules: Box<[Rule]>,
    /// Mirrors in the order of their names.
    pub mirrors: Box<[Mirror]>,
    /// The endpoints of targets that have just one to offer, at hand.
    pub sole: Sole,
    /// Whether a rule or mirror asks who a request is from because of a flag.
    pub asks_flags: bool,
    /// Targets in the order of their names.
    pub targets: Vec<Target>,
    /// The salt of the sticky hash.
    pub salt: Arc<str>,
    /// The target of the failover policy: the last resort of a retry. `None` also where it must be prepared first.
    pub fallback: Option<TargetIdx>,
    /// Its name.
    pub id: ServiceId,
    /// What the file declares.
    pub spec: Arc<ServiceSpec>,
    /// Waits.
    pub timeouts: Timeouts,
    /// Retries.
    pub retry: Retry,
    /// Failover policy.
    pub failover: Option<FailoverPolicy>,
    /// Counters.
    pub stats: Arc<ServiceStats>,
}

const _: () =
    assert!(std::mem::offset_of!(Service, targets) <= 128, "what every decision reads fits in two cache lines");

/// For each of the first targets of a service, if it is available and offers just one endpoint: that one.
///
/// A cache of what the targets say, so that most decisions need not read them.
#[derive(Debug, Clone, Copy)]
pub struct Sole([Option<NonZeroU16>; 3]);

impl Sole {
    pub(crate) fn new(targets: &[Target]) -> Self {
        let mut targets = targets.iter();
        Self([(); 3].map(|()| {
            let only = targets.next().filter(|target| target.available)?.pools.only()?;
            // One more than the index. Higher indices are left to the target.
            NonZeroU16::new(u16::try_from(only.0).ok()?.wrapping_add(1))
        }))
    }

    /// The endpoint of this target; `None`: its target must be asked.
    pub fn of(&self, target: TargetIdx) -> Option<EndpointIdx> {
        let Self(endpoints) = self;
        endpoints.get(target.get()).copied().flatten().map(|above| EndpointIdx(u32::from(above.get()) - 1))
    }
}

impl Service {
    /// The target at an index of this service.
    pub fn target(&self, idx: TargetIdx) -> Option<&Target> {
        self.targets.get(idx.get())
    }

    /// The index of the target of this name.
    pub fn target_named(&self, id: &str) -> Option<TargetIdx> {
        self.targets.binary_search_by(|target| target.id.as_str().cmp(id)).ok().map(|at| TargetIdx(at as u32))
    }
}

/// A target, compiled. In this order in memory, as [`Service`] is.
#[derive(Debug)]
#[repr(C)]
pub struct Target {
    /// Whether any endpoint may be chosen: open, and at least one healthy or suspect and resolved.
    pub available: bool,
    /// Whether it takes new requests at all (it is not drained).
    pub open: bool,
    /// Whether it is open and some endpoint has no verdict yet, so that it may become available soon.
    pub pending: bool,
    /// Whether it is under test and was not released: only a pin and a preview reach it. It is not `available` then.
    pub sealed: bool,
    /// Whether its service keeps requests waiting.
    pub held: bool,
    /// Whether who names it reaches it, by a path or a mirror: when it is available, and as a shadow also while it is
    /// sealed.
    pub by_name: bool,
    /// The endpoints that may be chosen. A pin reaches them also when the target is not open.
    pub pools: Pools,
    /// Its endpoints in the order of the file.
    pub endpoints: Vec<Endpoint>,
    /// Its name.
    pub id: TargetId,
    /// Moment (monotonic) at which what still runs on it is cut.
    pub cut_at: Option<Duration>,
    /// Counters.
    pub stats: Arc<TargetStats>,
}

/// An endpoint, compiled.
#[derive(Debug)]
pub struct Endpoint {
    /// Its address as configured: its identity.
    pub address: EndpointAddress,
    /// Socket addresses to connect to; empty for Unix sockets and for names that are not resolved yet.
    pub sockets: Vec<SocketAddr>,
    /// Relative weight.
    pub weight: u16,
    /// Its health.
    pub health: Health,
    /// Counters.
    pub stats: Arc<EndpointStats>,
}

impl Endpoint {
    /// Whether it is known where to connect to.
    pub fn is_resolved(&self) -> bool {
        matches!(self.address.host, Host::Unix(_)) || !self.sockets.is_empty()
    }
}

/// A mirror, compiled.
#[derive(Debug)]
pub struct Mirror {
    /// Its name.
    pub id: MirrorId,
    /// What is wanted of it.
    pub spec: Arc<MirrorSpec>,
    /// The shadow.
    pub to: TargetIdx,
    /// What must hold for it to copy.
    pub flag: Option<FlagCheck>,
    /// Counters.
    pub stats: Arc<MirrorStats>,
}

/// Listeners by name: a small convenience for tests and for those who compile.
pub fn listener_positions(state: &State) -> BTreeMap<&str, ListenerIdx> {
    state.listeners.iter().enumerate().map(|(at, id)| (id.as_str(), ListenerIdx(at as u32))).collect()
}
