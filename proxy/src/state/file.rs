//! State on one machine: `state.json`, replaced whole, and the copy before it.
//!
//! A save writes a new file, syncs it, keeps the old one as `state.json.1`, renames the new one into place and syncs
//! the directory. At every moment one of the two files is whole, and `state.json` never misses.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use tidegate_admin::AuditEntry;
use tidegate_core::Saved;

use super::{
    Loaded, StateStore, StoreError, Stored,
    document::{Decoded, SCHEMA, decode, encode},
    lock::DirLock,
};

/// Keeps the state in a directory that no other process uses.
#[derive(Debug)]
pub(crate) struct FileStore {
    dir: PathBuf,
    current: PathBuf,
    previous: PathBuf,
    /// What is in `state.json`.
    stored: Stored,
    lock: DirLock,
}

impl FileStore {
    /// [`FileStore::take_over`] where there is no process before.
    #[cfg(test)]
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::take_over(dir, None)
    }

    /// Opens a directory, which is made if it is not there, and locks it; or uses the lock that the process before left.
    pub(crate) fn take_over(dir: &Path, left: Option<File>) -> Result<Self, StoreError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io("make the directory", dir))?;
        let lock = match left {
            Some(file) => DirLock::take_over(file, dir)?,
            None => DirLock::take(dir)?,
        };
        Ok(Self {
            dir: dir.to_owned(),
            current: dir.join("state.json"),
            previous: dir.join("state.json.1"),
            stored: Stored::default(),
            lock,
        })
    }

    /// The file whose lock says that this process owns the directory, to be left to the next one.
    pub(crate) fn lock_file(&self) -> io::Result<File> {
        self.lock.file()
    }

    /// Falls back on the copy before, and puts the damaged file out of the way so that nothing overwrites it.
    fn load_previous(&self, problem: String) -> Result<Stored, StoreError> {
        match read(&self.previous)? {
            Some(Decoded::Whole(stored)) => Ok(*stored),
            Some(Decoded::Newer(schema)) => Err(self.newer(&self.previous, schema)),
            Some(Decoded::Damaged(_)) | None => Err(StoreError::Damaged { path: self.current.clone(), problem }),
        }
    }

    fn newer(&self, path: &Path, schema: u64) -> StoreError {
        StoreError::Newer { path: path.to_owned(), schema, known: SCHEMA }
    }

    fn quarantine(&self) -> Result<PathBuf, StoreError> {
        let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let aside = self.dir.join(format!("state.json.damaged-{millis}"));
        fs::rename(&self.current, &aside).map_err(StoreError::io("move away", &self.current))?;
        Ok(aside)
    }

    /// Everything up to the moment from which the new state is the one that a start would find.
    fn write_aside(&self, text: &[u8]) -> Result<PathBuf, StoreError> {
        let aside = self.dir.join("state.json.tmp");
        remove(&aside)?;
        write_new(&aside, text).inspect_err(|_| {
            // Half a file would only take space that a full disk lacks.
            let _ = fs::remove_file(&aside);
        })?;
        self.keep_previous()?;
        Ok(aside)
    }

    /// Makes `state.json.1` another name of what is now `state.json`.
    fn keep_previous(&self) -> Result<(), StoreError> {
        let aside = self.dir.join("state.json.1.tmp");
        remove(&aside)?;
        match fs::hard_link(&self.current, &aside) {
            Ok(()) => {}
            // The first save, or the one after a damaged file was moved away: what is there stays.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // Not every file system has links.
            Err(_) => {
                fs::copy(&self.current, &aside).map_err(StoreError::io("copy", &self.current))?;
            }
        }
        fs::rename(&aside, &self.previous).map_err(StoreError::io("replace", &self.previous))?;
        // Where both names were the same file already, a rename leaves them be.
        remove(&aside)
    }

    fn sync_dir(&self) -> Result<(), StoreError> {
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync the directory", &self.dir))
    }

    /// After a failed sync of the directory: the refused state must not be what the next start finds.
    fn put_back(&self) {
        let aside = self.dir.join("state.json.tmp");
        let back = remove(&aside).is_ok()
            && match fs::hard_link(&self.previous, &aside) {
                Ok(()) => fs::rename(&aside, &self.current).is_ok(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => fs::remove_file(&self.current).is_ok(),
                Err(_) => fs::copy(&self.previous, &self.current).is_ok(),
            };
        if !back {
            tracing::error!(path = %self.current.display(), "the state that could not be saved could not be taken back either");
        }
        let _ = self.sync_dir();
    }
}

impl StateStore for FileStore {
    fn load(&mut self) -> Result<Loaded, StoreError> {
        let loaded = match read(&self.current)? {
            Some(Decoded::Whole(stored)) => Loaded::Current(*stored),
            Some(Decoded::Newer(schema)) => return Err(self.newer(&self.current, schema)),
            Some(Decoded::Damaged(problem)) => {
                let stored = self.load_previous(problem.clone())?;
                let aside = self.quarantine()?;
                let problem = format!(
                    "{} was damaged ({problem}): it is now {}, and the copy before it is used, which may lack the last change",
                    self.current.display(),
                    aside.display()
                );
                Loaded::Previous { stored, problem }
            }
            None if self.previous.exists() => {
                let problem = format!(
                    "{} is missing: the copy before it is used; to begin anew, remove {} too",
                    self.current.display(),
                    self.previous.display()
                );
                Loaded::Previous { stored: self.load_previous("missing".into())?, problem }
            }
            None => Loaded::Nothing,
        };
        self.stored = loaded.stored().cloned().unwrap_or_default();
        Ok(loaded)
    }

    fn save(&mut self, saved: &Saved, change: Option<&AuditEntry>) -> Result<(), StoreError> {
        let stored = self.stored.after(saved, change);
        let aside = self.write_aside(&encode(&stored)?)?;
        fs::rename(&aside, &self.current).map_err(StoreError::io("replace", &self.current))?;
        if let Err(error) = self.sync_dir() {
            self.put_back();
            return Err(error);
        }
        self.stored = stored;
        Ok(())
    }
}

/// What a start in this directory would begin with. Locks nothing and changes nothing, so that it may be asked while
/// another process uses the directory.
pub(crate) fn peek(dir: &Path) -> Result<Option<Saved>, StoreError> {
    let mut damaged = None;
    for path in [dir.join("state.json"), dir.join("state.json.1")] {
        match read(&path)? {
            Some(Decoded::Whole(stored)) => return Ok(Some(stored.saved)),
            Some(Decoded::Newer(schema)) => return Err(StoreError::Newer { path, schema, known: SCHEMA }),
            Some(Decoded::Damaged(problem)) => damaged = damaged.or(Some(StoreError::Damaged { path, problem })),
            None => {}
        }
    }
    damaged.map_or(Ok(None), Err)
}

/// Replaces a file that no other process writes: after a crash it is what it was or what it should be. Makes its
/// directory if it is not there.
pub(crate) fn replace(path: &Path, text: &[u8]) -> Result<(), StoreError> {
    let dir = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(StoreError::io("make the directory", dir))?;
    let aside = path.with_extension("tmp");
    remove(&aside)?;
    write_new(&aside, text).inspect_err(|_| drop(fs::remove_file(&aside)))?;
    fs::rename(&aside, path).map_err(StoreError::io("replace", path))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync the directory", dir))
}

fn write_new(aside: &Path, text: &[u8]) -> Result<(), StoreError> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(aside)
        .map_err(StoreError::io("create", aside))?;
    file.write_all(text).map_err(StoreError::io("write", aside))?;
    file.sync_all().map_err(StoreError::io("sync", aside))
}

fn read(path: &Path) -> Result<Option<Decoded>, StoreError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(decode(&text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("read", path)(error)),
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", path)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tidegate_core::Generation;

    use super::{FileStore, peek};
    use crate::state::{
        Loaded, StateStore, StoreError,
        conformance::{self, change, stored},
    };

    fn saved_twice(dir: &std::path::Path) {
        let mut store = FileStore::open(dir).unwrap();
        store.load().unwrap();
        store.save(&stored(1).saved, Some(&change(1))).unwrap();
        store.save(&stored(2).saved, Some(&change(2))).unwrap();
    }

    fn generation(loaded: &Loaded) -> u64 {
        loaded.stored().unwrap().saved.generation.0
    }

    #[test]
    fn files_keep_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        conformance::check(&mut FileStore::open(&dir.path().join("made/for/it")).unwrap());
    }

    #[test]
    fn a_look_at_a_directory_in_use_finds_what_a_start_would_find() {
        let dir = tempfile::tempdir().unwrap();
        assert!(peek(&dir.path().join("nowhere")).unwrap().is_none());
        saved_twice(dir.path());
        let _in_use = FileStore::open(dir.path()).unwrap();
        let generation = || peek(dir.path()).unwrap().unwrap().generation.0;
        assert_eq!(generation(), 2);
        fs::write(dir.path().join("state.json"), "{").unwrap();
        assert_eq!(generation(), 1);
        fs::write(dir.path().join("state.json.1"), "{").unwrap();
        assert!(matches!(peek(dir.path()), Err(StoreError::Damaged { path, .. }) if path.ends_with("state.json")));
        assert_eq!(fs::read(dir.path().join("state.json")).unwrap(), b"{", "nothing was moved");
    }

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let first = FileStore::open(dir.path()).unwrap();
        let refusal = FileStore::open(dir.path()).unwrap_err().to_string();
        assert!(refusal.contains(&dir.path().display().to_string()), "{refusal}");
        assert!(refusal.contains(&format!("process {}", std::process::id())), "{refusal}");
        drop(first);
        FileStore::open(dir.path()).unwrap();
    }

    #[test]
    fn a_cut_off_file_gives_way_to_the_copy_before_it() {
        let dir = tempfile::tempdir().unwrap();
        saved_twice(dir.path());
        let whole = fs::read(dir.path().join("state.json")).unwrap();
        for end in (0..whole.len() - 1).step_by(97) {
            saved_twice_anew(dir.path(), &whole[..end]);
            let loaded = FileStore::open(dir.path()).unwrap().load().unwrap();
            assert!(matches!(&loaded, Loaded::Previous { problem, .. } if problem.contains("state.json.damaged-")));
            assert_eq!(generation(&loaded), 1);
            // The next start finds the same, without the damaged file.
            assert_eq!(generation(&FileStore::open(dir.path()).unwrap().load().unwrap()), 1);
        }
    }

    fn saved_twice_anew(dir: &std::path::Path, current: &[u8]) {
        fs::remove_dir_all(dir).unwrap();
        fs::create_dir(dir).unwrap();
        saved_twice(dir);
        fs::write(dir.join("state.json"), current).unwrap();
    }

    #[test]
    fn two_damaged_copies_stop_the_start_and_stay_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        saved_twice(dir.path());
        fs::write(dir.path().join("state.json"), "{").unwrap();
        fs::write(dir.path().join("state.json.1"), "{").unwrap();
        let error = FileStore::open(dir.path()).unwrap().load().unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(dir.path().join("state.json")).unwrap(), b"{");
    }

    #[test]
    fn a_later_schema_stops_the_start() {
        let dir = tempfile::tempdir().unwrap();
        saved_twice(dir.path());
        fs::write(dir.path().join("state.json"), r#"{"schema":2}"#).unwrap();
        let error = FileStore::open(dir.path()).unwrap().load().unwrap_err();
        assert!(error.to_string().contains("schema 2"), "{error}");
        assert_eq!(fs::read(dir.path().join("state.json")).unwrap(), br#"{"schema":2}"#);
    }

    #[test]
    fn a_crash_between_any_two_steps_of_a_save_finds_the_old_or_the_new_state() {
        let dir = tempfile::tempdir().unwrap();
        saved_twice(dir.path());
        let mut store = FileStore::open(dir.path()).unwrap();
        store.load().unwrap();
        // Written aside and the old one kept, but not renamed: as if killed there.
        store.write_aside(b"half of a sta").unwrap();
        drop(store);
        let mut store = FileStore::open(dir.path()).unwrap();
        assert_eq!(generation(&store.load().unwrap()), 2);
        store.save(&stored(3).saved, None).unwrap();
        assert_eq!(generation(&store.load().unwrap()), 3);
    }

    /// Whatever step fails, the old state is what a start finds, and the next save succeeds once the cause is gone.
    fn check_failure(obstacle: &str) {
        let dir = tempfile::tempdir().unwrap();
        saved_twice(dir.path());
        let mut store = FileStore::open(dir.path()).unwrap();
        store.load().unwrap();
        let obstacle = dir.path().join(obstacle);
        let _ = fs::remove_file(&obstacle);
        fs::create_dir_all(obstacle.join("not empty")).unwrap();
        let error = store.save(&stored(3).saved, Some(&change(3))).unwrap_err();
        assert!(matches!(error, StoreError::Io { .. }), "{error}");
        assert_eq!(generation(&store.load().unwrap()), 2);
        fs::remove_dir_all(&obstacle).unwrap();
        store.save(&stored(4).saved, Some(&change(4))).unwrap();
        let loaded = store.load().unwrap();
        assert_eq!(generation(&loaded), 4);
        let recent: Vec<_> = loaded.stored().unwrap().recent.iter().map(|entry| entry.generation).collect();
        assert_eq!(recent, [1, 2, 4].map(Generation));
    }

    #[test]
    fn a_failure_before_the_new_file_is_written_changes_nothing() {
        check_failure("state.json.tmp");
    }

    #[test]
    fn a_failure_after_the_new_file_is_written_changes_nothing() {
        check_failure("state.json.1");
    }

    #[test]
    fn a_state_whose_directory_could_not_be_synced_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        saved_twice(dir.path());
        let mut store = FileStore::open(dir.path()).unwrap();
        store.load().unwrap();
        store.save(&stored(3).saved, None).unwrap();
        store.put_back();
        assert_eq!(generation(&store.load().unwrap()), 2);
    }

    #[test]
    fn a_first_state_that_is_taken_back_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = FileStore::open(dir.path()).unwrap();
        store.save(&stored(1).saved, None).unwrap();
        store.put_back();
        assert!(matches!(store.load().unwrap(), Loaded::Nothing));
    }
}
