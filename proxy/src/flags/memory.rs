//! What this machine remembers of its flag sources, so that a start without them begins where the last run ended.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tidegate_config::SourceId;
use tidegate_core::flags::Memory;

use super::marker::Known;
use crate::state::{Decoded, StoreError, replace, seal, unseal};

/// Everything that is remembered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    /// By source.
    pub(crate) sources: BTreeMap<SourceId, RememberedSource>,
}

/// What is remembered of one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct RememberedSource {
    /// Its flags.
    pub(crate) memory: Memory,
    /// By what it is known again.
    pub(crate) known: Known,
}

/// The file in a state directory.
pub(super) fn path_in(dir: &Path) -> PathBuf {
    dir.join("flags.json")
}

/// Writes everything; durable when it returns.
pub(super) fn save(path: &Path, remembered: &Remembered, generation: u64) -> Result<(), StoreError> {
    replace(path, &seal(generation, remembered)?)
}

/// Reads what was remembered. What cannot be read is said loudly and does not keep the process from starting: the
/// sources may be there.
pub(crate) fn load(dir: &Path) -> Remembered {
    let path = path_in(dir);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Remembered::default(),
        Err(error) => {
            forget(&path, &error.to_string());
            return Remembered::default();
        }
    };
    match unseal(&text) {
        Decoded::Whole(remembered) => *remembered,
        Decoded::Newer(schema) => {
            forget(&path, &format!("a later version wrote it (schema {schema})"));
            Remembered::default()
        }
        Decoded::Damaged(problem) => {
            forget(&path, &problem);
            let aside = path.with_extension("json.damaged");
            match fs::rename(&path, &aside) {
                Ok(()) => tracing::error!(aside = %aside.display(), "the damaged file was moved away"),
                Err(error) => tracing::error!(%error, "the damaged file could not be moved away"),
            }
            Remembered::default()
        }
    }
}

fn forget(path: &Path, problem: &str) {
    tracing::error!(
        path = %path.display(), problem,
        "the remembered flags cannot be used: until their sources are read, flags have their defaults"
    );
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tidegate_config::{FlagName, SourceId};

    use super::{Remembered, RememberedSource, load, path_in, save};

    fn sample() -> Remembered {
        let mut source = RememberedSource::default();
        source.memory.values.insert(FlagName::parse("RECENT").unwrap(), "ON".into());
        source.known.marker = Some("1".into());
        Remembered { sources: [(SourceId::parse("blue").unwrap(), source)].into() }
    }

    #[test]
    fn what_was_saved_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load(dir.path()), Remembered::default());
        save(&path_in(dir.path()), &sample(), 7).unwrap();
        save(&path_in(dir.path()), &sample(), 8).unwrap();
        assert_eq!(load(dir.path()), sample());
    }

    #[test]
    fn a_file_cut_off_anywhere_is_forgotten_and_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_in(dir.path());
        save(&path, &sample(), 7).unwrap();
        let whole = fs::read(&path).unwrap();
        for end in 0..whole.len() - 1 {
            fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(load(dir.path()), Remembered::default(), "cut at {end}");
            assert!(!path.exists());
            assert_eq!(fs::read(path.with_extension("json.damaged")).unwrap(), &whole[..end]);
        }
    }
}
