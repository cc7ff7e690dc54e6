//! Where wanted state outlives the process: what was acknowledged is there after any crash, and never half of it.
//!
//! One writer (the controller) saves; the audit log follows. A failed save leaves what was saved before intact.

use std::{collections::VecDeque, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_admin::AuditEntry;
use tidegate_core::Saved;

pub(crate) mod audit;
mod document;
mod file;
mod lock;
mod memory;

#[cfg(test)]
mod conformance;

pub(crate) use document::{Decoded, SCHEMA, seal, unseal};
pub(crate) use file::{FileStore, peek, replace};
pub(crate) use memory::MemoryStore;

/// Changes that are kept beside the state, so that the last ones are as durable as the state itself.
pub(crate) const RECENT: usize = 50;

/// What a store keeps.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Stored {
    /// The state.
    pub(crate) saved: Saved,
    /// The last [`RECENT`] changes, oldest first.
    pub(crate) recent: VecDeque<AuditEntry>,
}

impl Stored {
    /// What is to be kept after a change to `saved`.
    fn after(&self, saved: &Saved, change: Option<&AuditEntry>) -> Self {
        let mut recent = self.recent.clone();
        if let Some(change) = change {
            recent.push_back(change.clone());
        }
        while recent.len() > RECENT {
            recent.pop_front();
        }
        Self { saved: saved.clone(), recent }
    }
}

/// What was found at the start.
#[derive(Debug)]
pub(crate) enum Loaded {
    /// Nothing: the first start.
    Nothing,
    /// What was saved last.
    Current(Stored),
    /// The newest copy was damaged and is out of the way; this is the one before it.
    Previous {
        /// The copy before.
        stored: Stored,
        /// What was wrong, and where the damaged file is now.
        problem: String,
    },
}

impl Loaded {
    /// What was found, whichever copy it is.
    pub(crate) fn stored(&self) -> Option<&Stored> {
        match self {
            Self::Nothing => None,
            Self::Current(stored) | Self::Previous { stored, .. } => Some(stored),
        }
    }
}

/// Where wanted state is kept.
pub(crate) trait StateStore: Send + 'static {
    /// Reads what was saved; called once, at the start.
    fn load(&mut self) -> Result<Loaded, StoreError>;

    /// Saves a state and the change that led to it. Durable when it returns; on an error the old state is intact.
    fn save(&mut self, saved: &Saved, change: Option<&AuditEntry>) -> Result<(), StoreError>;
}

/// Why state could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Another process uses the directory.
    #[error(
        "the state directory {} is in use by {holder}: stop that process, or give this one its own server.state_dir",
        dir.display()
    )]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// A later version of Tidegate wrote the state.
    #[error(
        "{} has schema {schema}, this version knows up to {known}: start the version that wrote it, or move the file away to begin with the configuration file's values",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        schema: u64,
        /// The newest schema that is known.
        known: u64,
    },
    /// Neither copy of the state can be read.
    #[error(
        "{} is damaged ({problem}) and there is no usable copy before it: restore a backup, or move the file away to begin with the configuration file's values",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A line of the journal of deployments cannot be read, and it is not the last one.
    #[error(
        "{}: line {line} is damaged ({problem}): restore a backup, or move the file away to begin without deployments",
        path.display()
    )]
    DamagedLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The system refused.
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The state has no text form.
    #[error("the state could not be written as JSON: {0}")]
    Encode(String),
}

impl StoreError {
    /// An [`StoreError::Io`] from what the system said.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { doing, path, source }
    }
}
