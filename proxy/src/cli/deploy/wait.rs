//! Follows a deployment to its end. The admin API may be away meanwhile, as when the proxy is restarted: the deployment
//! is in its journal and goes on.

use std::time::Duration;

use bytes::Bytes;
use tidegate_admin::dto::StatusView;
use tokio::time::{Instant, sleep, timeout};

use super::meter::Meter;
use crate::cli::{args::WaitArgs, client::Call, error::CliError, session::Session};

/// Time between two looks, once it takes longer than a moment.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the admin API may be away: longer than a restart, and short enough for a pipeline to hear of it.
const AWAY: Duration = Duration::from_secs(60);

/// What the verb wants the deployment to end with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Success.
    Success,
    /// That everything is taken back.
    Rollback,
}

impl Wish {
    /// The exit code: 0 as wished, else 1 rolled back, 2 failed, 3 paused; `None`: it is not over.
    pub(super) fn code(self, status: &StatusView) -> Option<u8> {
        match (self, status.state.as_str(), status.exit_code) {
            // One that never began has nothing to be taken back.
            (Self::Rollback, "rolled-back" | "cancelled", Some(_)) => Some(0),
            (_, _, code) => code,
        }
    }
}

/// Follows a deployment until it is over or paused: the exit code, and the API's last answer.
pub(super) async fn follow(session: &Session, id: &str, wish: Wish, args: &WaitArgs) -> Result<(u8, Bytes), CliError> {
    let mut meter = Meter::new(session.format);
    let followed = tokio::select! {
        followed = until_over(session, id, wish, args.wait_timeout, &mut meter) => followed,
        _ = tokio::signal::ctrl_c() => Err(unsettled(id, "it is not followed any more and goes on".into())),
    };
    meter.done();
    followed
}

async fn until_over(
    session: &Session,
    id: &str,
    wish: Wish,
    patience: Option<Duration>,
    meter: &mut Meter,
) -> Result<(u8, Bytes), CliError> {
    let call = Call::get(format!("/api/deployments/{id}/status"));
    let begun = Instant::now();
    let mut last_seen = begun;
    loop {
        let left = patience.map_or(Duration::MAX, |patience| patience.saturating_sub(begun.elapsed()));
        match timeout(left, session.client.send(&call)).await {
            Err(_) => {}
            Ok(Ok(answer)) => {
                let status: StatusView = session.client.decode(&answer)?;
                meter.show(&status);
                if let Some(code) = wish.code(&status) {
                    return Ok((code, answer));
                }
                last_seen = Instant::now();
            }
            Ok(Err(error)) if !error.is_passing() => return Err(error),
            Ok(Err(error)) if last_seen.elapsed() > AWAY => {
                return Err(unsettled(id, format!("nothing is known of it since {} s: {error}", AWAY.as_secs())));
            }
            Ok(Err(error)) => meter.say(&format!("{error}; looking again")),
        }
        if let Some(patience) = patience.filter(|patience| begun.elapsed() >= *patience) {
            return Err(unsettled(id, format!("it is not over after {} s and goes on", patience.as_secs())));
        }
        // Many deployments take but a moment, and some take days.
        let pause = (begun.elapsed() / 4 + Duration::from_millis(20)).min(PAUSE);
        sleep(patience.map_or(pause, |patience| pause.min(patience.saturating_sub(begun.elapsed())))).await;
    }
}

fn unsettled(id: &str, why: String) -> CliError {
    CliError::Unsettled { id: id.to_owned(), why }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::cli::{args::GlobalArgs, client::tests::ok};

    fn status(state: &str, code: Option<u8>) -> Value {
        json!({"id": "dep-1", "status": "in_progress", "state": state, "progress": 40, "details": "step 1 of 2: verify",
            "created_at": "2026-11-03T09:15:00.250Z", "updated_at": "2026-11-03T09:15:00.250Z", "completed": false,
            "successful": false, "exit_code": code, "labels": {}})
    }

    /// What a server does with one connection.
    enum Turn {
        Answer(String),
        Close,
    }

    /// A session with a server that takes these turns, and repeats the last one.
    async fn session(turns: Vec<Turn>) -> Session {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            for n in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Turn::Answer(text) = &turns[n.min(turns.len() - 1)] else { continue };
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await.unwrap();
                stream.write_all(text.as_bytes()).await.unwrap();
            }
        });
        Session::new(&GlobalArgs { server: Some(server), token: None, json: true }).unwrap()
    }

    fn answer(state: &str, code: Option<u8>) -> Turn {
        Turn::Answer(ok(&status(state, code).to_string()))
    }

    fn args(wait_timeout: Option<Duration>) -> WaitArgs {
        WaitArgs { wait: true, wait_timeout }
    }

    #[tokio::test]
    async fn a_deployment_is_followed_over_a_restart_to_its_end() {
        let starting = r#"{"title":"t","status":503,"detail":"starting"}"#;
        let starting =
            format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\n\r\n{starting}", starting.len());
        let turns = vec![
            answer("running", None),
            Turn::Close,
            Turn::Answer(starting),
            answer("running", None),
            answer("succeeded", Some(0)),
        ];
        let (code, last) = follow(&session(turns).await, "dep-1", Wish::Success, &args(None)).await.unwrap();
        assert_eq!(code, 0);
        assert!(String::from_utf8_lossy(&last).contains("\"succeeded\""));
    }

    #[tokio::test]
    async fn a_deployment_that_is_gone_is_not_waited_for() {
        let body = r#"{"title":"t","status":404,"detail":"there is no deployment dep-1"}"#;
        let gone = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let error = follow(&session(vec![Turn::Answer(gone)]).await, "dep-1", Wish::Success, &args(None)).await;
        assert_eq!(error.unwrap_err().code(), 1);
    }

    #[tokio::test]
    async fn a_wait_that_ends_too_early_has_an_exit_code_of_its_own() {
        let session = session(vec![answer("running", None)]).await;
        let error = follow(&session, "dep-1", Wish::Success, &args(Some(Duration::from_millis(60)))).await.unwrap_err();
        assert_eq!(error.code(), 4);
        assert!(error.to_string().contains("tidegate deployment status dep-1 --wait"), "{error}");
    }

    #[test]
    fn each_end_has_its_exit_code() {
        for (state, code, success, rollback) in [
            ("succeeded", Some(0), Some(0), Some(0)),
            ("rolled-back", Some(1), Some(1), Some(0)),
            ("failed", Some(2), Some(2), Some(2)),
            ("cancelled", Some(2), Some(2), Some(0)),
            ("paused", Some(3), Some(3), Some(3)),
            ("rolling-back", None, None, None),
        ] {
            let status = serde_json::from_value(status(state, code)).unwrap();
            assert_eq!((Wish::Success.code(&status), Wish::Rollback.code(&status)), (success, rollback), "{state}");
        }
    }
}
