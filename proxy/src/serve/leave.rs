//! Waits for what ends the process, and hands everything to another one when an upgrade asks for it.

use std::{sync::Arc, time::Instant};

use tidegate_admin::{Actor, Heirloom, Upgraded};
use tidegate_config::Config;
use tokio::sync::mpsc;

use super::control_side::ControlSide;
use crate::{
    control::{
        process::UpgradeCall,
        signals::{Signal, Signals},
    },
    net::DataPlane,
    upgrade::{Legacy, Offer, UpgradeError},
};

/// Whether another process has taken this one's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Successor {
    /// It serves.
    Serves,
    /// There is none.
    None,
}

/// What this process can leave to another.
pub(super) struct Estate<'a> {
    pub(super) config: &'a Config,
    pub(super) plane: &'a DataPlane,
    pub(super) side: &'a ControlSide,
    pub(super) heirloom: Heirloom,
}

impl Estate<'_> {
    /// Does what signals and calls ask for, until one of them ends the process.
    pub(super) async fn until_stopped(
        self,
        signals: &mut Signals,
        calls: &mut mpsc::Receiver<UpgradeCall>,
    ) -> Successor {
        loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    Signal::Stop => return Successor::None,
                    Signal::Reload => {
                        let reloader = Arc::clone(&self.side.reloader);
                        // Its outcome is logged and told by `reload` itself.
                        tokio::spawn(async move { reloader.reload(Actor("signal".into()), false).await });
                    }
                },
                Some(UpgradeCall { actor, reply }) = calls.recv() => {
                    let begun = Instant::now();
                    tracing::info!(actor = actor.0, "a new process is started to take over");
                    let outcome = self.leave().await;
                    match &outcome {
                        Ok(pid) => tracing::info!(pid, "the new process has taken over"),
                        Err(error) => tracing::error!(%error, "no process has taken over"),
                    }
                    let left = outcome.is_ok();
                    let told = outcome.map(|pid| Upgraded { pid, took: begun.elapsed() });
                    // Whoever asked may be gone.
                    let _ = reply.send(told.map_err(|error| tidegate_admin::UpgradeError(error.to_string())));
                    if left {
                        self.heirloom.is_left();
                        return Successor::Serves;
                    }
                }
            }
        }
    }

    /// Starts another process and hands it everything; its number.
    async fn leave(&self) -> Result<u32, UpgradeError> {
        let Some(lock) = &self.side.lock else {
            return Err(UpgradeError::Impossible("this process runs without a configuration file: start it anew"));
        };
        let offer = Offer::make(&self.config.server.state_dir).await?;
        // Whoever asks for changes rests before the one who makes them.
        let stacks = self.side.stacks.pause().await;
        let deployments = self.side.desk.pause().await;
        let paused = self.side.control.pause().await;
        let failovers = self.side.failovers.rest();
        let sockets = self.plane.take_sockets();
        let copies = sockets.copy();
        self.plane.keep_sockets(sockets);
        let admin = Some((self.config.admin.listen.clone(), self.heirloom.socket()?));
        let pid = offer.hand_over(Legacy { sockets: copies?, admin, lock: lock.try_clone()? }).await?;
        for paused in paused.into_iter().chain(deployments).chain(stacks) {
            paused.handed_over();
        }
        failovers.handed_over();
        Ok(pid)
    }
}
