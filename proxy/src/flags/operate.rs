//! What operators write into a flag source. It counts when it was read back, like what anybody else writes.

use std::{sync::Arc, time::Duration};

use tidegate_admin::{FlagWriteError, FlagWrites, Outcome, Submission};
use tidegate_config::{SourceId, SourceSpec};
use tidegate_core::{Change, flags::SourceReport};

use super::{
    follow::{self, Told},
    place::Place,
    sources::FlagSources,
    write::{self, Marking},
};

/// How long a write waits for a read that is under way.
const TURN: Duration = Duration::from_secs(2);

impl FlagSources {
    /// Writes into a source, all or nothing, reads it again, and makes what it read a change by the one who asks.
    pub(crate) async fn write(&self, id: &SourceId, writes: FlagWrites) -> Result<Outcome, FlagWriteError> {
        let job = self.job_of(id).ok_or_else(|| {
            FlagWriteError::ReadOnly(format!("there is no flag source {id}: it may have been removed from the file"))
        })?;
        let store = match &job.source {
            SourceSpec::Redis(store) => store,
            SourceSpec::File(path) => {
                let path = path.display();
                return Err(FlagWriteError::ReadOnly(format!("flag source {id} is the file {path}: change it there")));
            }
        };
        let values = writes.values.iter();
        let commands = values.map(|(place, value)| write::command(store, place, value.as_deref()));
        let mut commands = commands.collect::<Result<Vec<_>, _>>()?;
        let known = self.known_of(id);
        if writes.mark {
            commands.push(write::mark(&job.wanted.marker, &follow::id_of(&known), Marking::Confirmed));
        }
        let unreachable = |_| FlagWriteError::Unreachable("it is being read, and does not answer".into());
        let told = self.told_of(id);
        // What was read before the write must not be told after it.
        let mut told = tokio::time::timeout(TURN, told.lock()).await.map_err(unreachable)?;
        let error = |failure| write::error(&failure);
        let mut link = Place::new(store).open(None).await.map_err(error)?;
        write::run(&mut link, commands).await.map_err(error)?;
        let reading = Arc::new(follow::look(&mut link, &job.wanted, &known).await.map_err(error)?);
        let change = Change::Readings { source: id.clone(), report: SourceReport::Read(Arc::clone(&reading)) };
        let submission = Submission { change, expected: None, dry_run: false, actor: writes.actor };
        // Should whoever asks be gone now, the next read is told whatever it finds.
        *told = None;
        let outcome = self.control().submit(submission).await?;
        *told = Some(Told::Read(reading));
        Ok(outcome)
    }
}
