//! One endpoint of a target: weighted least requests of two choices, among the best that there are.
//!
//! Two choices level the load nearly as well as a look at all of them, without the herd that runs to the least loaded.

use std::sync::atomic::Ordering::Relaxed;

use crate::{
    health::Health,
    snapshot::{Endpoint, EndpointIdx, Target},
};

/// Endpoints that a choice leaves out at most: those that were tried (a first attempt and five retries), and the first
/// of two choices.
const MAX_EXCLUDED: usize = 8;

/// Endpoints of equal rank, and their weights.
#[derive(Debug, Default)]
pub enum Pool {
    /// None.
    #[default]
    Empty,
    /// Just one, which costs nothing to choose.
    One(EndpointIdx),
    /// Two or more.
    Many(Shares),
}

/// Two or more endpoints in their order, and their weights.
#[derive(Debug)]
pub struct Shares(Box<[Share]>);

#[derive(Debug, Clone, Copy)]
struct Share {
    endpoint: EndpointIdx,
    /// Sum of the weights up to and with this one.
    end: u32,
    weight: u32,
}

/// The endpoints of a target that may be chosen, by rank.
#[derive(Debug, Default)]
pub struct Pools {
    /// Healthy ones.
    healthy: Pool,
    /// Suspect ones: the last choice.
    suspect: Pool,
}

impl Pools {
    /// The pools of a target's endpoints.
    pub fn new(endpoints: &[Endpoint]) -> Self {
        Self { healthy: Pool::new(endpoints, Health::Healthy), suspect: Pool::new(endpoints, Health::Suspect) }
    }

    /// The endpoint that is always chosen, as long as none was tried, if there is one.
    pub(crate) fn only(&self) -> Option<EndpointIdx> {
        match (&self.healthy, &self.suspect) {
            (Pool::One(only), _) | (Pool::Empty, Pool::One(only)) => Some(*only),
            (Pool::Many(_), _) | (Pool::Empty, Pool::Empty | Pool::Many(_)) => None,
        }
    }

    /// Whether nothing can be chosen.
    pub fn is_empty(&self) -> bool {
        matches!((&self.healthy, &self.suspect), (Pool::Empty, Pool::Empty))
    }
}

/// Chooses an endpoint that was not tried.
pub(crate) fn choose(
    target: &Target,
    tried: impl Iterator<Item = EndpointIdx> + Clone,
    random: u64,
) -> Option<EndpointIdx> {
    let Pools { healthy, suspect } = &target.pools;
    healthy
        .choose(&target.endpoints, tried.clone(), random)
        .or_else(|| suspect.choose(&target.endpoints, tried, random))
}

impl Pool {
    fn new(endpoints: &[Endpoint], health: Health) -> Self {
        let mut end = 0_u32;
        let shares =
            endpoints.iter().zip(0..).filter(|(endpoint, _)| endpoint.health == health && endpoint.is_resolved());
        let shares = shares.map(|(endpoint, at)| {
            let weight = u32::from(endpoint.weight.max(1));
            end = end.saturating_add(weight);
            Share { endpoint: EndpointIdx(at), end, weight }
        });
        let shares: Box<[Share]> = shares.collect();
        match &*shares {
            [] => Self::Empty,
            [only] => Self::One(only.endpoint),
            [_, _, ..] => Self::Many(Shares(shares)),
        }
    }

    fn choose(
        &self,
        endpoints: &[Endpoint],
        mut tried: impl Iterator<Item = EndpointIdx>,
        random: u64,
    ) -> Option<EndpointIdx> {
        match self {
            Self::Empty => None,
            Self::One(only) => (!tried.any(|endpoint| endpoint == *only)).then_some(*only),
            Self::Many(shares) => shares.choose(endpoints, tried, random),
        }
    }
}

impl Shares {
    fn choose(
        &self,
        endpoints: &[Endpoint],
        tried: impl Iterator<Item = EndpointIdx>,
        random: u64,
    ) -> Option<EndpointIdx> {
        let mut excluded = Excluded::default();
        for endpoint in tried {
            if let Some(at) = self.0.iter().position(|share| share.endpoint == endpoint) {
                excluded.add(at);
            }
        }
        let first = self.draw(&excluded, random as u32)?;
        excluded.add(first);
        let first = self.0.get(first)?;
        let Some(second) = self.draw(&excluded, (random >> 32) as u32).and_then(|at| self.0.get(at)) else {
            return Some(first.endpoint);
        };
        // Requests per weight, compared without a division. On a tie the first, so that weights count when all is idle.
        let load = |share: &Share| {
            endpoints.get(share.endpoint.get()).map_or(0, |endpoint| u64::from(endpoint.stats.in_flight.load(Relaxed)))
        };
        let second_is_less = load(second) * u64::from(first.weight) < load(first) * u64::from(second.weight);
        Some(if second_is_less { second.endpoint } else { first.endpoint })
    }

    /// Draws by weight among those that are not excluded.
    fn draw(&self, excluded: &Excluded, random: u32) -> Option<usize> {
        let total = self.0.last()?.end;
        let left = excluded.iter().filter_map(|at| self.0.get(at)).fold(total, |left, share| left - share.weight);
        if left == 0 {
            return None;
        }
        let mut point = ((u64::from(random) * u64::from(left)) >> 32) as u32;
        // Ascending: each excluded share that begins at or before the point moves it on by its weight.
        for share in excluded.iter().filter_map(|at| self.0.get(at)) {
            if share.end - share.weight <= point {
                point += share.weight;
            }
        }
        Some(self.0.partition_point(|share| share.end <= point))
    }
}

/// Positions in a pool, ascending, none twice.
#[derive(Debug, Default)]
struct Excluded {
    positions: [usize; MAX_EXCLUDED],
    length: usize,
}

impl Excluded {
    fn add(&mut self, position: usize) {
        let at = self.iter().take_while(|other| *other < position).count();
        if self.length == MAX_EXCLUDED || self.iter().nth(at) == Some(position) {
            return;
        }
        self.length += 1;
        if let Some(tail) = self.positions.get_mut(at..self.length) {
            tail.rotate_right(1);
            if let Some(first) = tail.first_mut() {
                *first = position;
            }
        }
    }

    fn iter(&self) -> impl Iterator<Item = usize> {
        self.positions.iter().copied().take(self.length)
    }
}

#[cfg(test)]
mod tests;
