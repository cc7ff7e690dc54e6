//! What is known of every flag: what the file says, what operators set, and what each source said last.
//!
//! Invariants: a value that counts was compiled; a value that cannot be used changes nothing but a fault; a source that
//! cannot be read, or was emptied, changes no value.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tidegate_config::{FlagName, FlagSource, FlagSpec, FlagType, Flags, SourceId, SourceSpec};

use super::{
    definition::Definition,
    flagd,
    reading::{Fields, Found, MAX_DOCUMENT, MAX_FLAGS, Memory, Reading},
};
use crate::merge::{Difference, merge_values};

/// Everything that is known of flags.
#[derive(Debug, Clone, PartialEq)]
pub struct FlagState {
    /// What the file says.
    pub spec: Arc<Flags>,
    /// Values in the process: the file's, and what operators changed of them.
    pub values: BTreeMap<FlagName, Slot>,
    /// The sources outside of the process.
    pub sources: BTreeMap<SourceId, SourceState>,
    /// Values that win over everything else for a while.
    pub overrides: BTreeMap<FlagName, Override>,
}

impl Default for FlagState {
    fn default() -> Self {
        Self::declared(&Flags::default())
    }
}

/// What is known of a flag at one place.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Slot {
    /// The last value that could be used.
    pub good: Option<Good>,
    /// Why what is there now is not used.
    pub fault: Option<Arc<str>>,
    /// Where it was found.
    pub place: Place,
    /// Whether it is not there any more, and kept because its source was emptied.
    pub kept: bool,
    /// Since when it is so, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

/// A value that can be used.
#[derive(Debug, Clone)]
pub struct Good {
    /// As it was written.
    pub text: Arc<str>,
    /// For a flag of this type.
    kind: Option<FlagType>,
    /// What it means.
    pub definition: Arc<Definition>,
}

impl PartialEq for Good {
    /// The same text for the same type means the same.
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.kind == other.kind
    }
}

impl Good {
    fn compile(kind: Option<FlagType>, text: &Arc<str>) -> Result<Self, String> {
        let definition = Definition::compile(kind, text)?;
        Ok(Self { text: Arc::clone(text), kind, definition: Arc::new(definition) })
    }
}

/// Where in its source a value was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// At its own key, or in the process.
    #[default]
    Key,
    /// A field of the hash.
    Field,
    /// In the document.
    Document,
    /// In what this machine remembers.
    Memory,
}

/// Where the value of a flag comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An override.
    Override,
    /// Its source.
    Source,
    /// A value in the process: set by an operator or in the file.
    Embedded,
    /// The default.
    Default,
}

/// A source outside of the process.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceState {
    /// Whether it can be read.
    pub standing: Standing,
    /// Whether its marker has ever been seen.
    pub marked: bool,
    /// Whether it was emptied: its marker has been seen, and is gone.
    pub emptied: bool,
    /// The flags that it has or had.
    pub slots: BTreeMap<FlagName, Slot>,
    /// What it holds beside flags that can be used: a name that is no flag's, a document that is none. Only the first
    /// few are kept.
    pub faults: Vec<String>,
    /// What was last read, to be judged again when the file changes.
    pub(crate) read: Option<Arc<Reading>>,
}

/// Whether a source can be read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Standing {
    /// It has not been read yet.
    #[default]
    Waiting,
    /// It can.
    Up,
    /// It cannot.
    Down {
        /// Since when, in milliseconds since the Unix epoch.
        since_unix_ms: u64,
        /// Why, for people.
        reason: String,
    },
}

/// A value that wins over everything else until its end.
///
/// The end is a moment of the calendar, so that it is the same one after a restart.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// The value.
    pub good: Good,
    /// Its end, in milliseconds since the Unix epoch.
    pub until_unix_ms: u64,
    /// Its beginning, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

/// What is persisted of flags.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SavedFlags {
    /// Values in the process as the file had them when it was last loaded.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub file: BTreeMap<FlagName, String>,
    /// Values in the process.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<FlagName, String>,
    /// Overrides.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub overrides: BTreeMap<FlagName, SavedOverride>,
}

/// What is persisted of an override.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedOverride {
    /// The value as it was written.
    pub value: String,
    /// Its end, in milliseconds since the Unix epoch.
    pub until_unix_ms: u64,
    /// Its beginning, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

impl SavedFlags {
    /// Whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What is to be persisted.
    pub fn of(state: &FlagState) -> Self {
        let text = |(name, slot): (&FlagName, &Slot)| Some((name.clone(), slot.written()?.to_owned()));
        let saved = |over: &Override| SavedOverride {
            value: over.good.text.to_string(),
            until_unix_ms: over.until_unix_ms,
            since_unix_ms: over.since_unix_ms,
        };
        Self {
            file: state.spec.values.clone(),
            values: state.values.iter().filter_map(text).collect(),
            overrides: state.overrides.iter().map(|(name, over)| (name.clone(), saved(over))).collect(),
        }
    }
}

impl Slot {
    /// A value in the process.
    fn embedded(kind: Option<FlagType>, text: &str, since_unix_ms: u64) -> Self {
        let text: Arc<str> = text.into();
        match Good::compile(kind, &text) {
            Ok(good) => Self { good: Some(good), since_unix_ms, ..Self::default() },
            Err(fault) => Self { fault: Some(fault.into()), since_unix_ms, ..Self::default() },
        }
    }

    /// A value that can be used.
    pub(crate) fn of(good: Good, since_unix_ms: u64) -> Self {
        Self { good: Some(good), since_unix_ms, ..Self::default() }
    }

    fn written(&self) -> Option<&str> {
        self.good.as_ref().map(|good| &*good.text)
    }

    /// What it becomes when this is found.
    fn next(before: Option<&Self>, kind: Option<FlagType>, found: Candidate<'_>, now_unix_ms: u64) -> Option<Self> {
        let good = before.and_then(|slot| slot.good.as_ref());
        let (good, fault, place) = match found {
            Candidate::Absent => return None,
            Candidate::Fault(place, fault) => (good.cloned(), Some(fault.into()), place),
            Candidate::Text(place, text) => match good.filter(|good| good.text == *text && good.kind == kind) {
                Some(same) => (Some(same.clone()), None, place),
                None => match Good::compile(kind, text) {
                    Ok(good) => (Some(good), None, place),
                    Err(fault) => (good.cloned(), Some(fault.into()), place),
                },
            },
        };
        let next = Self { good, fault, place, kept: false, since_unix_ms: now_unix_ms };
        let same = before.filter(|before| before.good == next.good && before.fault == next.fault);
        Some(Self { since_unix_ms: same.map_or(now_unix_ms, |before| before.since_unix_ms), ..next })
    }
}

/// What was found of one flag.
enum Candidate<'a> {
    Absent,
    Text(Place, &'a Arc<str>),
    Fault(Place, String),
}

impl<'a> Candidate<'a> {
    fn of(place: Place, found: &'a Found) -> Option<Self> {
        match found {
            Found::Absent => None,
            Found::Text(text) => Some(Self::Text(place, text)),
            Found::Unreadable(why) => Some(Self::Fault(place, why.clone())),
        }
    }
}

/// Most overrides at one time: each is looked at in every tick.
pub const MAX_OVERRIDES: usize = 1_000;

/// Longest override: whatever lasts longer belongs into the source.
pub const MAX_TTL: Duration = Duration::from_secs(30 * 86_400);

/// Most faults that are kept of a source.
const MAX_FAULTS: usize = 20;

impl SourceState {
    /// What it becomes when this is read.
    #[must_use]
    pub fn read(&self, id: &SourceId, flags: &Flags, reading: &Arc<Reading>, now_unix_ms: u64) -> Self {
        let marked = self.marked || reading.marked;
        let emptied = marked && !reading.marked;
        let mut found = Everything::of(reading);
        let mut slots = BTreeMap::new();
        for name in self.names(id, flags, &mut found) {
            let spec = flags.declared.get(&name).filter(|spec| spec.source.named() == Some(id));
            let before = self.slots.get(&name);
            let candidate = found.candidate(&name, spec, before, reading);
            let next = Slot::next(before, spec.map(|spec| spec.kind), candidate, now_unix_ms);
            let kept = || before.filter(|_| emptied).map(|before| Slot { kept: true, fault: None, ..before.clone() });
            if let Some(slot) = next.or_else(kept) {
                slots.insert(name, slot);
            }
        }
        let standing = Standing::Up;
        Self { standing, marked, emptied, slots, faults: found.faults, read: Some(Arc::clone(reading)) }
    }

    /// Whether this is what was last read, and nothing came between.
    pub(crate) fn has_read(&self, reading: &Arc<Reading>) -> bool {
        self.standing == Standing::Up && self.read.as_ref() == Some(reading)
    }

    /// What it becomes when it cannot be read.
    #[must_use]
    pub fn down(&self, reason: &str, now_unix_ms: u64) -> Self {
        let since_unix_ms = match &self.standing {
            Standing::Down { since_unix_ms, .. } => *since_unix_ms,
            Standing::Waiting | Standing::Up => now_unix_ms,
        };
        Self { standing: Standing::Down { since_unix_ms, reason: reason.into() }, ..self.clone() }
    }

    /// What it becomes when this is remembered of it: nothing, if more is known already.
    #[must_use]
    pub fn remembering(&self, id: &SourceId, flags: &Flags, memory: &Memory, now_unix_ms: u64) -> Self {
        if self.read.is_some() {
            return self.clone();
        }
        let mut next = self.clone();
        next.marked |= memory.marked;
        for (name, text) in memory.values.iter().take(MAX_FLAGS) {
            let spec = flags.declared.get(name).filter(|spec| spec.source.named() == Some(id));
            let candidate = Candidate::Text(Place::Memory, &Arc::from(text.as_str()));
            let slot = Slot::next(None, spec.map(|spec| spec.kind), candidate, now_unix_ms);
            next.slots.extend(slot.filter(|slot| slot.good.is_some()).map(|slot| (name.clone(), slot)));
        }
        next
    }

    /// What is to be remembered of it over a restart.
    pub fn memory(&self) -> Memory {
        let text = |(name, slot): (&FlagName, &Slot)| Some((name.clone(), slot.written()?.to_owned()));
        Memory { values: self.slots.iter().filter_map(text).collect(), marked: self.marked }
    }

    /// Every flag that this source has, had, or should have.
    fn names(&self, id: &SourceId, flags: &Flags, found: &mut Everything<'_>) -> BTreeSet<FlagName> {
        let declared = flags.declared.iter().filter(|(_, spec)| spec.source.named() == Some(id));
        let mut names: BTreeSet<_> = declared.map(|(name, _)| name).chain(self.slots.keys()).cloned().collect();
        let texts: Vec<String> =
            found.fields.keys().map(|name| (*name).to_owned()).chain(found.document.keys().cloned()).collect();
        for text in texts {
            match FlagName::parse(&text) {
                // A declared flag is read where it is declared, and nowhere else.
                Ok(name) if flags.declared.get(&name).is_some_and(|spec| spec.source.named() != Some(id)) => {}
                Ok(name) if names.len() < MAX_FLAGS || names.contains(&name) => drop(names.insert(name)),
                Ok(name) => found.note(format!("{name}: there are more than {MAX_FLAGS} flags")),
                Err(why) => found.note(format!("{text:?} is not the name of a flag: {why}")),
            }
        }
        names
    }
}

/// What a reading has, in the form in which flags are looked up.
struct Everything<'a> {
    fields: BTreeMap<&'a str, &'a Found>,
    document: BTreeMap<String, Result<Arc<str>, String>>,
    /// Why the document as a whole is not used.
    document_fault: Option<String>,
    faults: Vec<String>,
}

impl<'a> Everything<'a> {
    fn of(reading: &'a Reading) -> Self {
        let mut everything =
            Self { fields: BTreeMap::new(), document: BTreeMap::new(), document_fault: None, faults: Vec::new() };
        match &reading.fields {
            Fields::Found(fields) => everything.fields = fields.iter().map(|(name, v)| (name.as_str(), v)).collect(),
            Fields::Unreadable(why) => everything.note(format!("the hash: {why}")),
        }
        let document = match &reading.document {
            Found::Absent => return everything,
            Found::Unreadable(why) => Err(why.clone()),
            Found::Text(text) if text.len() > MAX_DOCUMENT => {
                Err(format!("it has {} bytes, and may have {MAX_DOCUMENT}", text.len()))
            }
            Found::Text(text) => flagd::document(text),
        };
        match document {
            Ok(flags) => {
                everything.document = flags.into_iter().map(|(name, flag)| (name, flag.map(Arc::from))).collect();
            }
            Err(why) => {
                everything.note(format!("the document: {why}"));
                everything.document_fault = Some(why);
            }
        }
        everything
    }

    fn note(&mut self, fault: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// What was found of a flag: at its own key, else in the hash, else in the document.
    fn candidate<'b>(
        &'b self,
        name: &FlagName,
        spec: Option<&FlagSpec>,
        before: Option<&Slot>,
        reading: &'b Reading,
    ) -> Candidate<'b> {
        let own = spec.and_then(|spec| reading.keys.get(&spec.key));
        let field = self.fields.get(name.as_str()).copied();
        let found = own.and_then(|found| Candidate::of(Place::Key, found));
        let found = found.or_else(|| field.and_then(|found| Candidate::of(Place::Field, found)));
        let found = found.or_else(|| match self.document.get(name.as_str())? {
            Ok(text) => Some(Candidate::Text(Place::Document, text)),
            Err(why) => Some(Candidate::Fault(Place::Document, why.clone())),
        });
        // What cannot be read might still have it.
        let hidden = before.and_then(|before| match (before.place, &reading.fields, &self.document_fault) {
            (Place::Field, Fields::Unreadable(why), _) => Some(Candidate::Fault(Place::Field, why.clone())),
            (Place::Document, _, Some(why)) => Some(Candidate::Fault(Place::Document, why.clone())),
            _ => None,
        });
        found.or(hidden).unwrap_or(Candidate::Absent)
    }
}

impl FlagState {
    /// What the file says, with nothing known of any source yet.
    pub fn declared(spec: &Flags) -> Self {
        let mut state = Self {
            spec: Arc::new(spec.clone()),
            values: BTreeMap::new(),
            sources: spec.sources.keys().map(|id| (id.clone(), SourceState::default())).collect(),
            overrides: BTreeMap::new(),
        };
        state.put_values(&spec.values, 0);
        state
    }

    /// What the file says, and what was saved.
    pub(crate) fn load(spec: &Flags, saved: Option<&SavedFlags>) -> (Self, Vec<Difference>) {
        let mut state = Self::declared(spec);
        let Some(saved) = saved else { return (state, Vec::new()) };
        let (values, differences) = merge_values(&saved.file, &spec.values, &saved.values);
        state.put_values(&values, 0);
        for (name, over) in &saved.overrides {
            // A value that does not fit the type any more cannot be meant.
            if let Ok(good) = Good::compile(state.kind_of(name), &over.value.as_str().into()) {
                let SavedOverride { until_unix_ms, since_unix_ms, .. } = *over;
                state.overrides.insert(name.clone(), Override { good, until_unix_ms, since_unix_ms });
            }
        }
        (state, differences)
    }

    /// What a new file makes of it.
    pub(crate) fn reloaded(&self, spec: &Flags, now_unix_ms: u64) -> (Self, Vec<Difference>) {
        if *self.spec == *spec {
            return (self.clone(), Vec::new());
        }
        let saved: BTreeMap<_, _> = SavedFlags::of(self).values;
        let (values, differences) = merge_values(&self.spec.values, &spec.values, &saved);
        let mut next = Self::declared(spec);
        next.overrides = self.overrides.clone();
        next.overrides.retain(|name, over| over.good.kind == spec.declared.get(name).map(|flag| flag.kind));
        for (id, source) in &mut next.sources {
            let same = self.spec.sources.get(id) == spec.sources.get(id);
            if let Some(before) = self.sources.get(id).filter(|_| same) {
                let judged = before.read.as_ref().map(|read| before.read(id, spec, read, now_unix_ms));
                let judged = judged.unwrap_or_else(|| before.remembering(id, spec, &before.memory(), now_unix_ms));
                *source = SourceState { standing: before.standing.clone(), ..judged };
            }
        }
        next.values = self.values.clone();
        next.put_values(&values, now_unix_ms);
        (next, differences)
    }

    /// Makes these the values in the process. Those that stay the same are left alone.
    fn put_values(&mut self, values: &BTreeMap<FlagName, String>, now_unix_ms: u64) {
        self.values.retain(|name, _| values.contains_key(name));
        for (name, text) in values {
            let kind = self.kind_of(name);
            let same = self.values.get(name).and_then(|slot| slot.good.as_ref());
            if same.is_none_or(|good| *good.text != **text || good.kind != kind) {
                self.values.insert(name.clone(), Slot::embedded(kind, text, now_unix_ms));
            }
        }
    }

    /// The type of a flag, if it is declared.
    pub fn kind_of(&self, name: &FlagName) -> Option<FlagType> {
        self.spec.declared.get(name).map(|spec| spec.kind)
    }

    /// Where the values of a flag are read: where it is declared, else the first source that has it.
    pub fn source_of(&self, name: &FlagName) -> Option<FlagSource> {
        if let Some(spec) = self.spec.declared.get(name) {
            return Some(spec.source.clone());
        }
        let having = self.sources.iter().find(|(_, source)| source.slots.contains_key(name));
        having.map(|(id, _)| FlagSource::Named(id.clone()))
    }

    /// Every flag that there is.
    pub fn names(&self) -> BTreeSet<&FlagName> {
        let found = self.sources.values().flat_map(|source| source.slots.keys());
        self.spec.declared.keys().chain(found).collect()
    }

    /// Whether a source keeps a marker by which it is seen that it was emptied.
    pub fn keeps_marker(&self, id: &SourceId) -> bool {
        matches!(self.spec.sources.get(id), Some(SourceSpec::Redis(_)))
    }

    /// Compiles a value for a flag.
    pub(crate) fn compile(&self, name: &FlagName, text: &str) -> Result<Good, String> {
        Good::compile(self.kind_of(name), &text.trim().into())
    }
}
