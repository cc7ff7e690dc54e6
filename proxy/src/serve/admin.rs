//! The admin API's life: bound before anything is served, ended after everything that it shows.

use std::{os::fd::OwnedFd, sync::Arc};

use tidegate_admin::AdminListener;
use tidegate_config::{Config, server::AdminAddress};
use tokio::{sync::oneshot, task::JoinHandle};

use super::{control_side::Face, error::ServeError};

/// Binds its address, or takes the socket that the process before left for the same one.
pub(super) async fn bind(config: &Config, left: Option<(AdminAddress, OwnedFd)>) -> Result<AdminListener, ServeError> {
    let listen = &config.admin.listen;
    let bound = match left {
        Some((address, socket)) if address == *listen => AdminListener::inherit(listen, socket),
        _ => AdminListener::bind(listen).await,
    };
    bound.map_err(|source| ServeError::Admin { address: address_text(listen), source })
}

pub(super) fn address_text(address: &AdminAddress) -> String {
    match address {
        AdminAddress::Tcp(address) => address.to_string(),
        AdminAddress::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// The admin API while it answers.
pub(super) struct AdminTask {
    /// Its going away is the word to stop.
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl AdminTask {
    /// Answers calls about a process.
    pub(super) fn start(listener: AdminListener, face: Face) -> Self {
        let Face { process, access } = face;
        let router = tidegate_admin::router(Arc::new(process), access);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(tidegate_admin::serve(listener, router, async {
            let _ = stopped.await;
        }));
        Self { stop: Some(stop), task }
    }

    /// Takes no more calls; those that run may finish.
    pub(super) fn stop(&mut self) {
        self.stop = None;
    }

    /// Waits until those that run have finished.
    pub(super) async fn end(mut self) {
        self.stop();
        if self.task.await.is_err() {
            tracing::error!("the admin API panicked");
        }
    }
}
