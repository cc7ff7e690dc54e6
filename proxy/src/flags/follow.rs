//! Follows one store for as long as the process lives: connects, reads, waits for a change or a second, reads again.
//!
//! Polling is the truth: a change that the store tells of only makes the next read come sooner. Whatever happens to the
//! store, what was read last stays in force; this task only says what it finds.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use tidegate_config::RedisSource;
use tidegate_core::flags::Reading;
use tokio::sync::Notify;

use super::{
    failure::Failure,
    link::{Freshness, Link},
    marker::{self, Known, Verdict},
    place::Place,
    read::{FoundThere, Reader, Wanted},
    write::{self, Marking},
};

/// A write is often one of several: they are read together.
const DEBOUNCE: Duration = Duration::from_millis(5);
/// However many changes come, so much time passes between two reads if reading takes long.
const LONGEST_GAP: Duration = Duration::from_millis(250);
/// The first wait after a lost link; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
/// The longest wait after a lost link.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
/// Sentinels are asked at least so often: clients of an old master are not told of the new one.
const SENTINEL_POLL: Duration = Duration::from_millis(500);

/// What is told of a store.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Told {
    /// It was read, and something is different.
    Read(Arc<Reading>),
    /// It cannot be read.
    Down {
        /// Why, for people.
        reason: String,
    },
}

/// What was told last of a source, if it was taken. Held from the beginning of a read until that was told, so that nobody
/// tells what is older than what was told before.
pub(crate) type Turn = Arc<tokio::sync::Mutex<Option<Told>>>;

/// Whether what was told was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It counts from now on.
    Yes,
    /// Not now: tell it again.
    NotNow,
}

/// Who is told.
#[async_trait]
pub(crate) trait Listener: Send + Sync + 'static {
    /// Takes what was found.
    async fn tell(&self, told: Told) -> Taken;
    /// A read ended well, and what is different in it was told.
    fn note_read(&self);
    /// A link was opened.
    fn note_link(&self, freshness: Freshness);
    /// A read or a link failed.
    fn note_failure(&self, failure: &Failure);
    /// The store told of a change.
    fn note_wakeup(&self);
}

/// What follows a store, and what it has learned.
#[derive(Clone)]
pub(crate) struct Follower {
    /// Its name, for logs.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) source: RedisSource,
    /// What to read.
    pub(super) wanted: Wanted,
    /// How often.
    pub(crate) poll: Duration,
    /// What is known of the store; outlives a link.
    pub(crate) known: Arc<Mutex<Known>>,
    /// Makes the next read come at once.
    pub(crate) wake: Arc<Notify>,
    /// What was told last.
    pub(crate) told: Turn,
    /// Who is told.
    pub(crate) listener: Arc<dyn Listener>,
}

/// What a follower remembers from one link to the next.
struct Course {
    backoff: Backoff,
    /// What the log said last of the store's content.
    verdict: Option<Verdict>,
    freshness: Option<Freshness>,
}

impl Follower {
    /// Follows the store until the task is ended.
    pub(crate) async fn run(self) {
        let mut course = Course { backoff: Backoff::default(), verdict: None, freshness: None };
        let mut place = Place::new(&self.source);
        loop {
            let tried_at = Instant::now();
            let failure = self.follow(&mut place, &mut course).await;
            self.listener.note_failure(&failure);
            self.tell_failure(&failure, &mut course).await;
            // What an attempt took counts: a store that comes back is found within the longest wait.
            tokio::time::sleep(course.backoff.next().saturating_sub(tried_at.elapsed())).await;
        }
    }

    async fn tell_failure(&self, failure: &Failure, course: &mut Course) {
        let told = Told::Down { reason: failure.to_string() };
        let mut last = self.told.lock().await;
        // A store that moves is looked for at its new place before anybody is alarmed.
        let moves = matches!(failure, Failure::Moved(_)) && course.backoff.is_first();
        if moves || last.as_ref() == Some(&told) {
            tracing::debug!(source = %self.name, %failure, "the flag source is still away");
            return;
        }
        match *last {
            Some(Told::Down { .. }) => tracing::info!(source = %self.name, %failure, "the flag source is still away"),
            _ => {
                tracing::warn!(source = %self.name, %failure, "the flag source is away: its flags keep their last values")
            }
        }
        if self.listener.tell(told.clone()).await == Taken::Yes {
            *last = Some(told);
        }
    }

    /// One link from its beginning to its end.
    async fn follow(&self, place: &mut Place, course: &mut Course) -> Failure {
        let mut link = match place.open(Some(Arc::clone(&self.wake))).await {
            Ok(link) => link,
            Err(failure) => return failure,
        };
        self.listener.note_link(link.freshness);
        if course.freshness.replace(link.freshness) != Some(link.freshness) && link.freshness == Freshness::PollOnly {
            let poll = self.poll;
            tracing::info!(source = %self.name, ?poll, "the flag source does not tell of changes: it is polled");
        }
        let mut reader = Reader::new(&self.wanted);
        loop {
            let mut told = self.told.lock().await;
            let begun = Instant::now();
            let peer = link.peer;
            let (found, stayed) = tokio::join!(reader.read(&mut link), place.check(peer));
            match stayed.and(found) {
                Ok(found) => self.take(found, course, &mut told).await,
                Err(failure) => return failure,
            }
            self.listener.note_read();
            drop(told);
            course.backoff = Backoff::default();
            self.pause(begun.elapsed(), place, &link).await;
        }
    }

    async fn take(&self, found: FoundThere, course: &mut Course, last: &mut Option<Told>) {
        let verdict = self.known.lock().unwrap_or_else(PoisonError::into_inner).judge(&found);
        if course.verdict.replace(verdict) != Some(verdict) {
            self.act_on(verdict).await;
        }
        let reading = reading(found, verdict);
        if matches!(last, Some(Told::Read(last)) if **last == reading) {
            return;
        }
        let was_down = matches!(last, Some(Told::Down { .. }));
        let told = Told::Read(Arc::new(reading));
        *last = (self.listener.tell(told.clone()).await == Taken::Yes).then_some(told);
        if was_down {
            tracing::info!(source = %self.name, "the flag source is back");
        }
    }

    async fn act_on(&self, verdict: Verdict) {
        match verdict {
            Verdict::Whole => {}
            Verdict::Emptied => tracing::error!(
                source = %self.name, marker = %self.wanted.marker,
                "the flag source was emptied or replaced: flags that are missing there keep their last values until it is accepted or restored"
            ),
            Verdict::Unmarked => {
                if let Err(failure) = self.mark().await {
                    tracing::warn!(
                        source = %self.name, marker = %self.wanted.marker, %failure,
                        "the flag source could not be marked: should it be emptied, its flags fall back to their defaults"
                    );
                }
            }
        }
    }

    /// On a link of its own: the one that reads must see a write as it sees everybody else's.
    async fn mark(&self) -> Result<(), Failure> {
        let mut link = Place::new(&self.source).open(None).await?;
        let mark = write::mark(&self.wanted.marker, &marker::new_id(), Marking::First);
        write::run(&mut link, vec![mark]).await
    }

    /// Waits for the next read.
    async fn pause(&self, read_took: Duration, place: &Place, link: &Link) {
        let poll = if place.is_told_by_sentinels() { self.poll.min(SENTINEL_POLL) } else { self.poll };
        let woken = tokio::time::timeout(poll.mul_f64(rand::random_range(0.8..1.2)), self.wake.notified()).await;
        if woken.is_ok() {
            if link.freshness == Freshness::Tracking {
                self.listener.note_wakeup();
            }
            tokio::time::sleep((read_took * 2).clamp(DEBOUNCE, LONGEST_GAP)).await;
        }
    }
}

/// Reads a store once.
pub(super) async fn look(link: &mut Link, wanted: &Wanted, known: &Mutex<Known>) -> Result<Reading, Failure> {
    let found = Reader::new(wanted).read(link).await?;
    let verdict = known.lock().unwrap_or_else(PoisonError::into_inner).judge(&found);
    Ok(reading(found, verdict))
}

/// The id by which a store is known; one is made up for a store that was never marked.
pub(super) fn id_of(known: &Mutex<Known>) -> String {
    let marker = known.lock().unwrap_or_else(PoisonError::into_inner).marker.clone();
    marker.unwrap_or_else(marker::new_id)
}

fn reading(found: FoundThere, verdict: Verdict) -> Reading {
    let FoundThere { keys, fields, document, marker: _ } = found;
    Reading { keys, fields, document, marked: verdict == Verdict::Whole }
}

/// Waits that grow, each a little different so that many processes do not come at once.
#[derive(Debug, Default)]
struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Whether nothing has failed since it was new.
    fn is_first(&self) -> bool {
        self.failures == 0
    }

    fn next(&mut self) -> Duration {
        let longest = FIRST_BACKOFF.saturating_mul(1 << self.failures.min(10)).min(LONGEST_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        longest.mul_f64(rand::random_range(0.5..1.0))
    }
}
