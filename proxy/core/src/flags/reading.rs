//! What was found in a flag source: plain texts, before anything is known of their meaning.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use tidegate_config::{FlagName, FlagSource, Flags, SourceId};

/// Longest flagd document in bytes.
pub const MAX_DOCUMENT: usize = 4 << 20;

/// Most flags that are kept of one source.
pub const MAX_FLAGS: usize = 10_000;

/// What is told of a source.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceReport {
    /// It was read whole.
    Read(Arc<Reading>),
    /// It cannot be read: everything stays as it is known.
    Down {
        /// Why, for people.
        reason: String,
    },
    /// At start: the values that it had when this machine last knew them. They count as the last good ones.
    Remembered(Arc<Memory>),
}

/// Everything in a source that concerns flags, read at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// Each key of [`keys_of`].
    pub keys: BTreeMap<String, Found>,
    /// The configured hash.
    pub fields: Fields,
    /// The configured document.
    pub document: Found,
    /// Whether the marker is there by which an emptied store is known from one that never had a flag. A source that
    /// keeps no marker never has it.
    pub marked: bool,
}

/// What was found at one place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    #[default]
    Absent,
    /// A text.
    Text(Arc<str>),
    /// Something that is no text, or too long to be fetched.
    Unreadable(String),
}

impl Found {
    /// What these bytes are, of at most `most`.
    pub fn of_bytes(bytes: &[u8], most: usize) -> Self {
        if bytes.len() > most {
            return Self::too_long(bytes.len(), most);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Unreadable("it is not UTF-8 text".into()),
        }
    }

    /// A value of this many bytes, which is not fetched.
    pub fn too_long(length: usize, most: usize) -> Self {
        Self::Unreadable(format!("it has {length} bytes, and may have {most}"))
    }
}

/// What was found at a hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fields {
    /// Its fields; none if there is no such hash.
    Found(BTreeMap<String, Found>),
    /// Something that is no hash.
    Unreadable(String),
}

impl Default for Fields {
    fn default() -> Self {
        Self::Found(BTreeMap::new())
    }
}

/// What is remembered of a source over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The last good value of each flag.
    pub values: BTreeMap<FlagName, String>,
    /// Whether the marker has ever been seen.
    pub marked: bool,
}

/// The keys to read in a source.
pub fn keys_of<'a>(flags: &'a Flags, source: &SourceId) -> BTreeSet<&'a str> {
    let here = |spec: &&tidegate_config::FlagSpec| matches!(&spec.source, FlagSource::Named(named) if named == source);
    flags.declared.values().filter(here).map(|spec| spec.key.as_str()).collect()
}
