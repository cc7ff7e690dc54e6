//! `tidegate events`: what happened, and with `--follow` what happens.
//!
//! A follower survives a restart of the proxy: it connects again and goes on after the last event that it showed.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tidegate_admin::dto::EventLine;
use tokio::time::timeout;

use crate::cli::{
    args::EventsArgs,
    client::Call,
    describe::describe,
    error::{CliError, Format},
    output::{self, Colours, Ink, printable},
    session::Session,
};

/// Time between two attempts to connect again.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);

/// Longest silence of a stream that still stands: the API sends a heartbeat every 15 s.
const SILENCE: Duration = Duration::from_secs(60);

/// Longest event that is taken: a longer one is not from an admin API.
const MAX_EVENT: usize = 1 << 20;

/// Runs the verb.
pub(crate) async fn run(session: &Session, args: &EventsArgs) -> Result<(), CliError> {
    if !args.follow {
        let after = args.after.map_or_else(String::new, |after| format!("&after={after}"));
        return session.show(&Call::get(format!("/api/events?limit={}{after}", args.limit)), list).await;
    }
    follow(session, "/api/events", args.after, line).await
}

/// How an event is told.
type Words = fn(&Value, Colours) -> String;

/// Follows a stream of events until Ctrl-C, or an error that trying again cannot mend.
pub(crate) async fn follow(session: &Session, path: &str, after: Option<u64>, words: Words) -> Result<(), CliError> {
    tokio::select! {
        ended = endlessly(session, path, after, words) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

async fn endlessly(session: &Session, path: &str, after: Option<u64>, words: Words) -> Result<(), CliError> {
    let mut last_seen = after;
    // The first connection must stand; later ones may take their time.
    let mut body = session.client.follow(path, last_seen).await?;
    loop {
        let broke = drain(session, &mut body, &mut last_seen, words).await?;
        output::note(&format!("{broke}; connecting again\n"));
        body = reopen(session, path, last_seen).await?;
    }
}

async fn reopen(session: &Session, path: &str, last_seen: Option<u64>) -> Result<Incoming, CliError> {
    loop {
        match session.client.follow(path, last_seen).await {
            Err(error) if error.is_passing() => tokio::time::sleep(RECONNECT_PAUSE).await,
            settled => return settled,
        }
    }
}

/// Shows events until the stream breaks, and says why it did.
async fn drain(
    session: &Session,
    body: &mut Incoming,
    last_seen: &mut Option<u64>,
    words: Words,
) -> Result<String, CliError> {
    let mut frames = Frames::default();
    loop {
        let data = match timeout(SILENCE, body.frame()).await {
            Err(_) => return Ok("the stream of events fell silent".into()),
            Ok(None) => return Ok("the stream of events ended".into()),
            Ok(Some(Err(error))) => return Ok(format!("the stream of events broke: {error}")),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        let events = frames.push(&data).map_err(|Overlong| session.client.interrupted("sent an endless event"))?;
        for text in events {
            let Ok(event) = serde_json::from_str::<Value>(&text) else { continue };
            // A gap has no number of its own, but says after which one events go on.
            let number = event.get("seq").or_else(|| event.get("resumes_after")).and_then(Value::as_u64);
            *last_seen = number.or(*last_seen);
            match session.format {
                Format::Json => output::result(&format!("{event}\n"))?,
                Format::Text => output::result(&words(&event, session.colours()))?,
            }
        }
    }
}

/// Cuts a stream of server-sent events into the data of each event.
#[derive(Debug, Default)]
struct Frames {
    pending: Vec<u8>,
    data: Vec<String>,
}

/// An event is longer than [`MAX_EVENT`].
#[derive(Debug, PartialEq, Eq)]
struct Overlong;

impl Frames {
    /// Takes the next bytes; the data of every event that they complete.
    fn push(&mut self, bytes: &Bytes) -> Result<Vec<String>, Overlong> {
        self.pending.extend_from_slice(bytes);
        let mut complete = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\n', '\r']);
            if line.is_empty() && !self.data.is_empty() {
                complete.push(std::mem::take(&mut self.data).join("\n"));
            } else if let Some(data) = line.strip_prefix("data:") {
                self.data.push(data.strip_prefix(' ').unwrap_or(data).to_owned());
            }
        }
        let held = self.pending.len() + self.data.iter().map(String::len).sum::<usize>();
        if held > MAX_EVENT { Err(Overlong) } else { Ok(complete) }
    }
}

/// Events in words, oldest first.
fn list(answer: &Value, colours: Colours) -> String {
    match answer.as_array().map(Vec::as_slice).unwrap_or_default() {
        [] => "no events\n".to_owned(),
        events => events.iter().map(|event| line(event, colours)).collect(),
    }
}

/// One event: when, its number, of which generation, by whom, what. Or that events are missing here.
fn line(value: &Value, colours: Colours) -> String {
    match serde_json::from_value::<EventLine>(value.clone()) {
        Ok(EventLine::Event(event)) => {
            let head = format!("{} #{} gen {} {}", event.at, event.seq, event.generation, event.actor);
            let (ink, text) = describe(&event.event);
            format!("{}  {}\n", Ink::Dim.paint(&printable(&head), colours), ink.paint(&text, colours))
        }
        Ok(EventLine::Gap(gap)) => {
            let text = format!("events after #{} up to #{} are not kept any more", gap.after, gap.resumes_after);
            format!("{}\n", Ink::Warn.paint(&text, colours))
        }
        // Of a newer server.
        Err(_) => format!("{}\n", printable(&value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_event_is_one_line() {
        let event = json!({"seq": 5, "at": "2026-11-03T09:15:00.250Z", "at_unix_ms": 0, "generation": 8, "actor": "ci",
            "type": "traffic.switched", "service": "web", "from": "green", "to": "blue"});
        assert_eq!(
            list(&json!([event]), Colours::Off),
            "2026-11-03T09:15:00.250Z #5 gen 8 ci  web: switched from green to blue\n"
        );
    }

    #[test]
    fn missing_events_are_said_to_be_missing() {
        let gap = json!({"type": "gap", "after": 5, "resumes_after": 9});
        assert_eq!(line(&gap, Colours::Off), "events after #5 up to #9 are not kept any more\n");
        assert_eq!(list(&json!([]), Colours::Off), "no events\n");
    }

    #[test]
    fn events_of_a_newer_server_are_shown_as_they_are() {
        assert_eq!(line(&json!({"type": "tide.high"}), Colours::Off), "{\"type\":\"tide.high\"}\n");
    }

    #[test]
    fn a_stream_is_cut_into_events_wherever_it_is_split() {
        let stream = b": hello\n\nid: 1\nevent: x\ndata: {\"a\":1}\n\ndata:one\r\ndata: two\r\n\r\ndata: cut";
        for at in 0..stream.len() {
            let (first, second) = stream.split_at(at);
            let mut frames = Frames::default();
            let mut events = frames.push(&Bytes::copy_from_slice(first)).unwrap();
            events.extend(frames.push(&Bytes::copy_from_slice(second)).unwrap());
            assert_eq!(events, ["{\"a\":1}", "one\ntwo"], "split at {at}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut frames = Frames::default();
        assert_eq!(frames.push(&Bytes::from(vec![b'x'; MAX_EVENT])), Ok(vec![]));
        assert_eq!(frames.push(&Bytes::from_static(b"x")), Err(Overlong));
    }
}
