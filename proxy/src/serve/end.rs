//! Ends the parts of a process in their order, so that nothing that was begun is lost.

use super::{admin::AdminTask, control_side::ControlSide};
use crate::{
    control::signals::{Signal, Signals},
    net::DataPlane,
};

/// What has to end, in its order.
pub(super) struct End {
    pub(super) plane: DataPlane,
    pub(super) side: ControlSide,
    pub(super) admin: AdminTask,
}

impl End {
    /// Lets requests finish while the admin API still answers, then ends what changes things, then what shows them. A
    /// second signal ends the process at once.
    pub(super) async fn drain(self, signals: &mut Signals) {
        tokio::select! {
            () = self.drain_all() => {}
            () = second_stop(signals) => {
                tracing::warn!("a second signal: ending now");
                // Every change that was answered is saved already.
                std::process::exit(1);
            }
        }
    }

    async fn drain_all(self) {
        let Self { plane, side, admin } = self;
        side.stacks.stop().await;
        plane.join().await;
        side.desk.stop().await;
        side.failovers.stop().await;
        side.control.stop().await;
        admin.end().await;
        let ended = tokio::task::spawn_blocking(move || {
            if side.shell.join().is_err() {
                tracing::error!("the thread of deployments panicked");
            }
            if side.controller.join().is_err() {
                tracing::error!("the control thread panicked");
            }
            // Nobody has news for them any more: they write down what there is, and end.
            drop(side.sinks);
            side.audit_thread.join();
        });
        let _ = ended.await;
    }
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Signal::Stop {}
}
