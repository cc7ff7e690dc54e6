//! Flags: show, set and override them; and accept or restore a source that was emptied.

use axum::{Extension, extract::State};
use tidegate_config::{FlagName, FlagSource, SourceId, SourceSpec};
use tidegate_core::{
    Change, Event, Snapshot,
    flags::{Definition, Flag, state::Place},
};

use super::{
    App,
    submit::{Of, change, check_fresh, reply},
};
use crate::{
    access::Caller,
    dto::{
        ChangeReply,
        change::Nothing,
        flag::{FlagInput, FlagView, OverrideInput, SourceView, text_of},
    },
    input::{ChangeParams, Conditions, InFlag, InSource, Input, NoParams, OptionalInput, Params},
    openapi::{BodyRefusals, ChangeRefusals, FlagPath, IfMatch, NotFound, Refusals, SourcePath},
    problem::{Kind, Problem, ProblemPart},
    process::{Actor, FlagPlace, FlagWriteError, FlagWrites, Outcome},
};

/// All flags.
#[utoipa::path(
    get, path = "/api/flags", tag = "flags", operation_id = "list_flags",
    responses((status = 200, body = Vec<FlagView>, headers(("ETag" = String, description = "The generation"))), Refusals)
)]
pub(super) async fn list(State(app): State<App>, Params(NoParams {}): Params<NoParams>) -> Of<Vec<FlagView>> {
    let (snapshot, now) = (app.process.snapshot(), app.process.now());
    let (table, spec) = (&snapshot.flags, &snapshot.state.flags.spec);
    Of(snapshot.generation, table.iter().map(|flag| FlagView::new(flag, table, spec, now)).collect())
}

/// A flag.
#[utoipa::path(
    get, path = "/api/flags/{flag}", tag = "flags", operation_id = "show_flag", params(FlagPath),
    responses(
        (status = 200, body = FlagView, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound
    )
)]
pub(super) async fn show(
    State(app): State<App>,
    InFlag(name): InFlag,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Of<FlagView>, Problem> {
    let (snapshot, now) = (app.process.snapshot(), app.process.now());
    let flag = find(&snapshot, &name)?;
    let view = FlagView::new(flag, &snapshot.flags, &snapshot.state.flags.spec, now);
    Ok(Of(snapshot.generation, view))
}

/// Set a flag where its values are read.
#[utoipa::path(
    put, path = "/api/flags/{flag}", tag = "flags", operation_id = "set_flag",
    params(FlagPath, ChangeParams, IfMatch), request_body = FlagInput,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn set(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InFlag(name): InFlag,
    conditions: Conditions,
    Input(FlagInput { value }): Input<FlagInput>,
) -> Result<Of<ChangeReply>, Problem> {
    let snapshot = app.process.snapshot();
    let flag = find(&snapshot, &name)?;
    let text = text_of(&value, flag.kind).map_err(|part| Problem::invalid(vec![part]))?;
    match &flag.source {
        FlagSource::Embedded => change(&app, caller, &conditions, Change::SetFlag { flag: name, value: text }).await,
        FlagSource::Named(source) => {
            Definition::compile(flag.kind, &text)
                .map_err(|why| Problem::invalid(vec![ProblemPart::new("value", why)]))?;
            let writes = FlagWrites {
                actor: Actor(caller.name),
                values: vec![(place(&snapshot, flag, source)?, Some(text))],
                mark: false,
            };
            write(&app, &snapshot, source, &conditions, writes).await
        }
    }
}

/// Remove the value of a flag where it is read: what counts below it counts then.
#[utoipa::path(
    delete, path = "/api/flags/{flag}", tag = "flags", operation_id = "unset_flag",
    params(FlagPath, ChangeParams, IfMatch),
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, ChangeRefusals
    )
)]
pub(super) async fn unset(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InFlag(name): InFlag,
    conditions: Conditions,
) -> Result<Of<ChangeReply>, Problem> {
    let snapshot = app.process.snapshot();
    let flag = find(&snapshot, &name)?;
    match &flag.source {
        FlagSource::Embedded => change(&app, caller, &conditions, Change::UnsetFlag { flag: name }).await,
        FlagSource::Named(source) => {
            let values = vec![(place(&snapshot, flag, source)?, None)];
            let writes = FlagWrites { actor: Actor(caller.name), values, mark: false };
            write(&app, &snapshot, source, &conditions, writes).await
        }
    }
}

/// Give a flag a value that wins over its source for a while, also while the source cannot be reached.
#[utoipa::path(
    put, path = "/api/flags/{flag}/override", tag = "flags", operation_id = "override_flag",
    params(FlagPath, ChangeParams, IfMatch), request_body = OverrideInput,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn put_override(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InFlag(name): InFlag,
    conditions: Conditions,
    Input(input): Input<OverrideInput>,
) -> Result<Of<ChangeReply>, Problem> {
    let kind = find(&app.process.snapshot(), &name)?.kind;
    let (text, ttl) = (text_of(&input.value, kind), input.ttl());
    match (text, ttl) {
        (Ok(value), Ok(ttl)) => {
            change(&app, caller, &conditions, Change::OverrideFlag { flag: name, value, ttl }).await
        }
        (text, ttl) => Err(Problem::invalid(text.err().into_iter().chain(ttl.err()).collect())),
    }
}

/// End the override of a flag.
#[utoipa::path(
    delete, path = "/api/flags/{flag}/override", tag = "flags", operation_id = "clear_override",
    params(FlagPath, ChangeParams, IfMatch),
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, ChangeRefusals
    )
)]
pub(super) async fn clear_override(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InFlag(name): InFlag,
    conditions: Conditions,
) -> Result<Of<ChangeReply>, Problem> {
    change(&app, caller, &conditions, Change::ClearOverride { flag: name }).await
}

/// Where flags are read outside of the process.
#[utoipa::path(
    get, path = "/api/flag-sources", tag = "flags", operation_id = "list_flag_sources",
    responses(
        (status = 200, body = Vec<SourceView>, headers(("ETag" = String, description = "The generation"))),
        Refusals
    )
)]
pub(super) async fn sources(State(app): State<App>, Params(NoParams {}): Params<NoParams>) -> Of<Vec<SourceView>> {
    let (snapshot, now) = (app.process.snapshot(), app.process.now());
    let views = snapshot.flags.sources().map(|source| SourceView::new(source, &snapshot.state.flags, now));
    Of(snapshot.generation, views.collect())
}

/// Accept a source that was emptied as it is: flags that it does not have lose their values.
#[utoipa::path(
    post, path = "/api/flag-sources/{source}/accept", tag = "flags", operation_id = "accept_flag_source",
    params(SourcePath, ChangeParams, IfMatch), request_body = Option<Nothing>,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn accept(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InSource(source): InSource,
    conditions: Conditions,
    OptionalInput(Nothing {}): OptionalInput<Nothing>,
) -> Result<Of<ChangeReply>, Problem> {
    let snapshot = app.process.snapshot();
    must_be_emptied(&snapshot, &source)?;
    let writes = FlagWrites { actor: Actor(caller.name), values: Vec::new(), mark: true };
    write(&app, &snapshot, &source, &conditions, writes).await
}

/// Restore a source that was emptied: the values that flags keep are written back into it.
#[utoipa::path(
    post, path = "/api/flag-sources/{source}/restore", tag = "flags", operation_id = "restore_flag_source",
    params(SourcePath, ChangeParams, IfMatch), request_body = Option<Nothing>,
    responses(
        (status = 200, body = ChangeReply, headers(("ETag" = String, description = "The generation"))),
        Refusals, NotFound, BodyRefusals, ChangeRefusals
    )
)]
pub(super) async fn restore(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    InSource(source): InSource,
    conditions: Conditions,
    OptionalInput(Nothing {}): OptionalInput<Nothing>,
) -> Result<Of<ChangeReply>, Problem> {
    let snapshot = app.process.snapshot();
    must_be_emptied(&snapshot, &source)?;
    let kept = snapshot.flags.iter().filter(|flag| flag.source.named() == Some(&source));
    let values = kept.filter_map(|flag| {
        let slot = snapshot.state.flags.sources.get(&source)?.slots.get(&flag.name)?;
        let text = slot.good.as_ref().filter(|_| slot.kept)?.text.to_string();
        Some((place(&snapshot, flag, &source).ok()?, Some(text)))
    });
    let writes = FlagWrites { actor: Actor(caller.name), values: values.collect(), mark: true };
    write(&app, &snapshot, &source, &conditions, writes).await
}

fn find<'a>(snapshot: &'a Snapshot, name: &FlagName) -> Result<&'a Flag, Problem> {
    let flag = snapshot.flags.get(name).map(|flag| &**flag);
    flag.ok_or_else(|| Kind::NotFound.because(format!("there is no flag {name}")))
}

fn must_be_emptied(snapshot: &Snapshot, source: &SourceId) -> Result<(), Problem> {
    match snapshot.flags.source(source) {
        Some(found) if found.emptied => Ok(()),
        Some(_) => Err(Kind::Conflict.because(format!("source {source} was not emptied: there is nothing to settle"))),
        None => Err(Kind::NotFound.because(format!("there is no flag source {source}"))),
    }
}

/// Where a flag is written.
fn place(snapshot: &Snapshot, flag: &Flag, source: &SourceId) -> Result<FlagPlace, Problem> {
    let state = &snapshot.state.flags;
    let conflict = |why: String| Err(Kind::Conflict.because(why));
    if let Some(SourceSpec::File(path)) = state.spec.sources.get(source) {
        return conflict(format!("flag {} is in the file {}: edit it there", flag.name, path.display()));
    }
    let found = state.sources.get(source).and_then(|known| known.slots.get(&flag.name)).map(|slot| slot.place);
    match (found, state.spec.declared.get(&flag.name)) {
        (Some(Place::Field), _) => Ok(FlagPlace::Field(flag.name.to_string())),
        (_, Some(spec)) => Ok(FlagPlace::Key(spec.key.clone())),
        (Some(Place::Document), None) => {
            conflict(format!("flag {} is in the document of source {source}: edit it there", flag.name))
        }
        (Some(Place::Key | Place::Memory) | None, None) => Ok(FlagPlace::Field(flag.name.to_string())),
    }
}

/// Writes into a source, and says what became of it.
async fn write(
    app: &App,
    snapshot: &Snapshot,
    source: &SourceId,
    conditions: &Conditions,
    writes: FlagWrites,
) -> Result<Of<ChangeReply>, Problem> {
    check_fresh(snapshot, conditions)?;
    if conditions.dry_run {
        let events = writes.values.iter().filter_map(|(place, to)| would_be(snapshot, source, place, to.as_deref()));
        let outcome = Outcome { generation: snapshot.generation, events: events.collect(), saved: true };
        return Ok(Of(outcome.generation, reply(&outcome, conditions)));
    }
    let outcome = app.process.write_flags(source, writes).await?;
    Ok(Of(outcome.generation, reply(&outcome, conditions)))
}

/// What writing to a place would tell.
fn would_be(snapshot: &Snapshot, source: &SourceId, place: &FlagPlace, to: Option<&str>) -> Option<Event> {
    let state = &snapshot.state.flags;
    let here = |flag: &&std::sync::Arc<Flag>| match place {
        FlagPlace::Key(key) => {
            flag.source.named() == Some(source)
                && state.spec.declared.get(&flag.name).is_some_and(|spec| spec.key == *key)
        }
        FlagPlace::Field(field) => flag.name.as_str() == field,
    };
    let flag = snapshot.flags.iter().find(here)?;
    let slot = state.sources.get(source).and_then(|known| known.slots.get(&flag.name));
    let from = slot.and_then(|slot| slot.good.as_ref()).map(|good| good.text.to_string());
    (from.as_deref() != to).then(|| Event::FlagChanged {
        flag: flag.name.clone(),
        from,
        to: to.map(str::to_owned),
        source: source.to_string(),
        reason: "an operator sets it".into(),
    })
}

impl From<FlagWriteError> for Problem {
    fn from(error: FlagWriteError) -> Self {
        match error {
            FlagWriteError::ReadOnly(_) | FlagWriteError::Refused(_) => Kind::Conflict.because(error.to_string()),
            FlagWriteError::Unreachable(_) => Kind::Unavailable.because(error.to_string()),
            FlagWriteError::Submit(error) => error.into(),
        }
    }
}
