//! Flags change: by what their sources say, by operators, and by time.

use std::{collections::BTreeSet, time::Duration};

use tidegate_config::{FlagName, SourceId};

use super::{Applied, ChangeError, Draft};
use crate::{
    event::Event,
    flags::{
        FlagState, Override, SourceReport, Standing,
        state::{MAX_OVERRIDES, MAX_TTL},
        table::{Flag, FlagTable},
    },
    state::{Moment, State},
};

/// Flags that are told one by one in one change.
const TOLD: usize = 100;

/// Longest text of a value in an event.
const MAX_SHOWN: usize = 200;

/// Notes what became of a source.
pub(super) fn readings(state: &State, id: &SourceId, report: &SourceReport, now: Moment) -> Applied {
    let Some(before) = state.flags.sources.get(id) else { return Draft::default().finish(state) };
    // Most of what is read has been read before.
    if let SourceReport::Read(reading) = report
        && before.has_read(reading)
    {
        return Draft::default().finish(state);
    }
    let spec = &state.flags.spec;
    let next = match report {
        SourceReport::Read(reading) => before.read(id, spec, reading, now.unix_ms),
        SourceReport::Down { reason } => before.down(reason, now.unix_ms),
        SourceReport::Remembered(memory) => before.remembering(id, spec, memory, now.unix_ms),
    };
    let mut events = Vec::new();
    match (&before.standing, &next.standing) {
        (Standing::Up, Standing::Up) | (_, Standing::Waiting) | (Standing::Down { .. }, Standing::Down { .. }) => {}
        (_, Standing::Up) => events.push(Event::SourceUp { source: id.clone() }),
        (_, Standing::Down { reason, .. }) => {
            events.push(Event::SourceDown { source: id.clone(), reason: reason.clone() });
        }
    }
    if next.emptied && !before.emptied {
        events.push(Event::SourceEmptied { source: id.clone() });
    }
    let reason = match report {
        SourceReport::Read(_) | SourceReport::Down { .. } => "the source has another value",
        SourceReport::Remembered(_) => "it is remembered from before the start",
    };
    let mut flags = FlagState::clone(&state.flags);
    flags.sources.insert(id.clone(), next);
    events.extend(what_happened(&state.flags, &flags, reason));
    Draft { flags: Some(flags), events, ..Draft::default() }.finish(state)
}

/// What became of flags from one state to the next.
pub(super) fn what_happened(before: &FlagState, after: &FlagState, reason: &str) -> Vec<Event> {
    let (old, new) = (FlagTable::new(before, None), FlagTable::new(after, None));
    let names: BTreeSet<&FlagName> = old.iter().chain(new.iter()).map(|flag| &flag.name).collect();
    let mut events = Vec::new();
    let mut more = 0;
    for name in names {
        let (old, new) = (old.get(name), new.get(name));
        let mut told = Vec::new();
        if worth(old.map(|flag| &**flag)) != worth(new.map(|flag| &**flag)) {
            told.push(changed(name, old.map(|flag| &**flag), new.map(|flag| &**flag), reason));
        }
        let fault = new.and_then(|flag| flag.fault.clone());
        if let (Some(fault), Some(flag)) = (&fault, new)
            && old.and_then(|flag| flag.fault.clone()) != Some(fault.clone())
        {
            let (flag, source) = (name.clone(), flag.source.to_string());
            told.push(Event::FlagInvalid { flag, source, reason: shortened(fault) });
        }
        if events.len() < TOLD { events.append(&mut told) } else { more += usize::from(!told.is_empty()) }
    }
    if more > 0 {
        events.push(Event::MoreFlagsChanged { count: more });
    }
    events
}

/// What a flag has, as people write it.
fn worth(flag: Option<&Flag>) -> Option<String> {
    let flag = flag?;
    match &flag.text {
        Some(text) => Some(text.to_string()),
        None => flag.default.as_ref().map(|default| default.value.to_string()),
    }
}

fn changed(name: &FlagName, old: Option<&Flag>, new: Option<&Flag>, reason: &str) -> Event {
    Event::FlagChanged {
        flag: name.clone(),
        from: worth(old).as_deref().map(shortened),
        to: worth(new).as_deref().map(shortened),
        source: new.or(old).map_or_else(String::new, |flag| flag.source.to_string()),
        reason: reason.into(),
    }
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
    }
}

/// Refuses a flag that is not there.
pub(super) fn must_be_known(state: &State, flag: Option<&FlagName>, path: &str) -> Result<(), ChangeError> {
    match flag {
        Some(flag) if state.flags.source_of(flag).is_none() => {
            Err(ChangeError::invalid(path, format!("there is no flag {flag}: declare it in [flags.flag.{flag}]")))
        }
        _ => Ok(()),
    }
}

/// Sets a value in the process.
pub(super) fn set(state: &State, flag: &FlagName, value: &str, now: Moment) -> Result<Applied, ChangeError> {
    must_be_embedded(state, flag)?;
    let good = state.flags.compile(flag, value).map_err(|why| ChangeError::invalid("value", why))?;
    let mut flags = FlagState::clone(&state.flags);
    if flags.values.get(flag).and_then(|slot| slot.good.as_ref()) == Some(&good) {
        return Ok(Draft::default().finish(state));
    }
    flags.values.insert(flag.clone(), crate::flags::Slot::of(good, now.unix_ms));
    Ok(finish(state, flags, "an operator set it"))
}

/// Removes a value in the process.
pub(super) fn unset(state: &State, flag: &FlagName) -> Result<Applied, ChangeError> {
    must_be_embedded(state, flag)?;
    let mut flags = FlagState::clone(&state.flags);
    flags.values.remove(flag);
    Ok(finish(state, flags, "an operator removed its value"))
}

fn must_be_embedded(state: &State, flag: &FlagName) -> Result<(), ChangeError> {
    let source = state.flags.source_of(flag).ok_or_else(|| ChangeError::UnknownFlag(flag.clone()))?;
    match source.named() {
        None => Ok(()),
        Some(source) => Err(ChangeError::Conflict(format!("the values of flag {flag} are in source {source}"))),
    }
}

/// Gives a flag a value that wins for a while.
pub(super) fn put_override(
    state: &State,
    flag: &FlagName,
    value: &str,
    ttl: Duration,
    now: Moment,
) -> Result<Applied, ChangeError> {
    if state.flags.source_of(flag).is_none() {
        return Err(ChangeError::UnknownFlag(flag.clone()));
    }
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(ChangeError::invalid("ttl", "an override lasts longer than nothing, and at most 30 days"));
    }
    if state.flags.overrides.len() >= MAX_OVERRIDES && !state.flags.overrides.contains_key(flag) {
        return Err(ChangeError::Conflict(format!("{MAX_OVERRIDES} flags are overridden: end an override first")));
    }
    let good = state.flags.compile(flag, value).map_err(|why| ChangeError::invalid("value", why))?;
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let until_unix_ms = now.unix_ms.saturating_add(ttl_ms);
    let mut flags = FlagState::clone(&state.flags);
    let value = shortened(&good.text);
    flags.overrides.insert(flag.clone(), Override { good, until_unix_ms, since_unix_ms: now.unix_ms });
    let mut events = vec![Event::FlagOverridden { flag: flag.clone(), value, until_unix_ms }];
    events.extend(what_happened(&state.flags, &flags, "an operator overrides it"));
    Ok(Draft { flags: Some(flags), events, ..Draft::default() }.finish(state))
}

/// Ends an override.
pub(super) fn clear_override(state: &State, flag: &FlagName) -> Result<Applied, ChangeError> {
    if state.flags.source_of(flag).is_none() {
        return Err(ChangeError::UnknownFlag(flag.clone()));
    }
    let mut flags = FlagState::clone(&state.flags);
    if flags.overrides.remove(flag).is_none() {
        return Ok(Draft::default().finish(state));
    }
    let mut events = vec![Event::FlagOverrideEnded { flag: flag.clone(), reason: "an operator ended it".into() }];
    events.extend(what_happened(&state.flags, &flags, "its override ended"));
    Ok(Draft { flags: Some(flags), events, ..Draft::default() }.finish(state))
}

/// Ends the overrides whose time is over, if there are any.
pub(super) fn end_overrides(before: &FlagState, now: Moment) -> Option<(FlagState, Vec<Event>)> {
    let over = |over: &Override| over.until_unix_ms <= now.unix_ms;
    let ended: Vec<_> =
        before.overrides.iter().filter(|(_, value)| over(value)).map(|(name, _)| name.clone()).collect();
    if ended.is_empty() {
        return None;
    }
    let mut flags = before.clone();
    flags.overrides.retain(|_, value| !over(value));
    let told = |flag| Event::FlagOverrideEnded { flag, reason: "its time is over".into() };
    let mut events: Vec<_> = ended.into_iter().map(told).collect();
    events.extend(what_happened(before, &flags, "its override ended"));
    Some((flags, events))
}

fn finish(state: &State, flags: FlagState, reason: &str) -> Applied {
    let events = what_happened(&state.flags, &flags, reason);
    Draft { flags: Some(flags), events, ..Draft::default() }.finish(state)
}
