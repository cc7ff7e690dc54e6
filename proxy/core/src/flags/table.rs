//! Flags as requests read them: by name, each with the value that counts.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, HeaderValue};
use tidegate_config::{FlagHeader, FlagName, FlagSource, FlagType, ServiceId, SourceId, TargetId};

use super::{
    context::Subject,
    definition::{Definition, Evaluation, FlagReason, Picked, Variant},
    state::{FlagState, Origin, Slot, Standing},
    stats::SourceStats,
};

/// Every flag, compiled.
#[derive(Debug, Default)]
pub struct FlagTable {
    /// In the order of their names.
    flags: Vec<Arc<Flag>>,
    /// In the order of their names.
    sources: Vec<Source>,
    /// Those that are sent to endpoints.
    headers: Vec<SentFlag>,
}

/// A flag, compiled.
#[derive(Debug, PartialEq)]
pub struct Flag {
    /// Its name.
    pub name: FlagName,
    /// Its type, if it is declared.
    pub kind: Option<FlagType>,
    /// Where its values are read.
    pub source: FlagSource,
    /// What the value that counts means; `None`: it has only its default.
    pub definition: Option<Arc<Definition>>,
    /// The value that counts, as it was written.
    pub text: Option<Arc<str>>,
    /// Its default.
    pub default: Option<Variant>,
    /// Where the value that counts comes from.
    pub origin: Origin,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// Why what its source has now is not used.
    pub fault: Option<Arc<str>>,
    /// Whether its value is kept although its source was emptied.
    pub kept: bool,
    /// The end of its override, in milliseconds since the Unix epoch.
    pub overridden_until_unix_ms: Option<u64>,
}

/// A source outside of the process.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub id: SourceId,
    /// Whether it can be read.
    pub standing: Standing,
    /// Whether it was emptied.
    pub emptied: bool,
    /// Counters.
    pub stats: Arc<SourceStats>,
}

impl Source {
    /// Whether what is known of it may be out of date: it cannot be read, was emptied, or nobody has read it for long.
    pub fn is_stale(&self, mono: Duration, poll: Duration) -> bool {
        let patience = poll.saturating_mul(3).saturating_add(Duration::from_secs(1));
        self.emptied || self.standing != Standing::Up || self.stats.age(mono).is_none_or(|age| age > patience)
    }
}

/// A flag that is sent to endpoints.
#[derive(Debug)]
struct SentFlag {
    flag: Arc<Flag>,
    name: HeaderName,
    header: FlagHeader,
}

impl Flag {
    /// The variant that was picked, or the default.
    pub fn variant(&self, picked: &Picked) -> Option<&Variant> {
        let variant = picked.variant.and_then(|at| self.definition.as_ref()?.variants().get(at));
        variant.or(self.default.as_ref())
    }

    /// What it is for somebody.
    pub fn evaluate(&self, subject: &Subject<'_>) -> Evaluation<'_> {
        let default = Picked { variant: None, reason: FlagReason::Default, error: None };
        let picked = self.definition.as_ref().map_or(default, |definition| definition.pick(&self.name, subject));
        let Picked { reason, error, .. } = picked;
        Evaluation { variant: self.variant(&picked), reason, error }
    }
}

impl FlagTable {
    /// Compiles what is known of flags. Flags that are the same as before, and all counters, are shared.
    pub fn new(state: &FlagState, previous: Option<&Self>) -> Self {
        let flags = state.names().into_iter().map(|name| {
            let flag = flag(state, name);
            let same = previous.and_then(|previous| previous.get(name)).filter(|before| ***before == flag);
            same.map_or_else(|| Arc::new(flag), Arc::clone)
        });
        let flags: Vec<_> = flags.collect();
        let headers = flags.iter().filter_map(|flag| {
            let header = state.spec.declared.get(&flag.name)?.header.clone()?;
            Some(SentFlag {
                flag: Arc::clone(flag),
                name: HeaderName::from_bytes(header.name.as_bytes()).ok()?,
                header,
            })
        });
        let sources = state.sources.iter().map(|(id, source)| Source {
            id: id.clone(),
            standing: source.standing.clone(),
            emptied: source.emptied,
            stats: previous
                .and_then(|previous| previous.source(id))
                .map_or_else(Arc::default, |before| Arc::clone(&before.stats)),
        });
        Self { headers: headers.collect(), sources: sources.collect(), flags }
    }

    /// The flag of this name.
    pub fn get(&self, name: &FlagName) -> Option<&Arc<Flag>> {
        self.flags.binary_search_by(|flag| flag.name.cmp(name)).ok().and_then(|at| self.flags.get(at))
    }

    /// Every flag, in the order of their names.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Flag>> {
        self.flags.iter()
    }

    /// The source of this name.
    pub fn source(&self, id: &SourceId) -> Option<&Source> {
        self.sources.binary_search_by(|source| source.id.cmp(id)).ok().and_then(|at| self.sources.get(at))
    }

    /// Every source, in the order of their names.
    pub fn sources(&self) -> impl ExactSizeIterator<Item = &Source> {
        self.sources.iter()
    }

    /// The headers that tell flags to an endpoint of this target. A flag without a value that a header can carry is
    /// left out.
    pub fn headers<'a>(
        &'a self,
        service: &'a ServiceId,
        target: &'a TargetId,
        subject: &'a Subject<'a>,
    ) -> impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)> {
        self.headers.iter().filter(|sent| sent.header.goes_to(service, target)).filter_map(move |sent| {
            let value = sent.flag.evaluate(subject).variant?.header.as_ref()?;
            Some((&sent.name, value))
        })
    }

    /// Whether a header belongs to a flag, so that a client's copy must not pass. Case does not count, and `_` is `-`:
    /// some servers take them for the same.
    pub fn owns_header(&self, name: &str) -> bool {
        let same = |own: &str| {
            own.len() == name.len()
                && own
                    .bytes()
                    .zip(name.bytes())
                    .all(|(own, given)| own == given.to_ascii_lowercase() || (own == b'-' && given == b'_'))
        };
        self.headers.iter().any(|sent| same(sent.name.as_str()))
    }

    /// Whether any flag is sent to endpoints: most configurations have none.
    pub fn sends_headers(&self) -> bool {
        !self.headers.is_empty()
    }
}

fn flag(state: &FlagState, name: &FlagName) -> Flag {
    let source = state.source_of(name).unwrap_or_default();
    let outside = source.named().and_then(|id| state.sources.get(id)).and_then(|source| source.slots.get(name));
    let embedded = state.values.get(name);
    let over = state.overrides.get(name);
    let spec = state.spec.declared.get(name);
    let used = |slot: Option<&Slot>| slot.and_then(|slot| Some((slot.good.clone()?, slot.since_unix_ms)));
    let choices = [
        (Origin::Override, over.map(|over| (over.good.clone(), over.since_unix_ms))),
        (Origin::Source, used(outside)),
        (Origin::Embedded, used(embedded)),
    ];
    let chosen = choices.into_iter().find_map(|(origin, good)| Some((origin, good?)));
    let (origin, good, since_unix_ms) =
        chosen.map_or((Origin::Default, None, 0), |(origin, (good, since))| (origin, Some(good), since));
    let fault = outside.and_then(|slot| slot.fault.clone()).or_else(|| embedded.and_then(|slot| slot.fault.clone()));
    Flag {
        name: name.clone(),
        kind: spec.map(|spec| spec.kind),
        text: good.as_ref().map(|good| Arc::clone(&good.text)),
        definition: good.map(|good| good.definition),
        default: spec.and_then(|spec| spec.default.clone()).map(|value| Variant::new(None, value)),
        origin,
        since_unix_ms,
        fault,
        kept: origin == Origin::Source && outside.is_some_and(|slot| slot.kept),
        overridden_until_unix_ms: over.map(|over| over.until_unix_ms),
        source,
    }
}
