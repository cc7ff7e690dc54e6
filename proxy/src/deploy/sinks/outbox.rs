//! What a sink is still to be told, on the disk: a file of lines, each with its number, and the number of the last one
//! that was told.
//!
//! An event is here before it is sent and its number is noted after, so that a restart in between tells it again rather
//! than never. Told lines are cut away when they are most of the file. How far the sink has heard of each deployment
//! outlasts them, so that a restart knows what never came here.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidegate_core::deploy::cloudevent::CloudEvent;

/// Told bytes that may stay in a file before it is rewritten.
const SLACK: u64 = 1 << 20;
/// Deployments of which it is known how far the sink has heard: far more than change at the same time.
const MAX_HEARD: usize = 10_000;
/// Longest line: a little more than an event with the output of a command, whose characters may all be escaped.
const MAX_LINE: u64 = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Line<E> {
    seq: u64,
    event: E,
}

/// What tells an event from others.
#[derive(Deserialize)]
struct Name {
    id: String,
    #[serde(default)]
    shkeptncontext: Option<String>,
}

/// How far a sink has heard: of each deployment, the number of the last entry, and its events.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Heard(BTreeMap<String, (u64, BTreeSet<String>)>);

impl Heard {
    fn note(&mut self, id: &str, deployment: Option<&str>) {
        let Some(deployment) = deployment else { return };
        let Some(seq) = entry_of(id, deployment) else { return };
        let (last, events) = self.0.entry(deployment.to_owned()).or_default();
        if seq > *last {
            events.clear();
        }
        if seq >= *last {
            *last = seq;
            events.insert(id.to_owned());
        }
        while self.0.len() > MAX_HEARD {
            // Names of deployments are in the order of their creation.
            self.0.pop_first();
        }
    }

    /// Whether the sink never heard an event that it should have. Events come in their order, so of a deployment that is
    /// older than the last one, and unknown, everything was told long ago.
    fn lacks(&self, event: &CloudEvent) -> bool {
        let Some(deployment) = &event.shkeptncontext else { return false };
        let Some(seq) = entry_of(&event.id, deployment) else { return false };
        match (self.0.get(deployment), self.0.last_key_value()) {
            (Some((last, events)), _) => seq > *last || seq == *last && !events.contains(&event.id),
            (None, Some((newest, _))) => deployment > newest,
            (None, None) => false,
        }
    }
}

/// The number of the entry in a deployment's history that an event is made of.
fn entry_of(id: &str, deployment: &str) -> Option<u64> {
    id.strip_prefix(deployment)?.strip_prefix('.')?.split('.').next()?.parse().ok()
}

/// The events that wait for one sink, in their order.
#[derive(Debug)]
pub(super) struct Outbox {
    path: PathBuf,
    cursor: PathBuf,
    file: File,
    heard_path: PathBuf,
    heard: Heard,
    /// Held as long as this process tells the sink.
    _lock: File,
    /// The end of the last whole line.
    len: u64,
    /// Where the first line that waits begins.
    head: u64,
    /// How many wait.
    waiting: u64,
    next_seq: u64,
    /// The number of the last one that was passed.
    passed: u64,
}

/// An event that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waiting {
    /// The event as JSON.
    pub(super) json: Box<str>,
    seq: u64,
    bytes: u64,
}

impl Outbox {
    /// Opens the file of a sink, or makes it. What an earlier life did not finish writing is cut off. The error is
    /// [`io::ErrorKind::WouldBlock`] while another process has it.
    pub(super) fn open(dir: &Path, name: &str) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(format!("{name}.lock")))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
        let path = dir.join(format!("{name}.jsonl"));
        let cursor = dir.join(format!("{name}.told"));
        let heard_path = dir.join(format!("{name}.heard"));
        // Without it, what the lines themselves say has to do.
        let heard = fs::read(&heard_path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        // A note that cannot be read means that everything is told again.
        let told = fs::read_to_string(&cursor).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let mut outbox = Self {
            path,
            cursor,
            file,
            heard_path,
            heard,
            _lock: lock,
            len: 0,
            head: 0,
            waiting: 0,
            next_seq: told + 1,
            passed: told,
        };
        outbox.find_head(told)?;
        outbox.file.set_len(outbox.len)?;
        Ok(outbox)
    }

    fn find_head(&mut self, told: u64) -> io::Result<()> {
        let mut lines = BufReader::new(&self.file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
            if read == 0 || line.last() != Some(&b'\n') {
                return Ok(());
            }
            self.len += read as u64;
            match serde_json::from_slice::<Line<&RawValue>>(&line) {
                Ok(Line { seq, event }) => {
                    if let Ok(Name { id, shkeptncontext }) = serde_json::from_str(event.get()) {
                        self.heard.note(&id, shkeptncontext.as_deref());
                    }
                    self.next_seq = self.next_seq.max(seq + 1);
                    if seq > told {
                        self.waiting += 1;
                    }
                }
                // It is passed over when its turn comes.
                Err(_) if self.waiting > 0 => self.waiting += 1,
                Err(_) => {}
            }
            if self.waiting == 0 {
                self.head = self.len;
            }
        }
    }

    /// How many events wait.
    pub(super) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Writes events down behind those that wait. When it fails, none of them is there.
    pub(super) fn push(&mut self, events: &[&CloudEvent]) -> io::Result<()> {
        let mut text = Vec::new();
        for (event, seq) in events.iter().zip(self.next_seq..) {
            serde_json::to_writer(&mut text, &Line { seq, event })?;
            text.push(b'\n');
        }
        self.file.seek(SeekFrom::Start(self.len))?;
        if let Err(error) = self.file.write_all(&text).and_then(|()| self.file.sync_data()) {
            // Half a line would take the next one with it.
            self.file.set_len(self.len)?;
            return Err(error);
        }
        for event in events {
            self.heard.note(&event.id, event.shkeptncontext.as_deref());
        }
        let count = events.len() as u64;
        self.len += text.len() as u64;
        self.waiting += count;
        self.next_seq += count;
        Ok(())
    }

    /// Whether an event never came here that should have.
    pub(super) fn lacks(&self, event: &CloudEvent) -> bool {
        self.heard.lacks(event)
    }

    /// The event that waits longest. `Err(Unreadable)` names one that is to be passed over.
    pub(super) fn first(&self) -> io::Result<Option<Result<Waiting, Unreadable>>> {
        if self.waiting == 0 {
            return Ok(None);
        }
        let mut line = Vec::new();
        let mut at = self.head;
        let mut chunk = [0; 4096];
        while !line.contains(&b'\n') && (line.len() as u64) < MAX_LINE {
            let read = self.file.read_at(&mut chunk, at)?;
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
            }
            line.extend_from_slice(chunk.get(..read).unwrap_or_default());
            at += read as u64;
        }
        line.truncate(line.iter().position(|byte| *byte == b'\n').map_or(line.len(), |at| at + 1));
        let bytes = line.len() as u64;
        Ok(Some(match serde_json::from_slice::<Line<&RawValue>>(&line) {
            Ok(Line { seq, event }) => Ok(Waiting { json: event.get().into(), seq, bytes }),
            Err(_) => Err(Unreadable { bytes }),
        }))
    }

    /// Notes that an event was told, or is not to be told any more. Twice is once.
    pub(super) fn pass(&mut self, event: &Waiting) -> io::Result<()> {
        if event.seq <= self.passed {
            return Ok(());
        }
        self.passed = event.seq;
        self.skip(event.bytes);
        let next = self.cursor.with_extension("told.new");
        fs::write(&next, format!("{}\n", event.seq))?;
        fs::rename(&next, &self.cursor)?;
        self.tidy()
    }

    /// Passes over a line that nobody can read.
    pub(super) fn pass_unreadable(&mut self, line: &Unreadable) -> io::Result<()> {
        self.skip(line.bytes);
        self.tidy()
    }

    fn skip(&mut self, bytes: u64) {
        self.head = (self.head + bytes).min(self.len);
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// Cuts told lines away, when they are most of the file.
    fn tidy(&mut self) -> io::Result<()> {
        let left = self.len - self.head;
        if self.head < SLACK || self.head < left {
            return Ok(());
        }
        let heard = self.heard_path.with_extension("heard.new");
        fs::write(&heard, serde_json::to_vec(&self.heard)?)?;
        fs::rename(&heard, &self.heard_path)?;
        let next = self.path.with_extension("jsonl.new");
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(&next)?;
        self.file.seek(SeekFrom::Start(self.head))?;
        io::copy(&mut (&self.file).take(left), &mut file)?;
        file.sync_data()?;
        fs::rename(&next, &self.path)?;
        (self.file, self.head, self.len) = (file, 0, left);
        Ok(())
    }
}

/// A line that is no event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unreadable {
    bytes: u64,
}

#[cfg(test)]
mod tests {
    use super::{super::tests::event, *};

    fn told(outbox: &mut Outbox) -> Option<String> {
        let event = outbox.first().unwrap()?.unwrap();
        let json: serde_json::Value = serde_json::from_str(&event.json).unwrap();
        outbox.pass(&event).unwrap();
        Some(json["id"].as_str().unwrap().to_owned())
    }

    #[test]
    fn events_wait_in_their_order_over_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        outbox.push(&[&event("1"), &event("2")]).unwrap();
        outbox.push(&[&event("3")]).unwrap();
        assert_eq!(told(&mut outbox).as_deref(), Some("1"));
        drop(outbox);
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        assert_eq!(outbox.waiting(), 2);
        outbox.push(&[&event("4")]).unwrap();
        for id in ["2", "3", "4"] {
            assert_eq!(told(&mut outbox).as_deref(), Some(id));
        }
        assert_eq!((told(&mut outbox), outbox.waiting()), (None, 0));
        drop(outbox);
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        assert_eq!(told(&mut outbox), None, "what was told is not told again");
    }

    #[test]
    fn half_a_line_is_cut_off_and_a_broken_one_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        outbox.push(&[&event("1")]).unwrap();
        drop(outbox);
        let path = dir.path().join("a.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}garbage\n{}{{\"seq\":9", text.replace("\"seq\":1", "\"seq\":2"))).unwrap();
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        assert_eq!(outbox.waiting(), 3);
        assert_eq!(told(&mut outbox).as_deref(), Some("1"));
        let Some(Err(line)) = outbox.first().unwrap() else { panic!("garbage is no event") };
        outbox.pass_unreadable(&line).unwrap();
        outbox.push(&[&event("3")]).unwrap();
        assert_eq!(told(&mut outbox).as_deref(), Some("1"));
        assert_eq!(told(&mut outbox).as_deref(), Some("3"));
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn a_file_does_not_keep_what_was_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        let mut large = event("x");
        large.data = "x".repeat(100_000).into();
        for n in 0..100 {
            outbox.push(&[&large, &event(&n.to_string())]).unwrap();
            assert_eq!(told(&mut outbox).as_deref(), Some("x"));
            assert_eq!(told(&mut outbox), Some(n.to_string()));
        }
        let size = fs::metadata(dir.path().join("a.jsonl")).unwrap().len();
        assert!(size < 2 * SLACK, "{size}");
        outbox.push(&[&event("last")]).unwrap();
        drop(outbox);
        assert_eq!(told(&mut Outbox::open(dir.path(), "a").unwrap()).as_deref(), Some("last"));
    }

    fn entry(deployment: &str, seq: u64, name: &str) -> CloudEvent {
        let mut event = event(&format!("{deployment}.{seq}.{name}"));
        event.shkeptncontext = Some(deployment.to_owned());
        event
    }

    #[test]
    fn what_never_came_here_is_known_over_restarts_and_when_lines_are_cut_away() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        assert!(!outbox.lacks(&entry("dep-2", 1, "x")), "a new sink is told nothing of the past");
        let mut large = entry("dep-2", 3, "x");
        large.data = "x".repeat(600_000).into();
        outbox.push(&[&entry("dep-2", 2, "x"), &large]).unwrap();
        for cut in [false, true] {
            if cut {
                // Longer than what may stay: told lines go.
                let mut other = entry("dep-1", 7, "x");
                other.data = "x".repeat(600_000).into();
                outbox.push(&[&other]).unwrap();
                while told(&mut outbox).is_some() {}
                assert_eq!(fs::metadata(dir.path().join("a.jsonl")).unwrap().len(), 0);
            }
            drop(outbox);
            outbox = Outbox::open(dir.path(), "a").unwrap();
            let lacks = |deployment: &str, seq: u64, name: &str| outbox.lacks(&entry(deployment, seq, name));
            assert!(!lacks("dep-2", 2, "x") && !lacks("dep-2", 2, "y") && !lacks("dep-2", 3, "x"), "cut: {cut}");
            assert!(lacks("dep-2", 3, "y"), "half of an entry");
            assert!(lacks("dep-2", 4, "x") && lacks("dep-3", 0, "x"), "what came after");
            assert!(!lacks("dep-0", 9, "x"), "a deployment of long ago");
        }
    }

    #[test]
    fn a_note_that_is_lost_tells_again_rather_than_never() {
        let dir = tempfile::tempdir().unwrap();
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        outbox.push(&[&event("1"), &event("2")]).unwrap();
        told(&mut outbox);
        drop(outbox);
        fs::remove_file(dir.path().join("a.told")).unwrap();
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        assert_eq!(told(&mut outbox).as_deref(), Some("1"));
        // A file that is lost does not make new events look told.
        drop(outbox);
        fs::remove_file(dir.path().join("a.jsonl")).unwrap();
        let mut outbox = Outbox::open(dir.path(), "a").unwrap();
        outbox.push(&[&event("new")]).unwrap();
        drop(outbox);
        assert_eq!(told(&mut Outbox::open(dir.path(), "a").unwrap()).as_deref(), Some("new"));
    }
}
