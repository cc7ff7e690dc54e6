//! A store that lasts as long as the process: for the demo, and for tests.

use tidegate_admin::AuditEntry;
use tidegate_core::Saved;

use super::{Loaded, StateStore, StoreError, Stored};

/// Keeps the state in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    stored: Option<Stored>,
}

impl StateStore for MemoryStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        Ok(self.stored.clone().map_or(Loaded::Nothing, Loaded::Current))
    }

    fn save(&mut self, saved: &Saved, change: Option<&AuditEntry>) -> Result<(), StoreError> {
        self.stored = Some(self.stored.take().unwrap_or_default().after(saved, change));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::MemoryStore;
    use crate::state::conformance;

    #[test]
    fn memory_keeps_the_contract() {
        conformance::check(&mut MemoryStore::default());
    }
}
