//! What outlives the process: the state, the audit log and the deployments, as an earlier process left them.

use std::{fs::File, path::Path, sync::Arc};

use tidegate_config::Config;
use tidegate_core::deploy::engine::Engine;
use tokio::sync::mpsc;

use super::error::ServeError;
use crate::{
    deploy::{
        desk::{Desk, Message},
        evidence::Evidence,
        journal::{FileJournal, Journal, MemoryJournal},
        orders::Keys,
    },
    state::{
        FileStore, Loaded, MemoryStore, StateStore, StoreError,
        audit::{Audit, AuditThread},
    },
};

/// What outlives the process.
pub(super) struct Kept {
    pub(super) store: Box<dyn StateStore>,
    /// The file that is locked, if there is a directory.
    pub(super) lock: Option<File>,
    pub(super) loaded: Loaded,
    pub(super) audit: Audit,
    pub(super) audit_thread: AuditThread,
    pub(super) deployments: KeptDeployments,
}

/// Deployments as an earlier process left them, and where they are written down.
pub(super) struct KeptDeployments {
    pub(super) journal: Box<dyn Journal>,
    pub(super) keys: Keys,
    pub(super) evidence: Evidence,
    pub(super) desk: Arc<Desk>,
    pub(super) messages: mpsc::Receiver<Message>,
}

impl KeptDeployments {
    fn open(dir: Option<&Path>) -> Result<Self, StoreError> {
        let (journal, groups): (Box<dyn Journal>, _) = match dir {
            Some(dir) => {
                let (journal, groups) = FileJournal::open(dir)?;
                (Box::new(journal), groups)
            }
            None => (Box::new(MemoryJournal), Vec::new()),
        };
        let (mut records, mut keys) = (Vec::new(), Keys::default());
        for group in groups {
            records.extend(group.records);
            group.keys.into_iter().for_each(|(key, id)| keys.remember(key, id));
        }
        let (desk, messages) = Desk::new(Engine::load(records));
        Ok(Self { journal, keys, evidence: Evidence::new(dir), desk, messages })
    }
}

impl Kept {
    /// Locks and reads the state directory of a configuration; without one, everything is in memory.
    pub(super) fn open(config: Option<&Config>, left: Option<File>) -> Result<Self, ServeError> {
        let no_audit = ServeError::system("open the audit log");
        let Some(config) = config else {
            let (audit, audit_thread) = Audit::in_memory().map_err(no_audit)?;
            let deployments = KeptDeployments::open(None)?;
            let store = Box::new(MemoryStore::default());
            return Ok(Self { store, lock: None, loaded: Loaded::Nothing, audit, audit_thread, deployments });
        };
        let dir = &config.server.state_dir;
        let mut store = FileStore::take_over(dir, left)?;
        let lock = store.lock_file().map_err(ServeError::system("keep the lock of the state directory"))?;
        let loaded = store.load()?;
        if let Loaded::Previous { problem, .. } = &loaded {
            tracing::error!(problem, "the newest saved state cannot be used");
        }
        let recent = loaded.stored().map(|stored| stored.recent.clone()).unwrap_or_default();
        let (audit, audit_thread) = Audit::in_dir(dir, &recent).map_err(no_audit)?;
        let deployments = KeptDeployments::open(Some(dir))?;
        Ok(Self { store: Box::new(store), lock: Some(lock), loaded, audit, audit_thread, deployments })
    }
}
