//! Events: a list for those who poll, a stream for those who follow.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Extension, Json,
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream::{self, Stream};
use http::HeaderMap;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, watch};
use utoipa::IntoParams;

use super::{
    App,
    submit::{etag, wants_stream},
};
use crate::{
    dto::{EventLine, Gap, Numbered, event::GapType},
    events::{KEPT, Page},
    input::Params,
    openapi::{LastEventId, Refusals},
    problem::{Kind, Problem, ProblemPart},
    serve::Stopping,
};

/// Comments that keep a stream's connection open, and tell whether it still is.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Events that are taken from the log at a time.
const PAGE: usize = 64;

/// Greatest number of an event that can be asked for: 18 digits, a thousand times the microseconds since 1970.
const MAX_SEQ: u64 = 999_999_999_999_999_999;

/// Most digits of the number of an event.
const MAX_DIGITS: usize = 18;

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EventParams {
    /// Only events after this number; 0: all that are kept. Absent: the newest ones, or in a stream those to come.
    #[param(required = false, value_type = u64, maximum = 999999999999999999_i64)]
    after: Option<u64>,
    /// Most events of a list.
    #[serde(default = "hundred")]
    #[param(minimum = 1, maximum = 1024, default = 100)]
    limit: usize,
}

fn hundred() -> usize {
    100
}

/// Events, oldest first. With `Accept: text/event-stream` a stream that goes on, and that continues after
/// `Last-Event-ID`. A line of type `gap` says that events before the next line are no longer kept.
#[utoipa::path(
    get, path = "/api/events", tag = "events",
    params(EventParams, LastEventId),
    responses(
        (status = 200, body = Vec<EventLine>, headers(("ETag" = String, description = "The generation"))),
        (status = 503, body = Problem, content_type = "application/problem+json", description = "Too many followers"),
        Refusals
    )
)]
pub(super) async fn events(
    State(app): State<App>,
    stopping: Option<Extension<Stopping>>,
    Params(EventParams { after, limit }): Params<EventParams>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    if !(1..=KEPT).contains(&limit) {
        return Err(Problem::malformed(vec![ProblemPart::new("limit", format!("a limit is 1 to {KEPT}"))]));
    }
    let after = seen(&headers, after)?;
    if wants_stream(&headers) {
        return follow(&app, after, stopping.map(|Extension(stopping)| stopping));
    }
    let log = app.process.events();
    let page = match after {
        Some(after) => log.page(after, limit),
        None => Page { resumes_after: None, events: log.last(limit) },
    };
    let gap = page.resumes_after.map(|resumes_after| EventLine::Gap(gap(after.unwrap_or(0), resumes_after)));
    let events = page.events.iter().map(|event| EventLine::Event(Box::new(event.into())));
    let lines: Vec<EventLine> = gap.into_iter().chain(events).collect();
    Ok((etag(app.process.snapshot().generation), Json(lines)).into_response())
}

fn gap(after: u64, resumes_after: u64) -> Gap {
    Gap { kind: GapType::Gap, after, resumes_after }
}

/// What a client has seen: by its header, or else by its query.
pub(super) fn seen(headers: &HeaderMap, after: Option<u64>) -> Result<Option<u64>, Problem> {
    if after.is_some_and(|after| after > MAX_SEQ) {
        return Err(Problem::malformed(vec![ProblemPart::new("after", "this is not the number of an event")]));
    }
    Ok(last_event_id(headers)?.or(after))
}

/// What a client saw last. Browsers send it by themselves when they reconnect.
fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    match value.to_str().map(str::trim) {
        Ok(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && text.len() <= MAX_DIGITS => {
            text.parse().map(Some).map_err(|_| not_a_number())
        }
        Ok(_) | Err(_) => Err(not_a_number()),
    }
}

fn not_a_number() -> Problem {
    Problem::malformed(vec![ProblemPart::new("Last-Event-ID", "this is not the number of an event")])
}

fn follow(app: &App, after: Option<u64>, stopping: Option<Stopping>) -> Result<Response, Problem> {
    let process = Arc::clone(&app.process);
    let mut after = after.unwrap_or_else(|| *process.events().newest().borrow());
    stream(app, stopping, move || {
        let page = process.events().page(after, PAGE);
        let gap = page.resumes_after.map(|resumes_after| {
            let marker = sse(resumes_after, "gap", &gap(after, resumes_after));
            after = resumes_after;
            marker
        });
        if let Some(last) = page.events.last() {
            after = last.seq;
        }
        let events = page.events.iter().map(|event| {
            let numbered = Numbered::from(event);
            sse(numbered.seq, numbered.event.word(), &numbered)
        });
        Some(gap.into_iter().chain(events).collect())
    })
}

/// A stream of what `take` finds, which is asked again after every event of the process. It ends with `None`.
pub(super) fn stream(
    app: &App,
    stopping: Option<Stopping>,
    take: impl FnMut() -> Option<Vec<Event>> + Send + 'static,
) -> Result<Response, Problem> {
    let place = Arc::clone(&app.followers)
        .try_acquire_owned()
        .map_err(|_| Kind::Unavailable.because("too many clients follow the events: end some, or poll"))?;
    let newest = app.process.events().newest();
    let follower = Follower { newest, take: Box::new(take), waiting: Vec::new(), stopping, _place: place };
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("heartbeat");
    Ok(Sse::new(follower.stream()).keep_alive(keep_alive).into_response())
}

/// One client that follows: it holds a number, not a queue, so that a slow one costs nothing.
struct Follower {
    newest: watch::Receiver<u64>,
    /// Takes the next events, oldest first; none when there are none yet.
    take: Box<dyn FnMut() -> Option<Vec<Event>> + Send>,
    /// Taken and not sent yet, newest first.
    waiting: Vec<Event>,
    stopping: Option<Stopping>,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    fn stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            Some((Ok(event), follower))
        })
    }

    /// The next event; `None` when there will be none, or the process stops.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop() {
                return Some(event);
            }
            // Marked as seen before anything is taken: an event that comes meanwhile wakes the wait below.
            self.newest.borrow_and_update();
            self.waiting = (self.take)()?;
            self.waiting.reverse();
            if self.waiting.is_empty() {
                tokio::select! {
                    changed = self.newest.changed() => changed.ok()?,
                    () = stopped(self.stopping.as_mut()) => return None,
                }
            }
        }
    }
}

/// A message of a stream.
pub(super) fn sse(id: u64, kind: &str, data: &impl serde::Serialize) -> Event {
    Event::default().id(id.to_string()).event(kind).data(serde_json::to_string(data).unwrap_or_default())
}

/// Waits for the process to stop; forever, where nothing can tell.
async fn stopped(stopping: Option<&mut Stopping>) {
    match stopping {
        Some(stopping) => stopping.wait().await,
        None => std::future::pending().await,
    }
}
