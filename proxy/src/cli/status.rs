//! `tidegate status`: reads the services and shows them, once or every second.

use std::time::Duration;

use bytes::Bytes;
use tidegate_admin::dto::{ServiceView as Service, service::TargetView as Target};
use tidegate_config::{ServiceId, TargetId};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::cli::{
    args::StatusArgs,
    client::Call,
    error::{CliError, Format},
    output::{self, Screen},
    session::{Session, as_it_came},
    view::{self, Rates},
};

/// Time between the two looks that a rate needs, when only one picture is wanted.
const RATE_WINDOW: Duration = Duration::from_millis(500);

/// Time between two pictures.
const REDRAW: Duration = Duration::from_secs(1);

/// Moves to the upper left and clears from there: the picture is drawn over without a flicker.
const HOME_AND_CLEAR: &str = "\x1b[H\x1b[J";

/// Runs the verb.
pub(crate) async fn run(session: &Session, args: &StatusArgs) -> Result<(), CliError> {
    let watched = Watched { session, service: args.service.as_ref() };
    if args.watch {
        return tokio::select! {
            ended = watched.watch() => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
    }
    let body = watched.read().await?;
    if session.format == Format::Json {
        return Ok(output::result(&as_it_came(&body))?);
    }
    let (before, looked) = (watched.services(&body)?, Instant::now());
    sleep(RATE_WINDOW).await;
    let now = watched.services(&watched.read().await?)?;
    let rates = view::rates(&before, &now, looked.elapsed().as_secs_f64());
    Ok(output::result(&view::render(&now, &rates, session.colours()))?)
}

/// A target as it is now; `None` when it is gone.
pub(crate) async fn target(
    session: &Session,
    service: &ServiceId,
    target: &TargetId,
) -> Result<Option<Target>, CliError> {
    let watched = Watched { session, service: Some(service) };
    let services = watched.services(&watched.read().await?)?;
    let mut targets = services.into_iter().flat_map(|service| service.targets);
    Ok(targets.find(|other| other.name == target.as_str()))
}

/// What is looked at.
struct Watched<'a> {
    session: &'a Session,
    /// `None`: every service.
    service: Option<&'a ServiceId>,
}

impl Watched<'_> {
    async fn read(&self) -> Result<Bytes, CliError> {
        let path = match self.service {
            None => "/api/services".to_owned(),
            Some(service) => format!("/api/services/{service}"),
        };
        self.session.client.send(&Call::get(path)).await
    }

    fn services(&self, body: &[u8]) -> Result<Vec<Service>, CliError> {
        match self.service {
            None => self.session.client.decode(body),
            Some(_) => Ok(vec![self.session.client.decode(body)?]),
        }
    }

    /// Draws until something fails. The proxy may be restarted meanwhile: that is said, and it is looked at again.
    async fn watch(&self) -> Result<(), CliError> {
        let mut before: Option<(Vec<Service>, Instant)> = None;
        let mut ticks = interval(REDRAW);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let body = match self.read().await {
                Ok(body) => body,
                // The first look must succeed: a mistyped address is not worth waiting for.
                Err(error @ (CliError::Unreachable { .. } | CliError::Interrupted { .. })) if before.is_some() => {
                    output::note(&format!("{error}\n"));
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (now, looked) = (self.services(&body)?, Instant::now());
            let rates = match &before {
                None => Rates::new(),
                Some((before, then)) => view::rates(before, &now, (looked - *then).as_secs_f64()),
            };
            self.draw(&body, &now, &rates)?;
            before = Some((now, looked));
        }
    }

    fn draw(&self, body: &Bytes, services: &[Service], rates: &Rates<'_>) -> std::io::Result<()> {
        let picture = || view::render(services, rates, self.session.colours());
        match (self.session.format, self.session.screen) {
            (Format::Json, _) => output::result(&as_it_came(body)),
            (Format::Text, Screen::Terminal) => output::result(&format!("{HOME_AND_CLEAR}{}", picture())),
            (Format::Text, Screen::Plain) => output::result(&format!("{}\n", picture())),
        }
    }
}
