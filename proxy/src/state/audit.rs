//! Who changed what, and when: an append-only file that is rotated, and never stands in a change's way.
//!
//! A thread of its own writes, in the order of the changes; whoever reads asks the same thread, and so sees every change
//! that was acknowledged before.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    thread::JoinHandle,
};

use tidegate_admin::AuditEntry;
use tokio::sync::oneshot;

/// Size at which a file is rotated: some 30,000 changes.
const MAX_BYTES: u64 = 10 * 1024 * 1024;
/// Rotated files that are kept.
const KEPT_FILES: usize = 5;
/// Entries that may wait for a disk that is slow or full; more are dropped and logged. [`super::RECENT`] of them are in
/// the state all the same.
const QUEUE: usize = 1024;
/// Entries that are kept when there is no file.
const IN_MEMORY: usize = 1000;

enum Command {
    Append(AuditEntry),
    Read { limit: usize, reply: oneshot::Sender<io::Result<Vec<AuditEntry>>> },
}

/// The end of the audit log that the process holds.
#[derive(Debug)]
pub(crate) struct Audit {
    commands: SyncSender<Command>,
}

/// The thread that writes; it ends, with everything written, when every [`Audit`] is gone.
#[derive(Debug)]
pub(crate) struct AuditThread(JoinHandle<()>);

impl AuditThread {
    /// Waits until everything is written.
    pub(crate) fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the audit log's thread panicked");
        }
    }
}

impl Audit {
    /// An audit log in a directory. `recent` are the changes that the state knows of: those that a crash kept from the
    /// file are appended now.
    pub(crate) fn in_dir(dir: &Path, recent: &VecDeque<AuditEntry>) -> io::Result<(Self, AuditThread)> {
        let mut log = AuditFile::new(dir, MAX_BYTES);
        let last = log.newest(1)?.first().map(|entry| entry.generation);
        log.append(recent.iter().filter(|entry| last.is_none_or(|last| entry.generation > last)))?;
        Self::spawn(Log::File(log))
    }

    /// An audit log that ends with the process.
    pub(crate) fn in_memory() -> io::Result<(Self, AuditThread)> {
        Self::spawn(Log::Memory(VecDeque::new()))
    }

    fn spawn(log: Log) -> io::Result<(Self, AuditThread)> {
        let (commands, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || run(log, &queue))?;
        Ok((Self { commands }, AuditThread(thread)))
    }

    /// Appends an entry; never waits.
    pub(crate) fn append(&self, entry: AuditEntry) {
        match self.commands.try_send(Command::Append(entry)) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => tracing::error!("the audit log is too slow: an entry is lost"),
            Err(TrySendError::Disconnected(_)) => tracing::error!("the audit log has ended: an entry is lost"),
        }
    }

    /// The newest entries, newest first.
    pub(crate) async fn newest(&self, limit: usize) -> io::Result<Vec<AuditEntry>> {
        let gone = || io::Error::other("the audit log does not answer: see the process's log");
        let (reply, answer) = oneshot::channel();
        self.commands.try_send(Command::Read { limit, reply }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

enum Log {
    File(AuditFile),
    Memory(VecDeque<AuditEntry>),
}

fn run(mut log: Log, commands: &Receiver<Command>) {
    // Entries that the disk refused, to be tried again with the next one.
    let mut waiting = VecDeque::new();
    for command in commands {
        match (command, &mut log) {
            (Command::Append(entry), Log::Memory(entries)) => {
                entries.push_back(entry);
                if entries.len() > IN_MEMORY {
                    entries.pop_front();
                }
            }
            (Command::Append(entry), Log::File(file)) => {
                waiting.push_back(entry);
                flush(file, &mut waiting);
            }
            // Whoever asked may be gone.
            (Command::Read { limit, reply }, Log::Memory(entries)) => {
                let _ = reply.send(Ok(entries.iter().rev().take(limit).cloned().collect()));
            }
            (Command::Read { limit, reply }, Log::File(file)) => {
                flush(file, &mut waiting);
                let _ = reply.send(file.newest(limit));
            }
        }
    }
    if let Log::File(file) = &mut log {
        flush(file, &mut waiting);
    }
}

fn flush(file: &mut AuditFile, waiting: &mut VecDeque<AuditEntry>) {
    if waiting.is_empty() {
        return;
    }
    match file.append(waiting.iter()) {
        Ok(()) => waiting.clear(),
        Err(error) => {
            let lost = waiting.len().saturating_sub(QUEUE);
            waiting.drain(..lost);
            tracing::error!(
                path = %file.path.display(), %error, waiting = waiting.len(), lost,
                "the audit log could not be written: it is tried again with the next change"
            );
        }
    }
}

/// `audit.jsonl` and its rotated files.
struct AuditFile {
    path: PathBuf,
    max_bytes: u64,
    /// The open file and its size; opened anew after an error, so that no torn line is built upon.
    open: Option<(File, u64)>,
}

impl AuditFile {
    fn new(dir: &Path, max_bytes: u64) -> Self {
        Self { path: dir.join("audit.jsonl"), max_bytes, open: None }
    }

    fn rotated(&self, n: usize) -> PathBuf {
        self.path.with_file_name(format!("audit.jsonl.{n}"))
    }

    fn append<'a>(&mut self, entries: impl Iterator<Item = &'a AuditEntry>) -> io::Result<()> {
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, entry)?;
            text.push(b'\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        let (mut file, mut size) = match self.open.take() {
            Some(open) => open,
            None => self.open_whole()?,
        };
        if size > 0 && size + text.len() as u64 > self.max_bytes {
            self.rotate()?;
            (file, size) = self.open_whole()?;
        }
        file.write_all(&text)?;
        file.sync_data()?;
        self.open = Some((file, size + text.len() as u64));
        Ok(())
    }

    /// Opens the file and cuts off a last line that a crash or a full disk left unfinished.
    fn open_whole(&self) -> io::Result<(File, u64)> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&self.path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1) as u64;
        if whole < text.len() as u64 {
            file.set_len(whole)?;
        }
        file.seek(SeekFrom::End(0))?;
        Ok((file, whole))
    }

    fn rotate(&self) -> io::Result<()> {
        for n in (1..KEPT_FILES).rev() {
            rename_if_there(&self.rotated(n), &self.rotated(n + 1))?;
        }
        rename_if_there(&self.path, &self.rotated(1))
    }

    fn newest(&self, limit: usize) -> io::Result<Vec<AuditEntry>> {
        let mut found = Vec::new();
        let files = std::iter::once(self.path.clone()).chain((1..=KEPT_FILES).map(|n| self.rotated(n)));
        for path in files {
            let text = match fs::read(&path) {
                Ok(text) => text,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    return Err(io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display())));
                }
            };
            for line in text.split(|byte| *byte == b'\n').rev() {
                if found.len() == limit {
                    return Ok(found);
                }
                // A torn line is dropped: its change is in the state's recent ones.
                found.extend(serde_json::from_slice::<AuditEntry>(line).ok());
            }
        }
        Ok(found)
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::{Audit, AuditFile, KEPT_FILES};
    use crate::state::conformance::change;

    fn generations(file: &AuditFile, limit: usize) -> Vec<u64> {
        file.newest(limit).unwrap().iter().map(|entry| entry.generation.0).collect()
    }

    #[test]
    fn the_newest_entries_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let mut file = AuditFile::new(dir.path(), 1_000_000);
        assert_eq!(generations(&file, 10), [0; 0]);
        for n in 1..=9 {
            file.append([change(n)].iter()).unwrap();
        }
        assert_eq!(generations(&file, 3), [9, 8, 7]);
        assert_eq!(generations(&file, 100).len(), 9);
    }

    #[test]
    fn a_torn_last_line_is_dropped_and_not_built_upon() {
        let dir = tempfile::tempdir().unwrap();
        AuditFile::new(dir.path(), 1_000_000).append([change(1)].iter()).unwrap();
        let path = dir.path().join("audit.jsonl");
        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"at_unix_ms\":17").unwrap();
        let mut file = AuditFile::new(dir.path(), 1_000_000);
        assert_eq!(generations(&file, 10), [1]);
        file.append([change(2)].iter()).unwrap();
        assert_eq!(generations(&file, 10), [2, 1]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
    }

    #[test]
    fn a_full_file_is_rotated_and_only_so_many_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let one = serde_json::to_vec(&change(101)).unwrap().len() as u64 + 1;
        // Two entries fit into a file.
        let mut file = AuditFile::new(dir.path(), one * 2);
        for n in 100..150 {
            file.append([change(n)].iter()).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), KEPT_FILES + 1);
        // Reading goes on into the rotated files.
        assert_eq!(generations(&file, 5), [149, 148, 147, 146, 145]);
        assert_eq!(generations(&file, 1000).len(), (KEPT_FILES + 1) * 2);
    }

    #[tokio::test]
    async fn entries_that_a_crash_kept_from_the_file_are_appended_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        AuditFile::new(dir.path(), 1_000_000).append([change(1), change(2)].iter()).unwrap();
        let recent = (1..=4).map(change).collect();
        let (audit, thread) = Audit::in_dir(dir.path(), &recent).unwrap();
        let seen: Vec<_> = audit.newest(10).await.unwrap().iter().map(|entry| entry.generation.0).collect();
        assert_eq!(seen, [4, 3, 2, 1]);
        drop(audit);
        thread.join();
    }

    #[tokio::test]
    async fn what_was_appended_is_read_at_once_and_is_there_after_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (audit, thread) = Audit::in_dir(dir.path(), &Default::default()).unwrap();
        for n in 1..=5 {
            audit.append(change(n));
        }
        assert_eq!(audit.newest(1).await.unwrap()[0].generation.0, 5);
        audit.append(change(6));
        drop(audit);
        thread.join();
        assert_eq!(generations(&AuditFile::new(dir.path(), 1_000_000), 1), [6]);
    }

    #[tokio::test]
    async fn entries_that_the_disk_refused_follow_when_it_takes_them_again() {
        let dir = tempfile::tempdir().unwrap();
        let (audit, thread) = Audit::in_dir(dir.path(), &Default::default()).unwrap();
        let obstacle = dir.path().join("audit.jsonl");
        fs::create_dir(&obstacle).unwrap();
        audit.append(change(1));
        assert!(audit.newest(1).await.is_err());
        fs::remove_dir(&obstacle).unwrap();
        audit.append(change(2));
        assert_eq!(audit.newest(9).await.unwrap().len(), 2);
        drop(audit);
        thread.join();
    }
}
