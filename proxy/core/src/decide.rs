//! The decision: which endpoint of which target of which service answers this request.
//!
//! Order: service by host and path, then pin, rules, split; target first, availability second; then one endpoint.

pub mod find;

use std::sync::atomic::AtomicU32;

use http::HeaderName;
use tidegate_config::Sticky;

use self::find::{Aim, Way, find_watched};
use crate::{
    flags::Subject,
    hash::{bucket, number},
    path::RequestPath,
    pool::choose,
    reject::Reject,
    request::RequestHead,
    route::Found,
    sequence,
    snapshot::{EndpointIdx, Mirror, Service, ServiceIdx, Snapshot, Target, TargetIdx},
    stats::Worker,
    visitor::{VisitorText, Who, known, visit_cookie},
};

/// Chance, given from outside.
#[derive(Debug, Clone, Copy)]
pub struct Draw {
    /// The worker, whose low-discrepancy sequence a non-sticky split follows.
    pub worker: Worker,
    /// Random bits: for an endpoint, a new visitor's id, the sampling of a mirror.
    pub random: [u64; 2],
}

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Plan {
    /// Forward it.
    Forward(Forward),
    /// Where it belongs has endpoints without a verdict yet: wait for the next snapshot, at most `timeouts.connect`,
    /// and decide again. While it is still this plan then, do what comes instead.
    Wait {
        /// The service.
        service: ServiceIdx,
        /// The failover's target, which can answer already; `None`: [`Reject::NoTarget`].
        instead: Option<Forward>,
    },
    /// Answer it here.
    Reject(Reject),
}

/// Where a request goes. Indices are of the snapshot that it was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The service.
    pub service: ServiceIdx,
    /// The target that was chosen by pin, rule, split or failover overlay. When `target` is another, it is this one
    /// that the request counts against, in [`TargetShard::diverted`](crate::stats::TargetShard::diverted).
    pub chosen: TargetIdx,
    /// The target that it is sent to: another than `chosen` when that has no available endpoint.
    pub target: TargetIdx,
    /// The endpoint.
    pub endpoint: EndpointIdx,
    /// Why this target.
    pub reason: Reason,
    /// Who it was decided for, if the service is sticky.
    pub visitor: Visitor,
    /// Mirrors that copy it: bit n for mirror n (services have at most 32).
    pub mirrors: u32,
    /// Bytes of the path that are taken off before it is forwarded (routes with `strip`, paths that name a service). What remains is empty, which
    /// means `/`, or begins with exactly one slash.
    pub strip: usize,
}

/// Why a target was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// An authorised pin.
    Pin,
    /// The rule at this position.
    Rule(u32),
    /// The split.
    Split,
    /// A failover.
    Failover,
    /// The path names the target.
    Path,
    /// The target is under test, and the request asks for the preview.
    Preview,
}

impl Reason {
    /// Its name in logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::Pin => "pin",
            Self::Rule(_) => "rule",
            Self::Split => "split",
            Self::Failover => "failover",
            Self::Path => "path",
            Self::Preview => "preview",
        }
    }

    /// Whether it means one target, so that no other may answer and nobody gets a copy.
    pub(crate) fn binds(self) -> bool {
        match self {
            Self::Path | Self::Preview => true,
            Self::Pin | Self::Rule(_) | Self::Split | Self::Failover => false,
        }
    }

    /// Whether it leads to a target that was chosen for it, as long as something answers there.
    pub(crate) fn reaches(self, target: &Target) -> bool {
        match self {
            // Drained targets too.
            Self::Pin => true,
            Self::Preview => target.open,
            Self::Path => target.by_name,
            Self::Rule(_) | Self::Split | Self::Failover => target.available,
        }
    }
}

/// Who a sticky decision is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Visitor {
    /// The service is not sticky.
    None,
    /// The request brought its key.
    Known,
    /// A new visitor, who is to be given this id by cookie: 128 random bits, as [`VisitorText`] writes them.
    New(u128),
}

/// Header that pins a request to a target, and that names the target in an answer.
pub const PIN_HEADER: HeaderName = HeaderName::from_static("x-tidegate-target");

/// Cookie that pins a request to a target: `<target>:<secret>`.
pub const PIN_COOKIE: &str = "tidegate-target";

/// Mirrors of a service that can copy one request: the bits of [`Forward::mirrors`].
pub const MAX_MIRRORS: usize = 32;

/// Decides on a request. Counts nothing, but for the step of a sequence.
pub fn decide(snapshot: &Snapshot, head: &RequestHead<'_>, draw: Draw) -> Plan {
    decide_watched(snapshot, head, draw, &mut Unwatched)
}

/// Who looks on while a decision is made: nobody, or [`explain`](crate::explain()).
pub(crate) trait Watcher {
    /// A reason.
    fn note(&mut self, reason: impl FnOnce() -> String);
    /// The number that a split is decided by.
    fn number(&mut self, number: Number);
    /// The route that was found.
    fn found(&mut self, found: Found);
    /// The service that the request names, and how.
    fn named(&mut self, service: ServiceIdx, how: impl FnOnce() -> String);
    /// The next number of a sequence.
    fn next(&mut self, sequence: &AtomicU32) -> u16;
}

/// A number from 0 to 9,999 that decides between targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    /// The bucket of a visitor.
    Bucket(u16),
    /// A step of the sequence.
    Sequence(u16),
}

impl Number {
    /// The number itself.
    pub fn get(self) -> u16 {
        match self {
            Self::Bucket(number) | Self::Sequence(number) => number,
        }
    }
}

struct Unwatched;

impl Watcher for Unwatched {
    #[inline]
    fn note(&mut self, _: impl FnOnce() -> String) {}
    #[inline]
    fn number(&mut self, _: Number) {}
    #[inline]
    fn found(&mut self, _: Found) {}
    #[inline]
    fn named(&mut self, _: ServiceIdx, _: impl FnOnce() -> String) {}
    #[inline]
    fn next(&mut self, sequence: &AtomicU32) -> u16 {
        sequence::advance(sequence)
    }
}

pub(crate) fn decide_watched(
    snapshot: &Snapshot,
    head: &RequestHead<'_>,
    draw: Draw,
    watcher: &mut impl Watcher,
) -> Plan {
    let Way { service: at, path, strip, aim, .. } = match find_watched(snapshot, head, watcher) {
        Ok(way) => way,
        Err(reject) => return Plan::Reject(reject),
    };
    let Some(service) = snapshot.service(at) else { return Plan::Reject(Reject::NoRoute) };
    let mut decision = Decision {
        service,
        head,
        draw,
        key: service.sticky.as_deref().map(|sticky| Key::of(sticky, head, draw)),
        number: None,
        watcher,
    };
    let choice = match aim {
        Aim::Service => decision.choose(&path),
        Aim::Only(target, reason) => Choice { target, reason },
    };
    let Some((placed, endpoint)) = decision.place(choice) else {
        return decision.nowhere(choice, at);
    };
    let forward = Forward {
        service: at,
        chosen: choice.target,
        target: placed.target,
        endpoint,
        reason: placed.reason,
        mirrors: if placed.reason.binds() { 0 } else { decision.mirrors(placed.target) },
        visitor: decision.key.map_or(Visitor::None, |key| key.visitor()),
        strip,
    };
    if decision.is_hasty(choice, placed) {
        return Plan::Wait { service: at, instead: Some(forward) };
    }
    Plan::Forward(forward)
}

/// The visitor of a sticky service.
#[derive(Clone, Copy)]
enum Key<'a> {
    Known(&'a [u8]),
    New(u128, VisitorText),
}

impl<'a> Key<'a> {
    fn of(sticky: &Sticky, head: &RequestHead<'a>, draw: Draw) -> Self {
        known(sticky, head.headers).map_or_else(
            || {
                let [high, low] = draw.random;
                let id = u128::from(high) << 64 | u128::from(low);
                Self::New(id, VisitorText::new(id))
            },
            Self::Known,
        )
    }

    fn bucket(&self, salt: &str) -> u16 {
        match self {
            Self::Known(visitor) => bucket(salt, visitor),
            Self::New(_, text) => bucket(salt, text.as_bytes()),
        }
    }

    fn visitor(self) -> Visitor {
        match self {
            Self::Known(_) => Visitor::Known,
            Self::New(id, _) => Visitor::New(id),
        }
    }
}

/// A target, and why.
#[derive(Clone, Copy)]
struct Choice {
    target: TargetIdx,
    reason: Reason,
}

struct Decision<'a, W> {
    service: &'a Service,
    head: &'a RequestHead<'a>,
    draw: Draw,
    key: Option<Key<'a>>,
    /// Found when it is first needed: a sequence goes on by one for each request that follows it.
    number: Option<u16>,
    watcher: &'a mut W,
}

impl<'a, W: Watcher> Decision<'a, W> {
    /// The target, whether it is available or not.
    fn choose(&mut self, path: &RequestPath<'_>) -> Choice {
        if let Some(target) = self.pin() {
            return Choice { target, reason: Reason::Pin };
        }
        let service = self.service;
        let who = self.who();
        let subject = Subject::Request { head: self.head, visitor: who.as_bytes() };
        for (rule, position) in service.rules.iter().zip(0..) {
            if rule.matches(self.head, path, &subject) {
                self.watcher.note(|| format!("rule {position} matches: target {}", name(service, rule.to)));
                return Choice { target: rule.to, reason: Reason::Rule(position) };
            }
            self.watcher.note(|| format!("rule {position} does not match"));
        }
        if let Some(target) = self.overlay() {
            return Choice { target, reason: Reason::Failover };
        }
        let target = match service.split.only() {
            Some(only) => only,
            None => {
                let number = self.number();
                service.split.pick(number).unwrap_or(service.stable)
            }
        };
        self.watcher.note(|| {
            let (begin, end) = service.split.range_of(target).unwrap_or_default();
            format!(
                "the split chooses target {}, which has the numbers from {begin} to before {end}",
                name(service, target)
            )
        });
        Choice { target, reason: Reason::Split }
    }

    fn pin(&mut self) -> Option<TargetIdx> {
        let (service, headers) = (self.service, self.head.headers);
        if !self.head.pin_authorised {
            return None;
        }
        let mut wanted = headers.first(PIN_HEADER.as_str());
        if wanted.is_none() {
            visit_cookie(headers, PIN_COOKIE, &mut |value| {
                // What follows the colon is the secret, which the caller has checked.
                wanted = value.split(|byte| *byte == b':').next();
                false
            });
        }
        let wanted = wanted?;
        let target = std::str::from_utf8(wanted).ok().and_then(|wanted| service.target_named(wanted));
        self.watcher.note(|| match target {
            Some(target) => format!("the pin chooses target {}", name(service, target)),
            None => format!("the pin is ignored: there is no target {:?}", String::from_utf8_lossy(wanted)),
        });
        target
    }

    /// Who flags are about.
    fn who(&self) -> Who<'a> {
        match &self.key {
            // Nobody asks.
            _ if !self.service.asks_flags => Who::Unknown,
            Some(Key::Known(visitor)) => Who::Known(visitor),
            Some(Key::New(_, text)) => Who::New(*text),
            None => Who::by_address(self.head.client),
        }
    }

    /// Where the failover overlay moves this request, if it does and that target is available.
    fn overlay(&mut self) -> Option<TargetIdx> {
        let service = self.service;
        let (to, share) = service.overlay?;
        if !service.target(to)?.available {
            self.watcher
                .note(|| format!("a failover to {} is on, but that has no available endpoint", name(service, to)));
            return None;
        }
        let moved = share == tidegate_config::Weight::FULL || self.number() < share.points();
        self.watcher.note(|| match moved {
            true => format!("a failover moves the service to target {}", name(service, to)),
            false => format!("a failover to {} moves only {share} now", name(service, to)),
        });
        moved.then_some(to)
    }

    fn number(&mut self) -> u16 {
        if let Some(number) = self.number {
            return number;
        }
        let number = match &self.key {
            Some(key) => Number::Bucket(key.bucket(&self.service.salt)),
            None => Number::Sequence(self.watcher.next(self.service.sequence.of(self.draw.worker))),
        };
        self.watcher.number(number);
        *self.number.insert(number.get())
    }

    /// The chosen target if it has an available endpoint, else where the service goes instead.
    fn place(&mut self, choice: Choice) -> Option<(Choice, EndpointIdx)> {
        let service = self.service;
        if let Some(endpoint) = self.endpoint(choice) {
            return Some((choice, endpoint));
        }
        self.watcher.note(|| match service.target(choice.target) {
            Some(target) if target.sealed && !choice.reason.binds() => {
                format!("target {} is under test and was not released", target.id)
            }
            _ => format!("target {} has no available endpoint", name(service, choice.target)),
        });
        if choice.reason.binds() {
            return None;
        }
        let failover = |target| Choice { target, reason: Reason::Failover };
        let stable = Choice { target: service.stable, reason: choice.reason };
        let moved = match choice.reason {
            Reason::Pin | Reason::Rule(_) => self.overlay(),
            // The overlay has had its say.
            Reason::Split | Reason::Failover | Reason::Path | Reason::Preview => None,
        };
        let resorts = [
            moved.map(failover),
            Some(stable),
            service.fallback.map(failover),
            service.overlay.map(|(to, _)| failover(to)),
        ];
        let placed = resorts.into_iter().flatten().find_map(|resort| Some((resort, self.endpoint(resort)?)));
        if let Some((resort, _)) = placed {
            self.watcher.note(|| format!("it goes to target {} instead", name(service, resort.target)));
        }
        placed
    }

    fn endpoint(&mut self, choice: Choice) -> Option<EndpointIdx> {
        if let Some(only) = self.service.sole.of(choice.target) {
            return Some(only);
        }
        let target = self.service.target(choice.target)?;
        let [random, _] = self.draw.random;
        if target.available || choice.reason.reaches(target) {
            choose(target, std::iter::empty(), random)
        } else {
            None
        }
    }

    /// Whether a request would leave the stable target before anything is known of it: at the start, the probe of
    /// another target may simply have been the first to end.
    fn is_hasty(&mut self, choice: Choice, placed: Choice) -> bool {
        let service = self.service;
        let moved = choice.reason != Reason::Failover && placed.reason == Reason::Failover;
        let hasty = moved && service.target(service.stable).is_some_and(|stable| stable.pending);
        if hasty {
            self.watcher.note(|| "the stable target has no verdict yet: it waits for the first one".into());
        }
        hasty
    }

    /// Nothing is available: is that for good?
    fn nowhere(&mut self, choice: Choice, at: ServiceIdx) -> Plan {
        let service = self.service;
        let others = [Some(service.stable), service.fallback, service.overlay.map(|(to, _)| to)];
        let others = others.into_iter().flatten().filter(|_| !choice.reason.binds());
        let mut candidates = others.chain([choice.target]).filter_map(|target| service.target(target));
        if candidates.any(|target| target.pending && (!target.sealed || choice.reason == Reason::Preview)) {
            self.watcher.note(|| "endpoints have no verdict yet: it waits for the first one".into());
            return Plan::Wait { service: at, instead: None };
        }
        self.watcher.note(|| "nowhere else to go".into());
        Plan::Reject(Reject::NoTarget)
    }

    /// Bit n: mirror n copies this request, which `target` answers.
    fn mirrors(&mut self, target: TargetIdx) -> u32 {
        let mirrors = self.service.mirrors.iter().take(MAX_MIRRORS).zip(0_u32..);
        let copying = mirrors.filter(|(mirror, at)| self.copies(mirror, *at, target));
        let bits = copying.fold(0, |bits, (_, at)| bits | 1 << at);
        for (mirror, _) in self.service.mirrors.iter().zip(0..).filter(|(_, at)| bits >> at & 1 == 1) {
            self.watcher.note(|| format!("mirror {} copies it to target {}", mirror.id, mirror.spec.to));
        }
        bits
    }

    fn copies(&self, mirror: &Mirror, at: u32, target: TargetIdx) -> bool {
        let method = self.head.method.as_str();
        if mirror.to == target || !mirror.spec.methods.iter().any(|copied| copied == method || copied == "*") {
            return false;
        }
        if let Some(flag) = &mirror.flag {
            let who = self.who();
            if !flag.holds(&Subject::Request { head: self.head, visitor: who.as_bytes() }) {
                return false;
            }
        }
        match mirror.spec.percent {
            tidegate_config::Weight::ZERO => false,
            tidegate_config::Weight::FULL => true,
            percent => {
                let number = match &self.key {
                    Some(key) => key.bucket(mirror.id.as_str()),
                    None => number(scatter(self.draw.random, at)),
                };
                number < percent.points()
            }
        }
    }
}

/// Bits for one mirror, independent of those that chose the endpoint and of the other mirrors'.
fn scatter([_, random]: [u64; 2], at: u32) -> u32 {
    // A step and the finish of SplitMix64 (Steele, Lea and Flood 2014).
    let mut bits = random.wrapping_add(u64::from(at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 32) as u32
}

/// A target's name, for a reason.
fn name(service: &Service, target: TargetIdx) -> &str {
    service.target(target).map_or("(none)", |target| target.id.as_str())
}

#[cfg(test)]
mod tests;
