//! The side of the process that is replaced.

use std::{
    env,
    ffi::OsString,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt as _,
    net::{UnixListener, UnixStream},
    process::{Child, Command},
    time::timeout,
};

use super::{Legacy, VARIABLE, parcel};

/// How long the new process may take to read its configuration.
const UNTIL_MET: Duration = Duration::from_secs(30);
/// How long it may take from then on until it serves.
const UNTIL_READY: Duration = Duration::from_secs(60);

/// Why this process was not replaced. It goes on as before.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    /// It cannot be.
    #[error("{0}")]
    Impossible(&'static str),
    /// The new process could not be started.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The binary.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The new process ended before it served.
    #[error("the new process ended before it served ({0}): the log says why; this one goes on")]
    Ended(ExitStatus),
    /// It took too long.
    #[error("the new process did not {waited_for} within {limit:?} and was ended; this one goes on")]
    Slow {
        /// What was waited for.
        waited_for: &'static str,
        /// For how long.
        limit: Duration,
    },
    /// The way between the two broke.
    #[error("the new process could not be handed the sockets: {0}; this one goes on")]
    Broken(#[from] io::Error),
}

/// A new process that has read its configuration, and waits for what this one leaves.
#[derive(Debug)]
pub(crate) struct Offer {
    child: Child,
    stream: UnixStream,
}

impl Offer {
    /// Starts the binary that is now where this process's came from, with the same arguments, and waits until it asks.
    pub(crate) async fn make(state_dir: &Path) -> Result<Self, UpgradeError> {
        if std::process::id() == 1 {
            return Err(UpgradeError::Impossible(
                "this is the first process of a container, which ends with it: replace the container",
            ));
        }
        let dir = fs::canonicalize(state_dir)?;
        let place = Place(dir.join(format!("upgrade.{}.sock", std::process::id())));
        let _ = fs::remove_file(&place.0);
        let listener = UnixListener::bind(&place.0)?;
        fs::set_permissions(&place.0, fs::Permissions::from_mode(0o600))?;
        let mut child = spawn(&place.0)?;
        let met = tokio::select! {
            met = timeout(UNTIL_MET, listener.accept()) => met,
            ended = child.wait() => return Err(UpgradeError::Ended(ended?)),
        };
        match met {
            Ok(Ok((stream, _))) => Ok(Self { child, stream }),
            Ok(Err(error)) => {
                end(&mut child).await;
                Err(error.into())
            }
            Err(_) => {
                end(&mut child).await;
                Err(UpgradeError::Slow { waited_for: "ask for the sockets", limit: UNTIL_MET })
            }
        }
    }

    /// Hands everything over and waits until the new process serves; its number. Nobody may write to the state
    /// directory from now on, unless this fails.
    pub(crate) async fn hand_over(self, legacy: Legacy) -> Result<u32, UpgradeError> {
        let Self { mut child, stream } = self;
        let pid = child.id().unwrap_or_default();
        let served = tokio::select! {
            served = timeout(UNTIL_READY, serve(stream, legacy)) => served,
            ended = child.wait() => return Err(UpgradeError::Ended(ended?)),
        };
        let error = match served {
            Ok(Ok(())) => return Ok(pid),
            Ok(Err(error)) => UpgradeError::Broken(error),
            Err(_) => UpgradeError::Slow { waited_for: "begin to serve", limit: UNTIL_READY },
        };
        // Nobody else may write before this process does again.
        end(&mut child).await;
        Err(error)
    }
}

async fn serve(stream: UnixStream, legacy: Legacy) -> io::Result<()> {
    let mut stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(UNTIL_READY))?;
    let sent = tokio::task::spawn_blocking(move || parcel::send(&mut stream, &legacy).map(|()| stream));
    let stream = sent.await.map_err(io::Error::other)??;
    stream.set_nonblocking(true)?;
    let mut word = [0; parcel::READY.len()];
    UnixStream::from_std(stream)?.read_exact(&mut word).await?;
    if word == parcel::READY { Ok(()) } else { Err(io::Error::other("it said something else than that it serves")) }
}

async fn end(child: &mut Child) {
    if let Err(error) = child.kill().await {
        tracing::error!(%error, "the new process could not be ended");
    }
}

fn spawn(place: &Path) -> Result<Child, UpgradeError> {
    let program = program()?;
    let mut command = Command::new(&program);
    command.args(env::args_os().skip(1)).env(VARIABLE, place).stdin(Stdio::null());
    command.spawn().map_err(|source| UpgradeError::Start { program, source })
}

/// The path that this process's binary came from: a binary that was replaced has another file there by now.
fn program() -> io::Result<PathBuf> {
    const GONE: &str = " (deleted)";
    let program = env::current_exe()?.into_os_string().into_encoded_bytes();
    let text = String::from_utf8(program).map_err(io::Error::other)?;
    Ok(PathBuf::from(OsString::from(text.strip_suffix(GONE).unwrap_or(&text))))
}

/// The socket that the two meet at, gone when it is not needed any more.
struct Place(PathBuf);

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
