//! Which commands before failovers run, kept in a file: the process that comes after this one ends them, since it
//! prepares such failovers anew. Commands after a failover may run to their end.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use tidegate_config::ServiceId;
use tidegate_core::deploy::machine::Process;

use crate::state::{Decoded, replace, seal, unseal};

/// The file in the state directory.
const FILE: &str = "failover.json";

/// See the module.
#[derive(Debug)]
pub(super) struct Left {
    /// `None`: nowhere.
    path: Option<PathBuf>,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    running: BTreeMap<ServiceId, Process>,
    writes: Writes,
}

/// Whose file it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Writes {
    /// Ours.
    #[default]
    Own,
    /// That of another process, or it will be.
    Rest,
}

impl Left {
    /// What runs, in a state directory that this process has locked; and what an earlier process has left there.
    pub(super) fn open(dir: Option<&Path>) -> (Self, BTreeMap<ServiceId, Process>) {
        let path = dir.map(|dir| dir.join(FILE));
        let text = path.as_ref().and_then(|path| fs::read(path).ok());
        let running: BTreeMap<ServiceId, Process> = match text.map(|text| unseal(&text)) {
            Some(Decoded::Whole(found)) => *found,
            // What is not known cannot be ended; the command's own rules about running twice hold.
            Some(Decoded::Newer(_) | Decoded::Damaged(_)) | None => BTreeMap::new(),
        };
        let inside = Inside { running: running.clone(), writes: Writes::Own };
        (Self { path, inside: Mutex::new(inside) }, running)
    }

    /// Notes what runs for a service.
    pub(super) fn note(
        self: &Arc<Self>,
        service: ServiceId,
        process: Option<Process>,
    ) -> impl Future<Output = ()> + Send + 'static {
        let this = Arc::clone(self);
        async move {
            // It waits for the disk.
            let noted = tokio::task::spawn_blocking(move || {
                this.change(|inside| {
                    match process {
                        Some(process) => inside.running.insert(service, process),
                        None => inside.running.remove(&service),
                    };
                });
            });
            // It is only a help: a process whose number is known can be ended sooner.
            let _ = noted.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut Inside)) {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut inside);
        let (Some(path), Writes::Own) = (&self.path, inside.writes) else { return };
        if let Err(error) = seal(0, &inside.running).and_then(|text| replace(path, &text)) {
            tracing::warn!(%error, "which commands before failovers run could not be saved");
        }
    }
}

/// While this lives, the file belongs to another process.
#[derive(Debug)]
pub(crate) struct Resting(Option<Arc<Left>>);

impl Resting {
    pub(super) fn begin(left: &Arc<Left>) -> Self {
        left.change(|inside| inside.writes = Writes::Rest);
        Self(Some(Arc::clone(left)))
    }

    /// It does for good.
    pub(crate) fn handed_over(mut self) {
        self.0 = None;
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        if let Some(left) = self.0.take() {
            left.change(|inside| inside.writes = Writes::Own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_later_process_knows_what_runs_and_the_earlier_one_keeps_off_when_it_has_handed_over() {
        let dir = tempfile::tempdir().unwrap();
        let web = ServiceId::parse("web").unwrap();
        let process = Process { group: 4242, started: 7 };
        let (left, found) = Left::open(Some(dir.path()));
        assert!(found.is_empty());
        let left = Arc::new(left);
        left.note(web.clone(), Some(process)).await;
        let known = || Left::open(Some(dir.path())).1;
        assert_eq!(known(), BTreeMap::from([(web.clone(), process)]));
        let resting = Resting::begin(&left);
        left.note(web.clone(), None).await;
        assert_eq!(known().len(), 1, "the file is another's for now");
        drop(resting);
        assert!(known().is_empty(), "it went on, and what has happened meanwhile counts");
        left.note(web.clone(), Some(process)).await;
        Resting::begin(&left).handed_over();
        left.note(web, None).await;
        assert_eq!(known().len(), 1, "the file is another's for good");
        fs::write(dir.path().join(FILE), b"{ torn").unwrap();
        assert!(known().is_empty(), "what cannot be read is nothing");
    }
}
