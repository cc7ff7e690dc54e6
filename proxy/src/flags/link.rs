//! One connection to a store: handshake, bounded questions and answers, and a wake-up when something changed there.
//!
//! Nothing is asked without a deadline, no answer is longer than a bound, and dropping a link closes its socket.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, ProtocolVersion, PushKind, RedisConnectionInfo, RedisError, Value,
    aio::{MultiplexedConnection, SendError},
};
use tidegate_config::Secret;
use tokio::{sync::Notify, task::JoinHandle};

use super::{
    bounded::{Allowance, Bounded},
    failure::Failure,
};
use crate::outbound::Socket;

/// Without a single byte for so long, a store counts as gone.
pub(super) const SILENCE: Duration = Duration::from_millis(500);
/// How often is looked whether bytes have come.
const GLANCE: Duration = Duration::from_millis(50);
/// Longest time for a whole answer, however steadily it comes.
const ANSWER: Duration = Duration::from_secs(5);
/// Most bytes of one answer: a chunk of values, each as long as it may be, and a whole hash.
const ANSWER_BYTES: usize = 96 * 1024 * 1024;

/// Who we are to a store.
#[derive(Debug, Clone, Default)]
pub(super) struct Login {
    /// The user; absent: the store's default user.
    pub(super) username: Option<String>,
    /// Its password.
    pub(super) password: Option<Secret>,
    /// The database.
    pub(super) database: u32,
}

/// What a link learns of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freshness {
    /// The store tells of changes at once; polling makes sure.
    Tracking,
    /// Changes are seen by polling alone.
    PollOnly,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Link {
    connection: MultiplexedConnection,
    allowance: Allowance,
    driver: JoinHandle<()>,
    /// Where it leads to; absent: a Unix socket.
    pub(super) peer: Option<SocketAddr>,
    /// Whether it wakes.
    pub(super) freshness: Freshness,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Makes the handshake with RESP3, for a store that can push. The error `RESP3NotSupported` says to come again without.
pub(super) async fn greet(
    socket: Box<dyn Socket>,
    peer: Option<SocketAddr>,
    login: &Login,
    wake: Option<Arc<Notify>>,
) -> Result<Link, Greeting> {
    let resp3 = wake.is_some();
    let info = RedisConnectionInfo::default().set_db(login.database.into()).set_skip_set_lib_name();
    let info = info.set_protocol(if resp3 { ProtocolVersion::RESP3 } else { ProtocolVersion::RESP2 });
    let info = login.username.iter().fold(info, |info, name| info.set_username(name));
    let info = login.password.iter().fold(info, |info, secret| info.set_password(secret.expose()));
    // The deadlines are ours: the library's would take a long answer for a dead store.
    let mut config = AsyncConnectionConfig::new().set_response_timeout(None).set_connection_timeout(None);
    if let Some(wake) = wake {
        config = config.set_push_sender(move |push: redis::PushInfo| {
            if matches!(push.kind, PushKind::Invalidate | PushKind::Disconnection) {
                wake.notify_one();
            }
            Ok::<(), SendError>(())
        });
    }
    let allowance = Allowance::default();
    allowance.renew(ANSWER_BYTES);
    let stream = Bounded::new(socket, allowance.clone());
    let greeting = MultiplexedConnection::new_with_config(&info, stream, config);
    let (connection, driver) = tokio::time::timeout(SILENCE, greeting)
        .await
        .map_err(|_| Greeting::Failed(Failure::Timeout("greeting", SILENCE)))??;
    let driver = tokio::spawn(driver);
    let mut link = Link { connection, allowance, driver, peer, freshness: Freshness::PollOnly };
    if resp3 && link.tracks().await? {
        link.freshness = Freshness::Tracking;
    }
    Ok(link)
}

/// How a handshake can fail.
#[derive(Debug)]
pub(super) enum Greeting {
    /// The store does not speak RESP3.
    OldProtocol,
    /// It cannot be used.
    Failed(Failure),
}

impl From<RedisError> for Greeting {
    fn from(error: RedisError) -> Self {
        // NOPROTO is said by stores that know HELLO, but only the older protocol; a bare ERR by those that do not know it.
        let old = error.kind() == ErrorKind::RESP3NotSupported || matches!(error.code(), Some("NOPROTO" | "ERR"));
        if old { Self::OldProtocol } else { Self::Failed(error.into()) }
    }
}

impl From<Failure> for Greeting {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Link {
    /// Asks to be told of changes; `false`: the store or our user's rights do not allow it.
    async fn tracks(&mut self) -> Result<bool, Failure> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("CLIENT").arg("TRACKING").arg("ON");
        let answers = self.ask(&pipeline).await?;
        Ok(matches!(answers.first(), Some(Value::Okay)))
    }

    /// Sends commands at once and waits for as many answers; an error of a command is an answer.
    pub(super) async fn ask(&mut self, commands: &Pipeline) -> Result<Vec<Value>, Failure> {
        self.allowance.renew(ANSWER_BYTES);
        let allowance = self.allowance.clone();
        let asked = self.connection.send_packed_commands(commands, 0, commands.len());
        let answers = while_it_moves(asked, &allowance).await?;
        if answers.len() == commands.len() { Ok(answers) } else { Err(Failure::Garbage("answers are missing")) }
    }

    /// Sends one command; its error is an error.
    pub(super) async fn command(&mut self, command: Cmd) -> Result<Value, Failure> {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.add_command(command);
        match self.ask(&pipeline).await?.pop() {
            Some(Value::ServerError(error)) => Err(Failure::of_reply(&error)),
            Some(value) => Ok(value),
            None => Err(Failure::Garbage("an answer is missing")),
        }
    }
}

/// Waits for an answer as long as its bytes keep coming.
async fn while_it_moves(
    asked: impl Future<Output = Result<Vec<Value>, RedisError>>,
    allowance: &Allowance,
) -> Result<Vec<Value>, Failure> {
    let begun = Instant::now();
    let (mut moved, mut left) = (begun, allowance.left());
    tokio::pin!(asked);
    loop {
        if let Ok(answer) = tokio::time::timeout(GLANCE, &mut asked).await {
            return answer.map_err(Failure::from);
        }
        if allowance.left() != left {
            (moved, left) = (Instant::now(), allowance.left());
        }
        if moved.elapsed() >= SILENCE {
            return Err(Failure::Timeout("answer", SILENCE));
        }
        if begun.elapsed() >= ANSWER {
            return Err(Failure::Timeout("complete answer", ANSWER));
        }
    }
}
