//! What watches have found, kept over a restart: in a file beside the journal, replaced every few seconds.
//!
//! Losing some of it costs time and never makes a verdict wrong, so nothing waits for it.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use tidegate_core::deploy::DeploymentId;

use super::watch::Checkpoint;
use crate::state::{Decoded, replace, seal, unseal};

/// The file in the state directory.
const FILE: &str = "evidence.json";

/// What was found, by deployment.
pub(super) type Found = BTreeMap<DeploymentId, Checkpoint>;

/// Where findings are kept.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    /// `None`: nowhere.
    path: Option<PathBuf>,
}

impl Evidence {
    /// Keeps them in a state directory that this process has locked; without one, nowhere.
    pub(crate) fn new(dir: Option<&Path>) -> Self {
        Self { path: dir.map(|dir| dir.join(FILE)) }
    }

    /// What an earlier process has left.
    pub(super) fn load(&self) -> Found {
        let Some(path) = &self.path else { return Found::new() };
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::new(),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what analyses had found cannot be read: they begin anew");
                return Found::new();
            }
        };
        match unseal(&text) {
            Decoded::Whole(found) => *found,
            Decoded::Newer(_) | Decoded::Damaged(_) => {
                tracing::warn!(path = %path.display(), "what analyses had found is not readable: they begin anew");
                Found::new()
            }
        }
    }

    /// Keeps what is found now.
    pub(super) fn save(&self, found: &Found) {
        let Some(path) = &self.path else { return };
        if let Err(error) = seal(0, found).and_then(|text| replace(path, &text)) {
            tracing::warn!(%error, "what analyses have found could not be saved: a restart costs them time");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_nothing_and_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let evidence = Evidence::new(Some(dir.path()));
        assert!(evidence.load().is_empty());
        fs::write(dir.path().join(FILE), b"{ torn").unwrap();
        assert!(evidence.load().is_empty());
        let empty = serde_json::from_str::<Checkpoint>("{}").unwrap();
        evidence.save(&Found::from([("dep-1".to_owned().try_into().unwrap(), empty)]));
        assert_eq!(evidence.load().keys().map(DeploymentId::as_str).collect::<Vec<_>>(), ["dep-1"]);
        Evidence::new(None).save(&Found::new());
        assert!(Evidence::new(None).load().is_empty());
    }
}
