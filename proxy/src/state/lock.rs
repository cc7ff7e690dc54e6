//! One process per state directory: two writers would each undo the other's changes at the next restart.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

use super::StoreError;

/// The lock of a state directory; given back by the system when the process ends, however it ends. It belongs to the
/// open file: a process that is handed the file has the lock too.
#[derive(Debug)]
pub(super) struct DirLock {
    file: File,
}

impl DirLock {
    /// Takes the lock of a directory, or says who has it.
    pub(super) fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("state.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io("open", &path))?;
        Self::of(file, dir)
    }

    /// Takes the lock that the process before has on this file.
    pub(super) fn take_over(file: File, dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join("state.lock");
        let same = fs::metadata(&path)
            .and_then(|there| file.metadata().map(|left| (there.dev(), there.ino()) == (left.dev(), left.ino())))
            .map_err(StoreError::io("look at", &path))?;
        // The configuration names another directory now.
        if same { Self::of(file, dir) } else { Self::take(dir) }
    }

    fn of(mut file: File, dir: &Path) -> Result<Self, StoreError> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(StoreError::Locked { dir: dir.to_owned(), holder: holder(&mut file) });
            }
            Err(other) => return Err(StoreError::io("lock", dir.join("state.lock"))(other.into())),
        }
        // The number is a help for people; the lock itself does not depend on it.
        let _ = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { file })
    }

    /// The file, to be handed to another process.
    pub(super) fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(pid) => format!("process {pid}"),
        None => "another process".into(),
    }
}
