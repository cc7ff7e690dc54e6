//! What is remembered of a service beyond its deployments: which version runs where, which versions are good or bad,
//! and what its health was. Bounded.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};
use tidegate_config::{EndpointAddress, TargetId};

use super::{ids::DeploymentId, step::Version};
use crate::health::Health;

/// Versions that are remembered of a service: years of releases.
const MAX_VERSIONS: usize = 500;
/// Changes of health that are remembered of a service.
const MAX_HEALTH: usize = 500;
/// Deployments that are remembered of a service.
const MAX_DEPLOYMENTS: usize = 100;

/// What is remembered of a service.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceMemory {
    /// Which version runs in which target, as far as deployments know.
    #[serde(default)]
    pub running: BTreeMap<TargetId, Running>,
    /// Versions, by their key.
    #[serde(default)]
    pub versions: BTreeMap<String, Known>,
    /// Changes of health, the latest last.
    #[serde(default)]
    pub health: VecDeque<HealthEntry>,
    /// Deployments, the latest last.
    #[serde(default)]
    pub deployments: VecDeque<DeploymentId>,
}

/// A version that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The version.
    pub version: Version,
    /// Since when.
    pub since_unix_ms: u64,
    /// Whether it only runs so that a rollback is quick, and the next deployment stops it.
    pub kept: bool,
}

/// A version that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The version.
    pub version: Version,
    /// When it was last seen, which decides who is forgotten.
    pub seen_unix_ms: u64,
    /// When it was last seen healthy.
    pub good_unix_ms: Option<u64>,
    /// Why it is bad.
    pub bad: Option<Bad>,
}

/// Why a version is bad.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Why.
    pub why: String,
    /// Since when.
    pub at_unix_ms: u64,
    /// Labels of the deployment that found it, such as its commit.
    pub labels: BTreeMap<String, String>,
}

/// A change of health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthEntry {
    /// When.
    pub at_unix_ms: u64,
    /// The target.
    pub target: TargetId,
    /// The endpoint.
    pub endpoint: EndpointAddress,
    /// Its version, if known.
    pub version: Option<String>,
    /// What it is now.
    pub health: Health,
    /// Why.
    pub reason: String,
}

/// Something to be remembered.
#[derive(Debug, Clone, PartialEq)]
pub enum Note {
    /// A version was started in a target.
    Started(TargetId, Version),
    /// A target's version was stopped.
    Stopped(TargetId),
    /// A target's version is kept for a rollback only.
    Kept(TargetId, Version),
    /// A version was healthy.
    Good(Version),
    /// A version failed.
    Bad {
        /// The version.
        version: Version,
        /// Why.
        why: String,
        /// Labels.
        labels: BTreeMap<String, String>,
    },
}

impl ServiceMemory {
    /// Why a version is refused, if it is bad.
    pub fn bad(&self, version: &Version) -> Option<&Bad> {
        self.versions.get(version.key())?.bad.as_ref()
    }

    /// Remembers something.
    pub fn note(&mut self, note: Note, now_unix_ms: u64) {
        match note {
            Note::Started(target, version) => {
                // Whoever carries its service again after a rollback was not started anew: what was stopped is not here.
                let same = self.running.get(&target).filter(|running| running.version == version);
                let since_unix_ms = same.map_or(now_unix_ms, |running| running.since_unix_ms);
                self.running.insert(target, Running { version, since_unix_ms, kept: false });
            }
            Note::Stopped(target) => {
                self.running.remove(&target);
            }
            Note::Kept(target, version) => {
                let running = Running { version, since_unix_ms: now_unix_ms, kept: true };
                self.running.entry(target).or_insert(running).kept = true;
            }
            Note::Good(version) => {
                let known = self.known(version, now_unix_ms);
                known.good_unix_ms = Some(now_unix_ms);
                known.bad = None;
            }
            Note::Bad { version, why, labels } => {
                self.known(version, now_unix_ms).bad = Some(Bad { why, at_unix_ms: now_unix_ms, labels });
            }
        }
        self.forget();
    }

    /// The version that somebody means by a name or a key: one that runs before one that is only known, and the one
    /// that was seen last.
    pub fn version(&self, name: &str) -> Option<&Version> {
        let means = |version: &&Version| version.name == name || version.key() == name;
        let running = self.running.values().map(|running| &running.version).find(means);
        let known = self.versions.values().filter(|known| means(&&known.version));
        running.or_else(|| known.max_by_key(|known| known.seen_unix_ms).map(|known| &known.version))
    }

    /// The key of a version that is bad, by its name or its key.
    pub fn bad_key(&self, name: &str) -> Option<&str> {
        let bad = self
            .versions
            .iter()
            .filter(|(key, known)| known.bad.is_some() && (known.version.name == name || key.as_str() == name));
        bad.max_by_key(|(_, known)| known.seen_unix_ms).map(|(key, _)| key.as_str())
    }

    /// Forgets that a version is bad. `false`: it was not.
    pub fn unmark(&mut self, key: &str) -> bool {
        self.versions.get_mut(key).is_some_and(|known| known.bad.take().is_some())
    }

    /// Remembers a change of health. `false`: it was the same before.
    pub fn note_health(&mut self, mut entry: HealthEntry) -> bool {
        let same = |old: &&HealthEntry| old.target == entry.target && old.endpoint == entry.endpoint;
        if self.health.iter().rev().find(same).is_some_and(|old| old.health == entry.health) {
            return false;
        }
        entry.version = self.running.get(&entry.target).map(|running| running.version.name.clone());
        self.health.push_back(entry);
        while self.health.len() > MAX_HEALTH {
            self.health.pop_front();
        }
        true
    }

    /// Remembers a deployment, and says which one is forgotten for it.
    pub fn note_deployment(&mut self, id: DeploymentId) -> Option<DeploymentId> {
        self.deployments.push_back(id);
        (self.deployments.len() > MAX_DEPLOYMENTS).then(|| self.deployments.pop_front()).flatten()
    }

    fn known(&mut self, version: Version, now_unix_ms: u64) -> &mut Known {
        let key = version.key().to_owned();
        let known = self.versions.entry(key).or_insert_with(|| Known {
            version: version.clone(),
            seen_unix_ms: now_unix_ms,
            good_unix_ms: None,
            bad: None,
        });
        known.version = version;
        known.seen_unix_ms = now_unix_ms;
        known
    }

    /// Forgets the versions that were not seen for the longest time; bad ones last.
    fn forget(&mut self) {
        while self.versions.len() > MAX_VERSIONS {
            let oldest = self.versions.iter().min_by_key(|(_, known)| (known.bad.is_some(), known.seen_unix_ms));
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { return };
            self.versions.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(name: &str, fingerprint: &str) -> Version {
        Version { name: name.into(), image: None, fingerprint: Some(fingerprint.into()) }
    }

    fn bad(name: &str, fingerprint: &str) -> Note {
        Note::Bad { version: version(name, fingerprint), why: "ill".into(), labels: BTreeMap::new() }
    }

    #[test]
    fn a_version_is_known_by_its_name_and_by_the_digest_of_its_files() {
        let mut memory = ServiceMemory::default();
        memory.note(bad("1", "aa"), 1);
        memory.note(Note::Good(version("1", "bb")), 2);
        assert_eq!(memory.version("1").map(Version::key), Some("bb"), "the one that was seen last");
        assert_eq!((memory.version("aa").map(Version::key), memory.version("2")), (Some("aa"), None));
        assert_eq!((memory.bad_key("1"), memory.bad_key("bb")), (Some("aa"), None));
        memory.note(bad("1", "cc"), 3);
        assert_eq!(memory.bad_key("1"), Some("cc"));
        memory.note(Note::Started(TargetId::parse("blue").unwrap(), version("1", "aa")), 4);
        assert_eq!(memory.version("1").map(Version::key), Some("aa"), "the one that runs");
    }

    #[test]
    fn a_version_runs_since_it_was_started_also_when_it_was_kept_meanwhile() {
        let mut memory = ServiceMemory::default();
        let blue = TargetId::parse("blue").unwrap();
        let since = |memory: &ServiceMemory| memory.running[&blue].since_unix_ms;
        memory.note(Note::Started(blue.clone(), version("1", "aa")), 4);
        memory.note(Note::Kept(blue.clone(), version("1", "aa")), 5);
        memory.note(Note::Started(blue.clone(), version("1", "aa")), 6);
        assert_eq!((since(&memory), memory.running[&blue].kept), (4, false));
        memory.note(Note::Started(blue.clone(), version("2", "bb")), 7);
        assert_eq!(since(&memory), 7);
        memory.note(Note::Stopped(blue.clone()), 8);
        memory.note(Note::Started(blue.clone(), version("2", "bb")), 9);
        assert_eq!(since(&memory), 9);
    }
}
