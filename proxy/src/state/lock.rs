//! One process per state directory: two writers would each undo the other's changes at the next restart.

use std::{
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, Write as _},
    path::Path,
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::StoreError;

/// The lock of a state directory; given back by the system when the process ends, however it ends.
#[derive(Debug)]
pub(super) struct DirLock {
    _held: Flock<File>,
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
        let mut held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, errno)| match errno {
            Errno::EAGAIN => StoreError::Locked { dir: dir.to_owned(), holder: holder(&mut file) },
            other => StoreError::io("lock", &path)(other.into()),
        })?;
        // The number is a help for people; the lock itself does not depend on it.
        let _ = held.set_len(0).and_then(|()| held.rewind()).and_then(|()| writeln!(held, "{}", std::process::id()));
        Ok(Self { _held: held })
    }
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse::<u32>().ok()) {
        Some(pid) => format!("process {pid}"),
        None => "another process".into(),
    }
}
