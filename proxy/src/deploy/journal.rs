//! What outlives the process of deployments: an append-only file, so that a step costs one line and one sync.
//!
//! A line is a group of records that belong together, numbered and sealed with a checksum: all of a group is there or
//! none of it. Of a crash in the middle of a write only a torn last line is left, which nobody was told of, and which is
//! dropped. A damaged line before it stops the start, since what follows it rests on it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use tidegate_core::deploy::{DeploymentId, engine::Record};

use crate::state::{Decoded, SCHEMA, StoreError, replace, seal, unseal};

/// The file in the state directory.
pub(crate) const FILE: &str = "deployments.jsonl";
/// Length from which the file is written anew with nothing but what still counts: read in well under a second.
const LONG: u64 = 4 * 1024 * 1024;

/// Records that are written as one.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Group {
    /// What changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) records: Vec<Record>,
    /// Keys of requests that created a deployment.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<(String, DeploymentId)>,
}

/// Where groups of records are written down.
pub(crate) trait Journal: Send + 'static {
    /// Appends a group. Durable when it returns; on an error nothing of it is ever read.
    fn append(&mut self, group: &Group) -> Result<(), StoreError>;

    /// Whether it has become so long that it is to be written anew.
    fn is_long(&self) -> bool;

    /// Begins anew with these groups. On an error it is as it was.
    fn rewrite(&mut self, groups: &[Group]) -> Result<(), StoreError>;
}

/// Forgets everything: for a process whose state lasts as long as itself.
#[derive(Debug, Default)]
pub(crate) struct MemoryJournal;

impl Journal for MemoryJournal {
    fn append(&mut self, _: &Group) -> Result<(), StoreError> {
        Ok(())
    }

    fn is_long(&self) -> bool {
        false
    }

    fn rewrite(&mut self, _: &[Group]) -> Result<(), StoreError> {
        Ok(())
    }
}

/// What the first line says, so that a person who opens the file knows what it is.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    journal: String,
}

/// A journal in a directory that this process has locked.
#[derive(Debug)]
pub(crate) struct FileJournal {
    path: PathBuf,
    file: File,
    /// Length of what is whole.
    length: u64,
    /// Number of the last line.
    line: u64,
    /// Whether there may be something behind what is whole.
    torn: bool,
    /// Whether the directory may still name the file before this one.
    misplaced: bool,
    /// Length from which it is written anew.
    long: u64,
}

impl FileJournal {
    /// Opens the journal of a state directory, and reads what it has.
    pub(crate) fn open(dir: &Path) -> Result<(Self, Vec<Group>), StoreError> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = header()?;
                replace(&path, &text)?;
                text
            }
            Err(error) => return Err(StoreError::io("read", &path)(error)),
        };
        let read = Read::all(&path, &text)?;
        let file = appending(&path)?;
        let torn = read.length < text.len() as u64;
        if torn {
            let bytes = text.len() as u64 - read.length;
            tracing::warn!(path = %path.display(), bytes, "a write was cut off by the end of the process: it is dropped");
        }
        let mut journal = Self { path, file, length: read.length, line: read.line, torn, misplaced: false, long: LONG };
        journal.mend()?;
        Ok((journal, read.groups))
    }

    /// Takes away what an unfinished write has left behind.
    fn mend(&mut self) -> Result<(), StoreError> {
        if self.torn {
            self.file.set_len(self.length).map_err(StoreError::io("shorten", &self.path))?;
            self.file.sync_all().map_err(StoreError::io("sync", &self.path))?;
            self.torn = false;
        }
        if self.misplaced {
            let dir = self.path.parent().unwrap_or(Path::new("."));
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::io("sync the directory", dir))?;
            self.misplaced = false;
        }
        Ok(())
    }

    /// Whether another file has its name now.
    fn is_replaced(&self) -> bool {
        let (Ok(named), Ok(open)) = (fs::metadata(&self.path), self.file.metadata()) else { return false };
        (named.dev(), named.ino()) != (open.dev(), open.ino())
    }
}

impl Journal for FileJournal {
    fn append(&mut self, group: &Group) -> Result<(), StoreError> {
        self.mend()?;
        let line = seal(self.line + 1, group)?;
        let written = self
            .file
            .write_all(&line)
            .map_err(StoreError::io("write", &self.path))
            .and_then(|()| self.file.sync_data().map_err(StoreError::io("sync", &self.path)));
        if let Err(error) = written {
            self.torn = true;
            if let Err(error) = self.mend() {
                tracing::error!(%error, "what could not be written could not be taken back either; it is tried again");
            }
            return Err(error);
        }
        self.line += 1;
        self.length += line.len() as u64;
        Ok(())
    }

    fn is_long(&self) -> bool {
        self.length > self.long
    }

    fn rewrite(&mut self, groups: &[Group]) -> Result<(), StoreError> {
        let mut text = header()?;
        for (line, group) in (1..).zip(groups) {
            text.extend_from_slice(&seal(line, group)?);
        }
        // Whatever comes of it, the next attempt is only made when there is much more to gain.
        self.long = LONG.max(2 * text.len() as u64).max(self.length.saturating_add(LONG));
        let replaced = replace(&self.path, &text);
        if replaced.is_ok() || self.is_replaced() {
            self.file = appending(&self.path)?;
            (self.length, self.line, self.torn) = (text.len() as u64, groups.len() as u64, false);
            self.long = LONG.max(2 * self.length);
            // It has the name, but a crash might give it back: nothing is appended before that is sure.
            self.misplaced = replaced.is_err();
        }
        replaced
    }
}

fn header() -> Result<Vec<u8>, StoreError> {
    seal(0, &Header { journal: "deployments".into() })
}

fn appending(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new().append(true).mode(0o600).open(path).map_err(StoreError::io("open", path))
}

/// What a text holds.
struct Read {
    groups: Vec<Group>,
    length: u64,
    line: u64,
}

impl Read {
    fn all(path: &Path, text: &[u8]) -> Result<Self, StoreError> {
        let mut read = Self { groups: Vec::new(), length: 0, line: 0 };
        let lines: Vec<&[u8]> = text.split_inclusive(|byte| *byte == b'\n').collect();
        for (at, line) in lines.iter().enumerate() {
            let damaged = |problem: String| StoreError::DamagedLine { path: path.to_owned(), line: at + 1, problem };
            match read.take(at, line) {
                Decoded::Whole(group) => read.groups.extend(*group),
                Decoded::Newer(schema) => {
                    return Err(StoreError::Newer { path: path.to_owned(), schema, known: SCHEMA });
                }
                // The header was there before any line.
                Decoded::Damaged(_) if at > 0 && at + 1 == lines.len() => return Ok(read),
                Decoded::Damaged(problem) => return Err(damaged(problem)),
            }
            read.line = at as u64;
            read.length += line.len() as u64;
        }
        if lines.is_empty() {
            let problem = "it is empty".to_owned();
            return Err(StoreError::DamagedLine { path: path.to_owned(), line: 1, problem });
        }
        Ok(read)
    }

    /// One line: the header, or a group.
    fn take(&self, at: usize, line: &[u8]) -> Decoded<Option<Group>> {
        if !line.ends_with(b"\n") {
            return Decoded::Damaged("it is cut off".into());
        }
        if at == 0 {
            return match unseal::<Header>(line) {
                Decoded::Whole(_) => Decoded::Whole(Box::new(None)),
                Decoded::Newer(schema) => Decoded::Newer(schema),
                Decoded::Damaged(problem) => Decoded::Damaged(problem),
            };
        }
        match (unseal::<Group>(line), number(line)) {
            (Decoded::Whole(_), found) if found != Some(at as u64) => {
                Decoded::Damaged(format!("it should be number {at}, and says {found:?}"))
            }
            (Decoded::Whole(group), _) => Decoded::Whole(Box::new(Some(*group))),
            (Decoded::Newer(schema), _) => Decoded::Newer(schema),
            (Decoded::Damaged(problem), _) => Decoded::Damaged(problem),
        }
    }
}

/// The number that a line has; its checksum covers it.
fn number(line: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    struct Numbered {
        generation: u64,
    }
    serde_json::from_slice::<Numbered>(line).ok().map(|numbered| numbered.generation)
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tidegate_core::deploy::{DeploymentId, engine::Record};

    use super::{FILE, FileJournal, Group, Journal, LONG};
    use crate::state::StoreError;

    /// A group that is recognised by its number.
    fn group(n: usize) -> Group {
        let id = DeploymentId::parse(&format!("dep-{n}")).unwrap();
        Group { records: vec![Record::Forgotten { id: id.clone() }], keys: vec![(format!("key {n}"), id)] }
    }

    fn keys(groups: &[Group]) -> Vec<String> {
        groups.iter().flat_map(|group| group.keys.iter().map(|(key, _)| key.clone())).collect()
    }

    fn written(dir: &Path, n: usize) -> Vec<u8> {
        let (mut journal, _) = FileJournal::open(dir).unwrap();
        for n in 0..n {
            journal.append(&group(n)).unwrap();
        }
        fs::read(dir.join(FILE)).unwrap()
    }

    #[test]
    fn what_was_appended_is_read_after_a_restart_and_the_numbers_go_on() {
        let dir = tempfile::tempdir().unwrap();
        assert!(FileJournal::open(dir.path()).unwrap().1.is_empty());
        written(dir.path(), 2);
        let (mut journal, groups) = FileJournal::open(dir.path()).unwrap();
        assert_eq!(keys(&groups), ["key 0", "key 1"]);
        assert!(matches!(&groups[0].records[..], [Record::Forgotten { .. }]));
        journal.append(&group(7)).unwrap();
        assert_eq!(keys(&FileJournal::open(dir.path()).unwrap().1), ["key 0", "key 1", "key 7"]);
    }

    #[test]
    fn a_last_line_that_was_cut_off_anywhere_is_dropped_and_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let whole = written(dir.path(), 3);
        let two = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
        for end in two..whole.len() {
            fs::write(dir.path().join(FILE), &whole[..end]).unwrap();
            let (mut journal, groups) = FileJournal::open(dir.path()).unwrap();
            assert_eq!(keys(&groups), ["key 0", "key 1"], "cut at {end}");
            journal.append(&group(2)).unwrap();
            assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), whole, "cut at {end}");
        }
    }

    #[test]
    fn a_last_line_with_a_hole_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let mut text = written(dir.path(), 2);
        let at = text.len() - 10;
        text[at] = 0;
        fs::write(dir.path().join(FILE), &text).unwrap();
        assert_eq!(keys(&FileJournal::open(dir.path()).unwrap().1), ["key 0"]);
    }

    fn refusal(dir: &Path, text: &[u8]) -> String {
        fs::write(dir.join(FILE), text).unwrap();
        let error = FileJournal::open(dir).unwrap_err();
        assert_eq!(fs::read(dir.join(FILE)).unwrap(), text, "nothing was changed");
        error.to_string()
    }

    #[test]
    fn damage_before_the_last_line_stops_the_start_and_names_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let text = written(dir.path(), 3);
        let ends: Vec<usize> = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
        for (line, end) in ends.iter().enumerate().take(3) {
            let mut text = text.clone();
            text[end - 5] ^= 1;
            let refusal = refusal(dir.path(), &text);
            assert!(refusal.contains(FILE) && refusal.contains(&format!("line {} ", line + 1)), "{refusal}");
        }
        // A whole line that is missing.
        let mut missing = text[..=ends[0]].to_vec();
        missing.extend_from_slice(&text[ends[1] + 1..]);
        let refusal = refusal(dir.path(), &missing);
        assert!(refusal.contains("line 2") && refusal.contains("number 1"), "{refusal}");
    }

    #[test]
    fn an_empty_or_later_file_is_not_taken_for_a_journal() {
        let dir = tempfile::tempdir().unwrap();
        assert!(refusal(dir.path(), b"").contains("it is empty"));
        let text = String::from_utf8(written_anew(dir.path())).unwrap().replacen("\"schema\":1", "\"schema\":2", 1);
        fs::write(dir.path().join(FILE), text).unwrap();
        assert!(matches!(FileJournal::open(dir.path()), Err(StoreError::Newer { schema: 2, .. })));
    }

    fn written_anew(dir: &Path) -> Vec<u8> {
        fs::remove_file(dir.join(FILE)).unwrap();
        written(dir, 2)
    }

    #[test]
    fn it_is_written_anew_when_it_is_long_and_not_again_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = FileJournal::open(dir.path()).unwrap();
        let long = Group { keys: vec![("k".repeat(1024 * 1024), "dep-1".to_owned().try_into().unwrap())], ..group(0) };
        while !journal.is_long() {
            journal.append(&long).unwrap();
        }
        assert!(fs::metadata(dir.path().join(FILE)).unwrap().len() > LONG);
        journal.rewrite(&[group(1), group(2)]).unwrap();
        assert!(!journal.is_long());
        journal.append(&group(3)).unwrap();
        assert!(fs::metadata(dir.path().join(FILE)).unwrap().len() < 10_000);
        assert_eq!(keys(&FileJournal::open(dir.path()).unwrap().1), ["key 1", "key 2", "key 3"]);
    }

    #[test]
    fn a_failed_rewrite_leaves_the_journal_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = FileJournal::open(dir.path()).unwrap();
        journal.append(&group(1)).unwrap();
        let obstacle = dir.path().join("deployments.tmp");
        fs::create_dir_all(obstacle.join("not empty")).unwrap();
        assert!(journal.rewrite(&[]).is_err());
        journal.append(&group(2)).unwrap();
        assert_eq!(keys(&FileJournal::open(dir.path()).unwrap().1), ["key 1", "key 2"]);
    }

    #[test]
    fn a_write_that_fails_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let before = written(dir.path(), 1);
        let (mut journal, _) = FileJournal::open(dir.path()).unwrap();
        // A file that cannot be written to, as on a disk that fails.
        journal.file = fs::File::open(dir.path().join(FILE)).unwrap();
        assert!(journal.append(&group(1)).is_err());
        journal.file = super::appending(&dir.path().join(FILE)).unwrap();
        assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), before);
        journal.append(&group(2)).unwrap();
        assert_eq!(keys(&FileJournal::open(dir.path()).unwrap().1), ["key 0", "key 2"]);
    }
}
