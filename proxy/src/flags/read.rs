//! Reads from a store everything that concerns flags: a handful of commands whose cost does not depend on what else
//! the store holds, and whose answers are bounded whatever the values are.
//!
//! Values are fetched by `GETRANGE`, which cannot bring more than it is asked for, and beside an `EXISTS`, since an
//! absent value and an empty one look the same to it. Everything of one chunk is read in one transaction, together with
//! the marker: a store that is emptied between two chunks shows in the second.

use std::collections::{BTreeMap, BTreeSet};

use redis::{Pipeline, ServerError, ServerErrorKind, Value};
use tidegate_config::flags::MAX_VALUE;
use tidegate_core::flags::{
    Fields, Found,
    reading::{MAX_DOCUMENT, MAX_FLAGS},
};

use super::{failure::Failure, link::Link};

/// Keys that are read in one transaction: few enough not to keep other users of the store waiting (some milliseconds),
/// many enough that ten thousand flags take ten round trips.
const CHUNK: usize = 1000;
/// A hash up to this size is fetched whole; of a larger one, only the values that are not too long.
const SMALL_HASH: i64 = 256 * 1024;
/// Longest marker that is looked at.
const MAX_MARKER: usize = 128;
/// Longest name of a field that can be a flag; others are not asked for.
const MAX_FIELD: usize = 256;

/// What to read in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Keys whose values are flags.
    pub(super) keys: BTreeSet<String>,
    /// A hash whose fields are flags.
    pub(super) hash: Option<String>,
    /// A key whose value is a document of flags.
    pub(super) document: Option<String>,
    /// The key by which an emptied store is known.
    pub(super) marker: String,
}

/// What was found in a store.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FoundThere {
    /// Each wanted key.
    pub(super) keys: BTreeMap<String, Found>,
    /// The hash.
    pub(super) fields: Fields,
    /// The document.
    pub(super) document: Found,
    /// The marker, if it is there.
    pub(super) marker: Option<String>,
}

/// What a command in a chunk is for.
#[derive(Debug, Clone)]
enum Ask {
    Marker,
    Document(String),
    Key(String),
    Hash(String),
}

/// The commands of one transaction.
#[derive(Debug)]
struct Chunk {
    asks: Vec<Ask>,
    commands: Pipeline,
}

/// How the commands of a chunk are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Grouping {
    /// All at one moment.
    Transaction,
    /// One by one, for users who may not run some of them: a transaction would fail as a whole.
    Single,
}

/// Reads a store again and again in the same way.
#[derive(Debug)]
pub(super) struct Reader {
    wanted: Wanted,
    grouping: Grouping,
    chunks: Vec<Chunk>,
    hash: Option<Chunk>,
}

impl Reader {
    /// Prepares what is the same in each read.
    pub(super) fn new(wanted: &Wanted) -> Self {
        let mut reader =
            Self { wanted: wanted.clone(), grouping: Grouping::Transaction, chunks: Vec::new(), hash: None };
        reader.prepare(Grouping::Transaction);
        reader
    }

    fn prepare(&mut self, grouping: Grouping) {
        self.grouping = grouping;
        let wanted = &self.wanted;
        let document = wanted.document.iter().map(|key| Ask::Document(key.clone()));
        let all: Vec<Ask> = document.chain(wanted.keys.iter().map(|key| Ask::Key(key.clone()))).collect();
        let mut chunks: Vec<Chunk> =
            all.chunks(CHUNK).map(|asks| Chunk::new(asks.to_vec(), &wanted.marker, grouping)).collect();
        if chunks.is_empty() {
            chunks.push(Chunk::new(Vec::new(), &wanted.marker, grouping));
        }
        self.hash = wanted.hash.as_ref().map(|key| Chunk::new(vec![Ask::Hash(key.clone())], &wanted.marker, grouping));
        self.chunks = chunks;
    }

    /// Reads everything. The store must be a master.
    pub(super) async fn read(&mut self, link: &mut Link) -> Result<FoundThere, Failure> {
        match self.try_read(link).await {
            Err(Trouble::Transaction) => {
                tracing::warn!(
                    "the store refuses some of the reads: the others are made one by one, not in one moment"
                );
                self.prepare(Grouping::Single);
                self.try_read(link).await.map_err(|trouble| match trouble {
                    Trouble::Failed(failure) => failure,
                    Trouble::Transaction => Failure::Garbage("it aborts what was never begun"),
                })
            }
            Err(Trouble::Failed(failure)) => Err(failure),
            Ok(found) => Ok(found),
        }
    }

    async fn try_read(&self, link: &mut Link) -> Result<FoundThere, Trouble> {
        let mut found = FoundThere::default();
        let mut markers = Vec::with_capacity(self.chunks.len() + 1);
        if let Some(chunk) = &self.hash {
            found.fields = self.read_hash(chunk, link, &mut markers).await?;
        }
        for chunk in &self.chunks {
            for (ask, answer) in chunk.read(self.grouping, link).await? {
                match ask {
                    Ask::Marker => markers.push(marker_of(answer)?),
                    Ask::Document(_) => found.document = text_of(answer, MAX_DOCUMENT)?,
                    Ask::Key(key) => drop(found.keys.insert(key.clone(), text_of(answer, MAX_VALUE)?)),
                    Ask::Hash(_) => {}
                }
            }
        }
        // The store is whole only if it was whole all the time.
        let first = markers.first().cloned().flatten();
        found.marker = first.filter(|marker| markers.iter().all(|other| other.as_deref() == Some(marker)));
        Ok(found)
    }

    async fn read_hash(
        &self,
        chunk: &Chunk,
        link: &mut Link,
        markers: &mut Vec<Option<String>>,
    ) -> Result<Fields, Trouble> {
        let Some(Ask::Hash(key)) = chunk.asks.last() else { return Ok(Fields::default()) };
        match size_of(key, link).await? {
            Size::Refused(problem) => return Ok(Fields::Unreadable(problem)),
            Size::Large => return read_large(key, link).await,
            Size::Small => {}
        }
        let mut fields = Fields::default();
        for (ask, answer) in chunk.read(self.grouping, link).await? {
            match ask {
                Ask::Marker => markers.push(marker_of(answer)?),
                Ask::Hash(_) => fields = fields_of(answer)?,
                Ask::Document(_) | Ask::Key(_) => {}
            }
        }
        Ok(fields)
    }
}

impl Chunk {
    fn new(mut asks: Vec<Ask>, marker: &str, grouping: Grouping) -> Self {
        asks.insert(0, Ask::Marker);
        let mut commands = Pipeline::with_capacity(asks.len() * 2 + 3);
        // Not in the transaction: it tells who answers, and stores that do not know it are read all the same.
        commands.cmd("HELLO");
        if grouping == Grouping::Transaction {
            commands.cmd("MULTI");
        }
        for ask in &asks {
            match ask {
                Ask::Marker => ask_value(&mut commands, marker, MAX_MARKER),
                Ask::Document(key) => ask_value(&mut commands, key, MAX_DOCUMENT),
                Ask::Key(key) => ask_value(&mut commands, key, MAX_VALUE),
                Ask::Hash(key) => drop(commands.cmd("HGETALL").arg(key)),
            }
        }
        if grouping == Grouping::Transaction {
            commands.cmd("EXEC");
        }
        Self { asks, commands }
    }

    async fn read(&self, grouping: Grouping, link: &mut Link) -> Result<Vec<(&Ask, Answer)>, Trouble> {
        let mut answers = link.ask(&self.commands).await?.into_iter();
        check_master(answers.next())?;
        let answers = match grouping {
            Grouping::Single => answers,
            Grouping::Transaction => match answers.next_back() {
                Some(Value::Array(values)) => values.into_iter(),
                Some(Value::ServerError(error)) if error.kind() == Some(ServerErrorKind::ExecAbort) => {
                    return Err(why_aborted(answers));
                }
                Some(Value::ServerError(error)) => return Err(Failure::of_reply(&error).into()),
                _ => return Err(Failure::Garbage("a transaction gave no list").into()),
            },
        };
        let mut answers = answers;
        let mut next = || answers.next().ok_or(Failure::Garbage("a transaction gave too little"));
        self.asks
            .iter()
            .map(|ask| {
                let answer = match ask {
                    Ask::Hash(_) => Answer { value: next()?, exists: Value::Int(1) },
                    Ask::Marker | Ask::Document(_) | Ask::Key(_) => Answer { value: next()?, exists: next()? },
                };
                Ok((ask, answer))
            })
            .collect()
    }
}

fn ask_value(commands: &mut Pipeline, key: &str, most: usize) {
    // One byte more than a value may have tells that it is too long.
    commands.cmd("GETRANGE").arg(key).arg(0).arg(most);
    commands.cmd("EXISTS").arg(key);
}

/// Why a read did not end.
#[derive(Debug)]
enum Trouble {
    /// The store cannot be used.
    Failed(Failure),
    /// It refused a command, and so the whole transaction.
    Transaction,
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

fn why_aborted(mut answers: impl Iterator<Item = Value>) -> Trouble {
    let first = answers.find_map(|answer| match answer {
        Value::ServerError(error) => Some(error),
        _ => None,
    });
    match first.as_ref().map(concerns_one) {
        Some(Ok(_)) | None => Trouble::Transaction,
        Some(Err(failure)) => Trouble::Failed(failure),
    }
}

/// What an error says of one value; an error, if it says that the whole store cannot be used.
fn concerns_one(error: &ServerError) -> Result<String, Failure> {
    match (error.code(), Failure::of_reply(error)) {
        ("WRONGTYPE", _) => Ok("it is not a string".into()),
        (_, Failure::Denied(_)) => Ok("the store's user may not read it".into()),
        (_, Failure::Refused(text)) => Ok(format!("the store says: {text}")),
        (_, failure) => Err(failure),
    }
}

/// What a store said of one value.
struct Answer {
    value: Value,
    exists: Value,
}

fn text_of(answer: Answer, most: usize) -> Result<Found, Failure> {
    match (answer.value, answer.exists) {
        (Value::ServerError(error), _) | (_, Value::ServerError(error)) => Ok(Found::Unreadable(concerns_one(&error)?)),
        (Value::BulkString(bytes), Value::Int(0)) if bytes.is_empty() => Ok(Found::Absent),
        (Value::BulkString(bytes), Value::Int(_)) if bytes.len() > most => {
            Ok(Found::Unreadable(format!("it has more than the {most} bytes that it may have")))
        }
        (Value::BulkString(bytes), Value::Int(_)) => Ok(Found::of_bytes(&bytes, most)),
        _ => Err(Failure::Garbage("a value is no string")),
    }
}

fn marker_of(answer: Answer) -> Result<Option<String>, Failure> {
    match text_of(answer, MAX_MARKER)? {
        Found::Text(text) => Ok(Some(text.to_string())),
        // A marker of another type or length was not made by us, but it shows all the same that the store is whole.
        Found::Unreadable(_) => Ok(Some("?".into())),
        Found::Absent => Ok(None),
    }
}

fn fields_of(answer: Answer) -> Result<Fields, Failure> {
    let pairs = match answer.value {
        Value::Map(pairs) => pairs,
        Value::Array(values) => pairs_of(values),
        Value::ServerError(error) if error.code() == "WRONGTYPE" => {
            return Ok(Fields::Unreadable("it is not a hash".into()));
        }
        Value::ServerError(error) => return Ok(Fields::Unreadable(concerns_one(&error)?)),
        _ => return Err(Failure::Garbage("a hash is no map")),
    };
    let field = |(name, value)| match (name, value) {
        (Value::BulkString(name), Value::BulkString(value)) => Some((name, Found::of_bytes(&value, MAX_VALUE))),
        _ => None,
    };
    let named = pairs.into_iter().filter_map(field);
    // What is not text can be no flag's name.
    Ok(Fields::Found(named.filter_map(|(name, found)| Some((String::from_utf8(name).ok()?, found))).collect()))
}

/// The pairs of a map as RESP2 writes it.
fn pairs_of(values: Vec<Value>) -> Vec<(Value, Value)> {
    let mut values = values.into_iter();
    std::iter::from_fn(|| Some((values.next()?, values.next()?))).collect()
}

/// How a hash is to be fetched. A field that grows between this question and the fetch is fetched once; the bound of an
/// answer holds all the same.
enum Size {
    /// At once.
    Small,
    /// In parts.
    Large,
    /// Not at all, and why.
    Refused(String),
}

async fn size_of(key: &str, link: &mut Link) -> Result<Size, Failure> {
    let mut commands = Pipeline::with_capacity(2);
    commands.cmd("HLEN").arg(key);
    // Every field is counted: a guess from samples would miss a single long one.
    commands.cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0);
    let mut answers = link.ask(&commands).await?.into_iter();
    let fields = match answers.next() {
        Some(Value::Int(fields)) => fields,
        Some(Value::ServerError(error)) if error.code() == "WRONGTYPE" => {
            return Ok(Size::Refused("it is not a hash".into()));
        }
        Some(Value::ServerError(error)) => return Ok(Size::Refused(concerns_one(&error)?)),
        _ => return Err(Failure::Garbage("a length is no number")),
    };
    if usize::try_from(fields).unwrap_or(usize::MAX) > MAX_FLAGS {
        return Ok(Size::Refused(format!("it has {fields} fields, and may have {MAX_FLAGS}")));
    }
    match answers.next() {
        Some(Value::Int(bytes)) if bytes <= SMALL_HASH => Ok(Size::Small),
        Some(Value::Nil) => Ok(Size::Small),
        // Not every store and user can tell the size.
        Some(Value::Int(_) | Value::ServerError(_)) if fields > 0 => Ok(Size::Large),
        _ => Ok(Size::Small),
    }
}

/// Reads a hash without what is too long in it.
async fn read_large(key: &str, link: &mut Link) -> Result<Fields, Trouble> {
    let mut command = redis::cmd("HKEYS");
    command.arg(key);
    let Value::Array(names) = link.command(command).await? else {
        return Err(Failure::Garbage("names of fields are no list").into());
    };
    let name = |name| match name {
        Value::BulkString(name) if name.len() <= MAX_FIELD => String::from_utf8(name).ok(),
        _ => None,
    };
    let names: Vec<String> = names.into_iter().filter_map(name).take(MAX_FLAGS).collect();
    let mut found = BTreeMap::new();
    for names in names.chunks(CHUNK) {
        read_fields(key, names, link, &mut found).await?;
    }
    Ok(Fields::Found(found))
}

async fn read_fields(
    key: &str,
    names: &[String],
    link: &mut Link,
    found: &mut BTreeMap<String, Found>,
) -> Result<(), Failure> {
    let mut commands = Pipeline::with_capacity(names.len());
    for name in names {
        commands.cmd("HSTRLEN").arg(key).arg(name);
    }
    let lengths = link.ask(&commands).await?;
    let mut fitting = Vec::with_capacity(names.len());
    for (name, length) in names.iter().zip(lengths) {
        let Value::Int(length) = length else { return Err(Failure::Garbage("a length is no number")) };
        match usize::try_from(length).unwrap_or(usize::MAX) {
            length if length > MAX_VALUE => drop(found.insert(name.clone(), Found::too_long(length, MAX_VALUE))),
            _ => fitting.push(name),
        }
    }
    if fitting.is_empty() {
        return Ok(());
    }
    let mut command = redis::cmd("HMGET");
    command.arg(key).arg(&fitting);
    let Value::Array(values) = link.command(command).await? else { return Err(Failure::Garbage("values are no list")) };
    for (name, value) in fitting.into_iter().zip(values) {
        if let Value::BulkString(value) = value {
            found.insert(name.clone(), Found::of_bytes(&value, MAX_VALUE));
        }
    }
    Ok(())
}

/// Checks that this store is in charge: one that was demoted goes on answering, with values that grow old.
fn check_master(greeting: Option<Value>) -> Result<(), Failure> {
    let pairs = match greeting {
        Some(Value::Map(pairs)) => pairs,
        Some(Value::Array(values)) => pairs_of(values),
        // Stores from before HELLO, and users who may not say it: the role stays unknown.
        Some(Value::ServerError(error)) => return concerns_one(&error).map(drop),
        _ => return Err(Failure::Garbage("a greeting is no map")),
    };
    for (name, value) in pairs {
        let (Some(name), Some(value)) = (word(&name), word(&value)) else { continue };
        match (name, value) {
            ("role", "master") => {}
            ("role", other) => {
                return Err(Failure::NotMaster(other.chars().filter(char::is_ascii_graphic).take(24).collect()));
            }
            ("mode", "sentinel") => return Err(Failure::NotMaster("sentinel".into())),
            _ => {}
        }
    }
    Ok(())
}

fn word(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
