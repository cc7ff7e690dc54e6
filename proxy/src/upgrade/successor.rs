//! The side of the new process.

use std::{
    env,
    io::{self, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use super::{Legacy, VARIABLE, parcel};

/// The process before has this long for each answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// The process that this one takes the place of. Dropping it without [`Predecessor::ready`] tells it to go on.
#[derive(Debug)]
pub(crate) struct Predecessor {
    stream: UnixStream,
}

/// Why nothing could be taken over.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over from the process behind {}: {source}: start without {VARIABLE} in the environment", path.display())]
pub(crate) struct TakeOverError {
    path: PathBuf,
    source: io::Error,
}

impl Predecessor {
    /// The process that started this one to be replaced by it, with what it leaves; `None`: nobody did.
    pub(crate) fn meet() -> Result<Option<(Self, Legacy)>, TakeOverError> {
        let Some(path) = env::var_os(VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from) else {
            return Ok(None);
        };
        let meet = || -> io::Result<(Self, Legacy)> {
            let mut stream = UnixStream::connect(&path)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let legacy = parcel::receive(&mut stream)?;
            Ok((Self { stream }, legacy))
        };
        match meet() {
            Ok(met) => Ok(Some(met)),
            // What is left of an earlier upgrade, in the environment of a process that was started later.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TakeOverError { path: path.clone(), source }),
        }
    }

    /// Says that this process serves now: the one before ends.
    pub(crate) fn ready(mut self) {
        if let Err(error) = self.stream.write_all(parcel::READY) {
            tracing::warn!(%error, "the process before has ended already");
        }
    }
}
