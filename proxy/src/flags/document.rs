//! Follows a flag source that is a file: a document that people or their tools write.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tidegate_core::flags::{Found, Reading, reading::MAX_DOCUMENT};

use super::{
    failure::Failure,
    follow::{Listener, Taken, Told},
};

/// What follows a file.
#[derive(Clone)]
pub(super) struct DocumentFollower {
    /// The file.
    pub(super) path: PathBuf,
    /// How often it is read.
    pub(super) poll: Duration,
    /// Who is told.
    pub(super) listener: Arc<dyn Listener>,
}

impl DocumentFollower {
    /// Follows the file until the task is ended.
    pub(super) async fn run(self) {
        let mut told = None;
        loop {
            let now = match look(&self.path).await {
                Ok(reading) => Told::Read(Arc::new(reading)),
                Err(failure) => {
                    self.listener.note_failure(&failure);
                    Told::Down { reason: failure.to_string() }
                }
            };
            if told.as_ref() != Some(&now) {
                told = (self.listener.tell(now.clone()).await == Taken::Yes).then_some(now);
            }
            if matches!(told, Some(Told::Read(_))) {
                self.listener.note_read();
            }
            tokio::time::sleep(self.poll).await;
        }
    }
}

/// Reads the file once.
pub(super) async fn look(path: &Path) -> Result<Reading, Failure> {
    let unreadable = |problem: String| Failure::File { path: path.display().to_string(), problem };
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_bounded(&owned)).await;
    let bytes = read.map_err(|error| unreadable(error.to_string()))?.map_err(|error| unreadable(error.to_string()))?;
    Ok(Reading { document: Found::of_bytes(&bytes, MAX_DOCUMENT), ..Reading::default() })
}

/// One byte more than a document may have tells that it is too long.
fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_DOCUMENT as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
