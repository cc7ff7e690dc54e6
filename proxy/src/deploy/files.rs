//! Files of a version: found by patterns, and their digest, by which the same version is known again.
//!
//! `*` and `?` stand for characters of one name, `**` for any folders. A name that begins with a dot is only found by a
//! pattern that says so. Links to folders are not followed by `**`, so that no search is endless.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::digest::hex;

/// Files of a version, at most: a fingerprint is for what describes a version, not for its data.
const MAX_FILES: usize = 10_000;
/// Bytes of them in all.
const MAX_BYTES: u64 = 1 << 30;

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    /// Nothing is there.
    #[error("no file matches {0}")]
    Nothing(String),
    /// It is too much.
    #[error("{0} matches too much: at most {MAX_FILES} files and 1 GiB make a fingerprint")]
    TooMuch(String),
    /// The system refused.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// The digest of all files that match any of the patterns: of their names, lengths and contents.
pub(crate) fn digest(patterns: &[String]) -> Result<String, FilesError> {
    let mut files = BTreeSet::new();
    for pattern in patterns {
        let found = take(&mut files, pattern, expand(pattern)?)?;
        if found == 0 {
            return Err(FilesError::Nothing(pattern.clone()));
        }
    }
    digest_of(&files, Path::new(""), patterns)
}

/// The digest of the files of a folder that match any of the patterns within it, wherever the folder is. At least one
/// file must.
pub(crate) fn digest_within(folder: &Path, patterns: &[String]) -> Result<String, FilesError> {
    let mut files = BTreeSet::new();
    for pattern in patterns {
        take(&mut files, pattern, expand_in(folder, pattern)?)?;
    }
    if files.is_empty() {
        return Err(FilesError::Nothing(patterns.join(", ")));
    }
    digest_of(&files, folder, patterns)
}

/// Takes the files of what was found; how many there were.
fn take(files: &mut BTreeSet<PathBuf>, pattern: &str, found: Vec<PathBuf>) -> Result<usize, FilesError> {
    let found: Vec<_> = found.into_iter().filter(|path| path.is_file()).collect();
    let count = found.len();
    files.extend(found);
    if files.len() > MAX_FILES { Err(FilesError::TooMuch(pattern.to_owned())) } else { Ok(count) }
}

fn digest_of(files: &BTreeSet<PathBuf>, root: &Path, patterns: &[String]) -> Result<String, FilesError> {
    let (mut digest, mut left) = (Sha256::new(), MAX_BYTES);
    for path in files {
        let name = path.strip_prefix(root).unwrap_or(path).as_os_str().as_encoded_bytes();
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name);
        let mut own = Sha256::new();
        let read = read(path, left + 1, &mut own).map_err(|source| FilesError::Io { path: path.clone(), source })?;
        left = left.checked_sub(read).ok_or_else(|| FilesError::TooMuch(patterns.join(", ")))?;
        digest.update(own.finalize());
    }
    Ok(format!("sha256:{}", hex(digest.finalize())))
}

fn read(path: &Path, most: u64, digest: &mut Sha256) -> io::Result<u64> {
    let (mut file, mut buffer, mut read) = (File::open(path)?.take(most), vec![0; 64 * 1024], 0);
    loop {
        let n = file.read(&mut buffer)?;
        if n == 0 {
            return Ok(read);
        }
        digest.update(buffer.get(..n).unwrap_or_default());
        read += n as u64;
    }
}

/// What is there that matches a pattern, in the order of names.
pub(crate) fn expand(pattern: &str) -> Result<Vec<PathBuf>, FilesError> {
    expand_in(Path::new(if pattern.starts_with('/') { "/" } else { "" }), pattern)
}

/// What is in a folder and matches a pattern.
fn expand_in(root: &Path, pattern: &str) -> Result<Vec<PathBuf>, FilesError> {
    let mut found = vec![root.to_owned()];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = BTreeSet::new();
        for folder in found {
            match part {
                "**" => below(&folder, &mut next)?,
                part if part.contains(['*', '?']) => {
                    next.extend(entries(&folder)?.into_iter().filter(|(name, _)| matches(part, name)).map(|(_, p)| p));
                }
                part => next.extend(Some(folder.join(part)).filter(|path| path.symlink_metadata().is_ok())),
            }
            if next.len() > MAX_FILES {
                return Err(FilesError::TooMuch(pattern.to_owned()));
            }
        }
        found = next.into_iter().collect();
    }
    Ok(found)
}

/// A folder and all folders in it.
fn below(folder: &Path, found: &mut BTreeSet<PathBuf>) -> Result<(), FilesError> {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for (name, path) in entries(&folder)? {
            let is_folder = path.symlink_metadata().is_ok_and(|seen| seen.is_dir());
            if is_folder && !name.starts_with('.') && open.len() + found.len() <= MAX_FILES {
                open.push(path);
            }
        }
        found.insert(folder);
    }
    Ok(())
}

/// What is in a folder; nothing in what is no folder.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>, FilesError> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = match fs::read_dir(here) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(source) => return Err(FilesError::Io { path: folder.to_owned(), source }),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| FilesError::Io { path: folder.to_owned(), source })?;
        let name = entry.file_name();
        found.push((name.to_string_lossy().into_owned(), folder.join(name)));
    }
    Ok(found)
}

/// Whether a name matches a pattern of `*` and `?`.
fn matches(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || name.get(n) == Some(c) => (p, n) = (p + 1, n + 1),
            // The last star takes one more character.
            Some(_) | None => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|c| *c == '*')
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_characters_of_one_name() {
        for (pattern, name, fits) in [
            ("*", "a", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("*.toml", "a.toml", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xaybz", true),
            ("**x", "abx", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }

    /// A folder with these files.
    pub(in crate::deploy) fn made(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    fn found(dir: &Path, pattern: &str) -> Vec<String> {
        let found = expand(&format!("{}/{pattern}", dir.display())).unwrap();
        found.iter().map(|path| path.strip_prefix(dir).unwrap().display().to_string()).collect()
    }

    #[test]
    fn patterns_find_files_in_folders() {
        let dir = made(&[("a/compose.yaml", ""), ("b/compose.yml", ""), ("b/conf/x", ""), ("b/.hidden/x", "")]);
        assert_eq!(found(dir.path(), "*/compose.y*"), ["a/compose.yaml", "b/compose.yml"]);
        assert_eq!(found(dir.path(), "**/x"), ["b/conf/x"]);
        assert_eq!(found(dir.path(), "a/compose.yaml/x"), [""; 0]);
        assert_eq!(found(dir.path(), "*"), ["a", "b"]);
        std::os::unix::fs::symlink(dir.path(), dir.path().join("b/loop")).unwrap();
        assert_eq!(found(dir.path(), "**/x"), ["b/conf/x"], "no search is endless");
    }

    #[test]
    fn a_digest_is_that_of_names_and_contents() {
        let dir = made(&[("compose.yaml", "one"), ("conf/a", "two")]);
        let patterns = ["compose.yaml", "conf/*"].map(|name| format!("{}/{name}", dir.path().display()));
        let first = digest(&patterns).unwrap();
        assert_eq!(digest(&[patterns[1].clone(), patterns[0].clone()]).unwrap(), first, "their order says nothing");
        fs::write(dir.path().join("conf/a"), "2").unwrap();
        let second = digest(&patterns).unwrap();
        fs::rename(dir.path().join("conf/a"), dir.path().join("conf/b")).unwrap();
        let third = digest(&patterns).unwrap();
        assert!(first != second && second != third && first.len() == 71, "{first} {second} {third}");
        let nothing = digest(&[format!("{}/none*", dir.path().display())]).unwrap_err();
        assert!(nothing.to_string().contains("no file matches"), "{nothing}");
    }
}
