//! The verbs about feature flags.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tidegate_admin::dto::flag::{FlagView, OriginView, SourceStatus, SourceView};
use tidegate_config::{FlagName, SourceId};

use crate::cli::{
    args::ChangeArgs,
    change::words,
    client::Call,
    error::CliError,
    output::{Colours, Ink, printable},
    session::{Ask, Session},
    table::{Cell, render},
};

/// Longest text of a value in a table.
const MAX_VALUE: usize = 40;

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum FlagCommand {
    /// List all flags: value, reason, where it comes from, how old it is
    List,
    /// Show a flag
    Get(FlagArgs),
    /// Set a flag where its values are read: the source, or the proxy itself
    ///
    /// A value is on, off, a percentage of visitors, a flagd flag as JSON, or what the flag's type says.
    /// Examples: tidegate flag set RECENT on; tidegate flag set RECENT 25%
    Set(FlagSetArgs),
    /// Remove the value of a flag where it is read: its default counts then
    Unset(FlagChangeArgs),
    /// Give a flag a value that wins for a while, also while its source cannot be reached
    ///
    /// Example: tidegate flag override RECENT off --ttl 10m
    Override(FlagOverrideArgs),
    /// End the override of a flag
    Clear(FlagChangeArgs),
    /// List the flag sources: whether they can be read, and how old their values are
    Sources,
    /// Take a source that was emptied as it is: flags that it does not have lose their values
    Accept(SourceArgs),
    /// Write the values that flags keep back into a source that was emptied
    Restore(SourceArgs),
}

/// Arguments of `flag get`.
#[derive(Debug, Args)]
pub(crate) struct FlagArgs {
    /// The flag.
    pub(crate) flag: FlagName,
}

/// Arguments of `flag set`.
#[derive(Debug, Args)]
pub(crate) struct FlagSetArgs {
    /// The flag.
    pub(crate) flag: FlagName,
    /// The value.
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `flag unset` and `flag clear`.
#[derive(Debug, Args)]
pub(crate) struct FlagChangeArgs {
    /// The flag.
    pub(crate) flag: FlagName,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `flag override`.
#[derive(Debug, Args)]
pub(crate) struct FlagOverrideArgs {
    /// The flag.
    pub(crate) flag: FlagName,
    /// The value.
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: String,
    /// How long it lasts, at most 30d.
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = ttl)]
    pub(crate) ttl: String,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

/// Arguments of `flag accept` and `flag restore`.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
    /// The source.
    pub(crate) source: SourceId,
    /// How it is changed.
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
}

fn ttl(text: &str) -> Result<String, String> {
    tidegate_config::parse_duration(text).map(|_| text.to_owned())
}

/// Runs `tidegate flag`.
pub(crate) async fn run(session: &Session, command: &FlagCommand) -> Result<(), CliError> {
    match command {
        FlagCommand::List => session.show(&Call::get("/api/flags"), list).await,
        FlagCommand::Get(args) => session.show(&Call::get(path(&args.flag)), details).await,
        FlagCommand::Set(args) => {
            let call = Call::put(path(&args.flag), json!({ "value": args.value }));
            made(session, call, "", Ask::Never, &args.change).await
        }
        FlagCommand::Unset(args) => {
            let what = format!("remove the value of flag {}", args.flag);
            made(session, Call::delete(path(&args.flag)), &what, Ask::First, &args.change).await
        }
        FlagCommand::Override(args) => {
            let call = Call::put(override_of(&args.flag), json!({ "value": args.value, "ttl": args.ttl }));
            made(session, call, "", Ask::Never, &args.change).await
        }
        FlagCommand::Clear(args) => {
            made(session, Call::delete(override_of(&args.flag)), "", Ask::Never, &args.change).await
        }
        FlagCommand::Sources => session.show(&Call::get("/api/flag-sources"), sources).await,
        FlagCommand::Accept(args) => {
            let what = format!("drop the values that {} does not have any more", args.source);
            let call = Call::post(format!("/api/flag-sources/{}/accept", args.source), json!({}));
            made(session, call, &what, Ask::First, &args.change).await
        }
        FlagCommand::Restore(args) => {
            let what = format!("write the values that are kept into {}", args.source);
            let call = Call::post(format!("/api/flag-sources/{}/restore", args.source), json!({}));
            made(session, call, &what, Ask::First, &args.change).await
        }
    }
}

async fn made(session: &Session, call: Call, what: &str, ask: Ask, args: &ChangeArgs) -> Result<(), CliError> {
    let answer = session.change(call, what, ask, args).await?;
    session.print(&answer, words)
}

fn path(flag: &FlagName) -> String {
    format!("/api/flags/{flag}")
}

fn override_of(flag: &FlagName) -> String {
    format!("/api/flags/{flag}/override")
}

/// All flags, and first what somebody must not overlook.
fn list(answer: &Value, colours: Colours) -> String {
    let Ok(flags) = serde_json::from_value::<Vec<FlagView>>(answer.clone()) else { return format!("{answer:#}\n") };
    if flags.is_empty() {
        return "there are no flags: declare one in [flags.flag.NAME]\n".to_owned();
    }
    let mut text = String::new();
    for flag in &flags {
        for (ink, note) in notes_on(flag) {
            text.push_str(&format!("{}\n", ink.paint(&printable(&format!("flag {} {note}", flag.name)), colours)));
        }
    }
    let head = ["FLAG", "VALUE", "REASON", "FROM", "SOURCE", "AGE"];
    let mut rows = vec![head.map(|title| Cell::text(title).ink(Ink::Dim)).to_vec()];
    rows.extend(flags.iter().map(row));
    text.push_str(&render(&rows, colours));
    text
}

fn row(flag: &FlagView) -> Vec<Cell> {
    let ink = match flag.origin {
        OriginView::Override => Ink::Bad,
        OriginView::Source | OriginView::Embedded => Ink::Plain,
        OriginView::Default => Ink::Dim,
    };
    let age = Cell::number(flag.age_seconds.map_or_else(String::new, |age| format!("{age:.1}s")));
    vec![
        Cell::text(printable(&flag.name)).ink(Ink::Strong),
        Cell::text(worth(flag)),
        Cell::text(printable(&flag.reason)),
        Cell::text(origin(flag.origin)).ink(ink),
        Cell::text(printable(&flag.source)),
        if flag.stale { age.ink(Ink::Warn) } else { age },
    ]
}

/// The value as it is written, cut if it is long.
fn worth(flag: &FlagView) -> String {
    let text = match (&flag.text, &flag.value) {
        (Some(text), _) => text.clone(),
        (None, Some(Value::Bool(on))) => if *on { "on" } else { "off" }.to_owned(),
        (None, Some(Value::String(text))) => text.clone(),
        (None, Some(value)) => value.to_string(),
        (None, None) => "-".to_owned(),
    };
    let text = printable(&text);
    match text.char_indices().nth(MAX_VALUE) {
        None => text,
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

fn origin(origin: OriginView) -> &'static str {
    match origin {
        OriginView::Override => "override",
        OriginView::Source => "source",
        OriginView::Embedded => "embedded",
        OriginView::Default => "default",
    }
}

fn notes_on(flag: &FlagView) -> Vec<(Ink, String)> {
    let mut notes = Vec::new();
    if let Some(over) = &flag.over {
        notes.push((Ink::Bad, format!("is OVERRIDDEN until {}: {}", over.until, worth(flag))));
    }
    if flag.kept {
        notes.push((Ink::Bad, format!("is kept, because source {} was emptied", flag.source)));
    }
    if let Some(why) = &flag.invalid {
        notes.push((Ink::Bad, format!("keeps its value, because what {} has cannot be used: {why}", flag.source)));
    }
    notes
}

/// A flag, field by field.
fn details(answer: &Value, colours: Colours) -> String {
    let Ok(flag) = serde_json::from_value::<FlagView>(answer.clone()) else { return format!("{answer:#}\n") };
    let kind = answer.get("type").and_then(Value::as_str).unwrap_or("not declared");
    let mut lines = format!("{} {}\n", Ink::Strong.paint(&printable(&flag.name), colours), worth(&flag));
    let age = flag.age_seconds.map_or_else(String::new, |age| format!(", read {age:.1} s ago"));
    let stale = if flag.stale { ", STALE" } else { "" };
    let since = flag.since.as_deref().map_or_else(String::new, |since| format!(" since {since}"));
    for (name, value) in [
        ("type", kind.to_owned()),
        ("reason", flag.reason.clone()),
        ("from", format!("{}{since}", origin(flag.origin))),
        ("source", format!("{}{age}{stale}", flag.source)),
    ] {
        lines.push_str(&format!("  {name:<8}{}\n", printable(&value)));
    }
    for (ink, note) in notes_on(&flag) {
        lines.push_str(&format!("  {}\n", ink.paint(&printable(&note), colours)));
    }
    lines
}

/// The sources.
fn sources(answer: &Value, colours: Colours) -> String {
    let Ok(sources) = serde_json::from_value::<Vec<SourceView>>(answer.clone()) else { return format!("{answer:#}\n") };
    if sources.is_empty() {
        return "there is no flag source: flags have their values in the proxy\n".to_owned();
    }
    let head = ["SOURCE", "STATUS", "AGE", "FLAGS", "ADDRESS", ""];
    let mut rows = vec![head.map(|title| Cell::text(title).ink(Ink::Dim)).to_vec()];
    for source in &sources {
        let (status, ink) = match source.status {
            _ if source.emptied => ("emptied", Ink::Bad),
            SourceStatus::Up => ("up", Ink::Good),
            SourceStatus::Waiting => ("waiting", Ink::Warn),
            SourceStatus::Down => ("down", Ink::Bad),
        };
        rows.push(vec![
            Cell::text(printable(&source.name)).ink(Ink::Strong),
            Cell::text(status).ink(ink),
            Cell::number(source.age_seconds.map_or_else(|| "-".to_owned(), |age| format!("{age:.1}s"))),
            Cell::number(source.flags.to_string()),
            Cell::text(printable(&source.address)),
            Cell::text(printable(source.reason.as_deref().unwrap_or_default())),
        ]);
    }
    let mut text = render(&rows, colours);
    for fault in sources.iter().flat_map(|source| &source.faults) {
        text.push_str(&format!("  {}\n", Ink::Warn.paint(&printable(fault), colours)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flag(change: Value) -> Value {
        let mut flag = json!({
            "name": "RECENT", "type": "boolean", "value": true, "text": "ON", "variant": "on", "reason": "STATIC",
            "origin": "source", "source": "main", "since": null, "age_seconds": 0.44, "stale": false, "kept": false,
            "override": null, "invalid": null
        });
        if let (Value::Object(flag), Value::Object(change)) = (&mut flag, change) {
            flag.extend(change);
        }
        flag
    }

    #[test]
    fn flags_are_listed_with_what_must_not_be_overlooked_first() {
        let flags = json!([
            flag(json!({})),
            flag(json!({ "name": "color", "text": null, "value": "blue", "reason": "DEFAULT", "origin": "default" })),
            flag(json!({
                "name": "kill", "text": "off", "value": false, "origin": "override", "invalid": "what\u{1b}",
                "override": { "until": "2026-11-03T09:25:00.250Z", "until_unix_ms": 1 }
            })),
            flag(json!({ "name": "long", "text": "x".repeat(50), "value": null, "kept": true })),
        ]);
        let expected = format!(
            "flag kill is OVERRIDDEN until 2026-11-03T09:25:00.250Z: off\n\
             flag kill keeps its value, because what main has cannot be used: what\u{fffd}\n\
             flag long is kept, because source main was emptied\n\
             FLAG    VALUE                                        REASON   FROM      SOURCE  AGE\n\
             RECENT  ON                                           STATIC   source    main    0.4s\n\
             color   blue                                         DEFAULT  default   main    0.4s\n\
             kill    off                                          STATIC   override  main    0.4s\n\
             long    {}...  STATIC   source    main    0.4s\n",
            "x".repeat(40)
        );
        assert_eq!(list(&flags, Colours::Off), expected);
        assert_eq!(list(&json!([]), Colours::Off), "there are no flags: declare one in [flags.flag.NAME]\n");
    }

    #[test]
    fn a_flag_is_shown_field_by_field() {
        let shown = details(&flag(json!({ "stale": true, "since": "2026-11-03T09:25:00.250Z" })), Colours::Off);
        let expected = "RECENT ON\n  type    boolean\n  reason  STATIC\n  from    source since 2026-11-03T09:25:00.250Z\n  \
                        source  main, read 0.4 s ago, STALE\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn sources_are_listed() {
        let source = json!([{
            "name": "main", "address": "redis://127.0.0.1:6379/0", "status": "down", "reason": "connection refused",
            "since": null, "age_seconds": null, "stale": true, "emptied": false, "flags": 2, "faults": ["the hash: x"]
        }]);
        let expected = "SOURCE  STATUS  AGE  FLAGS  ADDRESS\n\
                        main    down      -      2  redis://127.0.0.1:6379/0  connection refused\n  the hash: x\n";
        assert_eq!(sources(&source, Colours::Off), expected);
    }
}
