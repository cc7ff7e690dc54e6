//! The file or the saved state? A three-way merge, field by field.
//!
//! A field that was edited in the file since it was last loaded: the file wins. Every other field keeps its saved
//! value. What comes out is always consistent: where a kept value does not fit the rest, the file's value takes its
//! place. Every difference between the two is told, so that nobody wonders why the file does not say what runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use tidegate_config::{FlagName, MirrorSpec, ServiceId, ServiceSpec, Split, TargetId, TargetSpec};

use crate::{change::MAX_MIRRORS, state::Wanted};

/// A field where the file and the saved state differ, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// Where; `None`: in what belongs to no service.
    pub service: Option<ServiceId>,
    /// The field: `split`, `target blue`; empty: the service as a whole.
    pub field: String,
    /// What is taken, and what the other says.
    pub message: String,
}

impl Difference {
    /// A difference about a service as a whole.
    pub(crate) fn of_service(service: &ServiceId, message: &str) -> Self {
        Self { service: Some(service.clone()), field: String::new(), message: message.into() }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.service {
            Some(service) if self.field.is_empty() => write!(f, "service {service} {}", self.message),
            Some(service) => write!(f, "service {service}: {} {}", self.field, self.message),
            None => write!(f, "{} {}", self.field, self.message),
        }
    }
}

/// Merges what is saved of a service with what the file now declares. `base` is what the file declared when it was last
/// loaded.
pub(crate) fn merge(id: &ServiceId, spec: &ServiceSpec, base: &Wanted, saved: &Wanted) -> (Wanted, Vec<Difference>) {
    let file = Wanted::declared(spec);
    let mut notes = Notes { service: Some(id), found: Vec::new() };
    let mut wanted = Wanted {
        stable: notes.three_way("stable", &base.stable, &file.stable, &saved.stable, TargetId::to_string),
        split: notes.three_way("split", &base.split, &file.split, &saved.split, split_text),
        targets: notes.three_way_map("target", &base.targets, &file.targets, &saved.targets, target_text),
        mirrors: notes.three_way_map("mirror", &base.mirrors, &file.mirrors, &saved.mirrors, mirror_text),
        // The file cannot say these.
        drained: saved.drained.clone(),
        salt: saved.salt.clone(),
        hold: saved.hold,
    };
    reconcile(&mut wanted, &file, spec, &mut notes);
    let split_is_new = file.split != base.split;
    wanted.drained.retain(|target| {
        wanted.targets.contains_key(target)
            && wanted.stable != *target
            && !(split_is_new && wanted.split.iter().any(|(named, _)| named == target))
    });
    (wanted, notes.found)
}

/// Makes a merged result consistent: everything that is named exists.
fn reconcile(wanted: &mut Wanted, file: &Wanted, spec: &ServiceSpec, notes: &mut Notes<'_>) {
    if !wanted.targets.contains_key(&wanted.stable) && wanted.stable != file.stable {
        notes.fall_back("stable", &file.stable, format!("{} is gone", wanted.stable));
        wanted.stable = file.stable.clone();
    }
    let gone =
        wanted.split.iter().map(|(target, _)| target).find(|target| !wanted.targets.contains_key(*target)).cloned();
    if let Some(gone) = gone.filter(|_| wanted.split != file.split) {
        notes.fall_back("split", split_text(&file.split), format!("{gone} is gone"));
        wanted.split = file.split.clone();
    }
    reconcile_mirrors(wanted, file, notes);

    let rules = spec.rules.iter().map(|rule| (&rule.to, "a rule points at it"));
    let failover = spec.failover.iter().map(|policy| (&policy.to, "the failover goes to it"));
    let stable = [(&wanted.stable, "it is stable")].into_iter();
    let split = wanted.split.iter().map(|(target, _)| (target, "the split names it"));
    let mirrors = wanted.mirrors.values().map(|mirror| (&mirror.to, "a mirror copies to it"));
    for (target, why) in rules.chain(failover).chain(stable).chain(split).chain(mirrors) {
        // Invariant: what the file names, it declares; everything else was taken care of above.
        let Some(declared) = file.targets.get(target) else { continue };
        if !wanted.targets.contains_key(target) {
            notes.fall_back(format!("target {target}"), target_text(declared), why.into());
            wanted.targets.insert(target.clone(), declared.clone());
        }
    }
}

fn reconcile_mirrors(wanted: &mut Wanted, file: &Wanted, notes: &mut Notes<'_>) {
    let mut mirrors = std::mem::take(&mut wanted.mirrors);
    for (mirror, spec) in &mut mirrors {
        let Some(declared) = file.mirrors.get(mirror).filter(|_| !wanted.targets.contains_key(&spec.to)) else {
            continue;
        };
        if spec != declared {
            notes.fall_back(format!("mirror {mirror}"), mirror_text(declared), format!("{} is gone", spec.to));
            *spec = declared.clone();
        }
    }
    let declared = mirrors.keys().filter(|mirror| file.mirrors.contains_key(*mirror)).count();
    let mut room = MAX_MIRRORS.saturating_sub(declared);
    mirrors.retain(|mirror, spec| {
        if file.mirrors.contains_key(mirror) {
            return true;
        }
        if !wanted.targets.contains_key(&spec.to) {
            notes.push(format!("mirror {mirror}"), format!("is removed, because {} is gone", spec.to));
            return false;
        }
        if room == 0 {
            notes.push(format!("mirror {mirror}"), format!("is removed, because there are more than {MAX_MIRRORS}"));
            return false;
        }
        room -= 1;
        true
    });
    wanted.mirrors = mirrors;
}

/// Merges values of flags in the process: those that the file has, had when it was last loaded (`base`), and saved ones.
pub(crate) fn merge_values(
    base: &BTreeMap<FlagName, String>,
    file: &BTreeMap<FlagName, String>,
    saved: &BTreeMap<FlagName, String>,
) -> (BTreeMap<FlagName, String>, Vec<Difference>) {
    let mut notes = Notes { service: None, found: Vec::new() };
    let merged = notes.three_way_map("flag", base, file, saved, String::clone);
    (merged, notes.found)
}

/// Collects the differences of one service, or of the flags.
struct Notes<'a> {
    service: Option<&'a ServiceId>,
    found: Vec<Difference>,
}

impl Notes<'_> {
    fn push(&mut self, field: impl Into<String>, message: String) {
        self.found.push(Difference { service: self.service.cloned(), field: field.into(), message });
    }

    fn fall_back(&mut self, field: impl Into<String>, value: impl fmt::Display, why: String) {
        self.push(field, format!("is {value} (as the file says), because {why}"));
    }

    fn three_way<T: PartialEq + Clone>(
        &mut self,
        field: &str,
        base: &T,
        file: &T,
        saved: &T,
        text: fn(&T) -> String,
    ) -> T {
        let edited = file != base;
        if file != saved && !edited {
            self.push(field, format!("is {} (saved), the file says {}", text(saved), text(file)));
        } else if file != saved && saved != base {
            self.push(field, format!("is {} (edited in the file), saved was {}", text(file), text(saved)));
        }
        if edited { file.clone() } else { saved.clone() }
    }

    fn three_way_map<K: Ord + Clone + fmt::Display, T: PartialEq + Clone>(
        &mut self,
        kind: &str,
        base: &BTreeMap<K, T>,
        file: &BTreeMap<K, T>,
        saved: &BTreeMap<K, T>,
        text: fn(&T) -> String,
    ) -> BTreeMap<K, T> {
        let names: BTreeSet<&K> = base.keys().chain(file.keys()).chain(saved.keys()).collect();
        let mut merged = BTreeMap::new();
        for name in names {
            let (base, file, saved) = (base.get(name), file.get(name), saved.get(name));
            let edited = file != base;
            if file != saved && (!edited || saved != base) {
                self.push(format!("{kind} {name}"), entry_text(file.map(text), saved.map(text), edited));
            }
            if let Some(value) = if edited { file } else { saved } {
                merged.insert(name.clone(), value.clone());
            }
        }
        merged
    }
}

fn entry_text(file: Option<String>, saved: Option<String>, edited: bool) -> String {
    let or_nothing = |text: &Option<String>| text.clone().unwrap_or_else(|| "nothing".into());
    let or_removed = |text: &Option<String>| text.clone().unwrap_or_else(|| "removed".into());
    if edited {
        format!("is {} (edited in the file), saved was {}", or_removed(&file), or_nothing(&saved))
    } else {
        format!("is {} (saved), the file says {}", or_removed(&saved), or_nothing(&file))
    }
}

fn split_text(split: &Split) -> String {
    split.iter().map(|(target, weight)| format!("{target} {weight}")).collect::<Vec<_>>().join(", ")
}

fn target_text(spec: &TargetSpec) -> String {
    let endpoint = |e: &tidegate_config::EndpointSpec| match e.weight {
        1 => e.address.to_string(),
        weight => format!("{} with weight {weight}", e.address),
    };
    spec.endpoints.iter().map(endpoint).collect::<Vec<_>>().join(", ")
}

fn mirror_text(spec: &MirrorSpec) -> String {
    let methods = if spec.methods.iter().any(|m| m == "*") { "all methods".into() } else { spec.methods.join(", ") };
    let compared = if spec.compare { ", compared" } else { "" };
    format!("{} of {methods} to {}{compared}", spec.percent, spec.to)
}

#[cfg(test)]
mod tests;
