//! Whether files have changed, by what the system says of them.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

/// Time for which changed files must stay as they are before they are read: they may still be written.
const SETTLED: Duration = Duration::from_millis(100);
/// Looks at files that keep changing before they are read all the same.
const PATIENCE: usize = 20;

/// What changes when a file does, also when another one takes its place or a link to it is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    size: u64,
    file: (u64, u64),
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let seen = fs::metadata(path).ok()?;
        let modified = (seen.mtime(), seen.mtime_nsec());
        Some(Self { modified, size: seen.size(), file: (seen.dev(), seen.ino()) })
    }
}

/// Files as they were seen once; those that were not there have no stamp.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Stamps(BTreeMap<PathBuf, Option<Stamp>>);

impl Stamps {
    /// Looks at these files.
    pub(super) fn of(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self(files.into_iter().map(|path| (path.clone(), Stamp::of(&path))).collect())
    }

    /// The same files as they are now.
    pub(super) fn again(&self) -> Self {
        Self::of(self.0.keys().cloned())
    }

    /// Follows these files from now on. What is known of one that was followed before stays.
    pub(super) fn follow(&mut self, files: impl IntoIterator<Item = PathBuf>) {
        let before = std::mem::take(&mut self.0);
        let known = |path: PathBuf| {
            let stamp = before.get(&path).copied().unwrap_or_else(|| Stamp::of(&path));
            (path, stamp)
        };
        self.0 = files.into_iter().map(known).collect();
    }

    /// The files as they are now, if one is another than it was. One that is gone is about to come back, or stays as it
    /// was read.
    pub(super) fn changed(&self) -> Option<Self> {
        let now = self.again();
        let differs = |(path, stamp): (&PathBuf, &Option<Stamp>)| stamp.is_some() && self.0.get(path) != Some(stamp);
        now.0.iter().any(differs).then_some(now)
    }
}

/// Waits until files are not written to any more.
pub(super) async fn settle(mut seen: Stamps) {
    for _ in 0..PATIENCE {
        sleep(SETTLED).await;
        let now = seen.again();
        if now == seen {
            return;
        }
        seen = now;
    }
}
