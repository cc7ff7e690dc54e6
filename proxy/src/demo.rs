//! `tidegate demo`: two small applications, a shadow, and traffic, inside the process.
//!
//! The proxy is the real one; only its configuration is made here and its state is kept in memory. What the demo
//! shows it asks of the admin API, as any client would.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    process::ExitCode,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tidegate_admin::dto::{EventLine, ServiceView, event::HealthView};
use tokio::{net::TcpListener, time::MissedTickBehavior};

mod app;
mod line;
mod switchboard;
mod traffic;

use crate::{
    cli::{
        DemoArgs, LogFormat,
        address::ServerAddress,
        client::{Call, Client},
        describe::describe,
        error::{CliError, Format},
        output::{self, Screen},
    },
    demo::{
        app::App,
        line::{Line, Rates},
        switchboard::Apps,
        traffic::Tally,
    },
    observe::logging,
    serve::{ServeOptions, Source, Up, serve},
};

/// The applications; the last one is the shadow.
const NAMES: [&str; 3] = ["green", "blue", "shadow"];

/// Time between two status lines on a terminal.
const REFRESH: Duration = Duration::from_secs(1);

/// Status lines between two that are written where there is no terminal.
const PLAIN_EVERY: u64 = 5;

/// Time between two looks at whether every application was probed.
const VERDICT_PAUSE: Duration = Duration::from_millis(20);

/// Runs the demo until a signal ends it.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    match play(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error.report(Format::Text);
            ExitCode::from(error.code())
        }
    }
}

fn play(args: &DemoArgs) -> Result<(), CliError> {
    // The screen belongs to the demo, which tells the events itself; who wants log lines too asks for them.
    if std::env::var_os("RUST_LOG").is_some() {
        logging::init(LogFormat::Text).map_err(|error| CliError::Usage(error.to_string()))?;
    }
    let stage = Stage::set(args)?;
    let text = configuration(args.port, args.admin_port, &stage.apps);
    let config = tidegate_config::parse(&text).map_err(|problems| CliError::Usage(problems.to_string()))?;
    let source = Source::Value(Box::new(config));
    // The proxy has this thread, and takes the signals; everything else ends with the process.
    let up = Box::new(|up| drop(std::thread::spawn(move || stage.play(&up))));
    serve(ServeOptions { source, up }).map_err(|error| CliError::Failed(error.to_string()))?;
    if Screen::of_stdout() == Screen::Terminal {
        // The shell's prompt is not to stand behind the status line.
        let _ = output::result("\n");
    }
    Ok(())
}

/// Everything of the demo but the proxy.
struct Stage {
    runtime: tokio::runtime::Runtime,
    apps: Apps,
    switchboard: TcpListener,
}

impl Stage {
    /// Starts the applications, and makes sure that every port can be had.
    fn set(args: &DemoArgs) -> Result<Self, CliError> {
        // The proxy's own listeners share their port with others of the same user, so they would not notice.
        for (port, ip, option) in
            [(args.port, Ipv4Addr::UNSPECIFIED, "--port"), (args.admin_port, Ipv4Addr::LOCALHOST, "--admin-port")]
        {
            std::net::TcpListener::bind((ip, port)).map_err(|error| taken(port, option, error))?;
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| CliError::Io { what: "cannot start".into(), error })?;
        let (apps, switchboard) = runtime.block_on(async {
            let switchboard = TcpListener::bind((Ipv4Addr::LOCALHOST, args.control_port))
                .await
                .map_err(|error| taken(args.control_port, "--control-port", error))?;
            let mut apps = Vec::new();
            for name in NAMES {
                let app = App::start(name).await;
                apps.push(app.map_err(|error| CliError::Io { what: format!("cannot start {name}"), error })?);
            }
            Ok::<_, CliError>((Apps::from(apps), switchboard))
        })?;
        Ok(Self { runtime, apps, switchboard })
    }

    /// Plays until the process ends.
    fn play(self, up: &Up) {
        let Self { runtime, apps, switchboard } = self;
        let port = |address: Option<SocketAddr>| address.map_or(0, |address| address.port());
        let ports = Ports {
            proxy: port(up.listeners.values().next().copied()),
            admin: port(up.admin),
            control: port(switchboard.local_addr().ok()),
        };
        runtime.block_on(async move {
            let tally = Arc::new(Tally::default());
            let proxy = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.proxy));
            tokio::spawn(switchboard::run(switchboard, Arc::clone(&apps)));
            let admin = ServerAddress::Tcp { host: Ipv4Addr::LOCALHOST.to_string(), port: ports.admin };
            let watcher = Watcher::new(Client::new(admin, None), apps, Arc::clone(&tally));
            watcher.first_verdicts().await;
            tokio::spawn(traffic::run(proxy, tally));
            if output::result(&greeting(ports)).is_ok() {
                // It ends when nobody reads any more.
                let _ = watcher.watch().await;
            }
            // The traffic goes on until a signal ends the proxy.
            std::future::pending::<()>().await;
        });
    }
}

/// The demo's ports.
#[derive(Debug, Clone, Copy)]
struct Ports {
    proxy: u16,
    admin: u16,
    control: u16,
}

/// Why a port cannot be had, and what to do.
fn taken(port: u16, option: &str, error: io::Error) -> CliError {
    let what = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "port {port} is taken: stop what listens there (`ss -ltnp 'sport = :{port}'`), or choose another with {option}"
            )
        }
        _ => format!("cannot listen on port {port} (choose another with {option})"),
    };
    CliError::Io { what, error }
}

/// The demo's configuration, as a user would write it.
fn configuration(proxy: u16, admin: u16, apps: &Apps) -> String {
    let targets: String = apps
        .iter()
        .map(|app| format!("[service.web.target.{}]\nendpoints = [\"{}\"]\n", app.name, app.address))
        .collect();
    format!(
        r#"[admin]
listen = "127.0.0.1:{admin}"
[listener.public]
address = "0.0.0.0:{proxy}"
[service.web]
stable = "green"
split = {{ green = 100 }}
health = {{ path = "/health", interval = "1s", timeout = "1s" }}
failover = {{ to = "blue", failback = "manual" }}
[service.web.mirror.shadow]
to = "shadow"
percent = 100
{targets}"#
    )
}

/// What there is, and what to try.
fn greeting(Ports { proxy, admin, control }: Ports) -> String {
    let web = format!("localhost:{admin}/api/services/web");
    let server = if admin == 3091 { String::new() } else { format!(" --server http://127.0.0.1:{admin}") };
    let lines = [
        (format!("curl localhost:{proxy}"), "who answers?"),
        (format!(r#"curl -X POST {web}/switch -d '{{"to":"blue"}}'"#), "everything to blue"),
        (format!(r#"curl -X PUT {web}/split -d '{{"green":10,"blue":90}}'"#), "a share for each"),
        (format!(r#"curl -X POST {web}/switch -d '{{"to":"green"}}'"#), "and back to green"),
        (format!("curl -X POST localhost:{control}/kill/green"), "green dies, blue takes over"),
        (format!("curl -X POST localhost:{control}/revive/green"), "green lives again"),
        (format!("curl -X POST {web}/restore"), "and gets its traffic back"),
        (format!("curl localhost:{control}"), "what each application has counted"),
        (format!("tidegate status --watch{server}"), "the picture, every second"),
    ];
    let width = lines.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let lines: String = lines.iter().map(|(command, what)| format!("  {command:<width$}  # {what}\n")).collect();
    format!(
        "\
Tidegate demo: a service with two versions, green and blue, and a shadow that gets a copy of each request.

  proxy      http://localhost:{proxy}
  admin API  http://localhost:{admin}/api/services
  controls   http://localhost:{control}

Try in another terminal:
{lines}
Ctrl-C ends it.

"
    )
}

/// Writes what happens: events as they come, and the status line.
struct Watcher {
    client: Client,
    apps: Apps,
    tally: Arc<Tally>,
    rates: Rates,
    screen: Screen,
    /// The number of the last event that was shown; `None` before the first look.
    last_seen: Option<u64>,
}

impl Watcher {
    fn new(client: Client, apps: Apps, tally: Arc<Tally>) -> Self {
        Self { client, apps, tally, rates: Rates::default(), screen: Screen::of_stdout(), last_seen: None }
    }

    /// Waits until every application was probed, so that the first requests go where the split says.
    async fn first_verdicts(&self) {
        loop {
            let unknown = |service: &ServiceView| {
                let mut endpoints = service.targets.iter().flat_map(|target| &target.endpoints);
                endpoints.any(|endpoint| endpoint.health == HealthView::Unknown)
            };
            if self.service().await.is_ok_and(|service| !unknown(&service)) {
                return;
            }
            tokio::time::sleep(VERDICT_PAUSE).await;
        }
    }

    async fn service(&self) -> Result<ServiceView, CliError> {
        let body = self.client.send(&Call::get("/api/services/web")).await?;
        self.client.decode(&body)
    }

    /// Ends when nobody reads any more.
    async fn watch(mut self) -> io::Result<()> {
        let mut ticks = tokio::time::interval(REFRESH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for n in 0_u64.. {
            ticks.tick().await;
            // While the proxy goes down it does not answer; the process ends with it.
            let (Ok(events), Ok(line)) = (self.events().await, self.line().await) else { continue };
            let text = match self.screen {
                Screen::Terminal => line::drawn_over(&events, &line),
                Screen::Plain if n % PLAIN_EVERY == 0 => format!("{events}{line}\n"),
                Screen::Plain => events,
            };
            output::result(&text)?;
        }
        Ok(())
    }

    /// The events since the last look, a line each. Those before the first look are left out.
    async fn events(&mut self) -> Result<String, CliError> {
        let after = self.last_seen.map_or_else(String::new, |seq| format!("?after={seq}"));
        let body = self.client.send(&Call::get(format!("/api/events{after}"))).await?;
        let lines: Vec<EventLine> = self.client.decode(&body)?;
        let colours = self.screen.colours();
        let mut text = String::new();
        for line in lines {
            let EventLine::Event(event) = line else { continue };
            if self.last_seen.is_some() {
                let (ink, words) = describe(&event.event);
                text.push_str(&format!("{}\n", ink.paint(&words, colours)));
            }
            self.last_seen = Some(event.seq);
        }
        self.last_seen.get_or_insert(0);
        Ok(text)
    }

    async fn line(&mut self) -> Result<Line, CliError> {
        let service = self.service().await?;
        let counted = self.apps.iter().map(|app| (app.name, app.requests()));
        let copies = counted.clone().find(|(name, _)| *name == "shadow").map_or(0, |(_, copies)| copies);
        Ok(Line {
            generation: service.generation,
            split: service.split.into_iter().map(|(target, percent)| (target, percent.0)).collect(),
            rates: self.rates.since_last(counted.filter(|(name, _)| *name != "shadow")),
            copies,
            failover: service.failover.active.map(|failover| (failover.from, failover.to)),
            failed: self.tally.failed.load(Relaxed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_demos_configuration_is_valid() {
        let apps: Apps = [
            App::start("green").await.unwrap(),
            App::start("blue").await.unwrap(),
            App::start("shadow").await.unwrap(),
        ]
        .into();
        let text = configuration(3090, 3091, &apps);
        let config = tidegate_config::parse(&text).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(config.services.len(), 1);
    }

    #[test]
    fn a_taken_port_says_what_to_do() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let args = DemoArgs { port, admin_port: port, control_port: port };
        let Err(error) = Stage::set(&args) else { panic!("port {port} was not taken") };
        assert_eq!(error.code(), 1);
        let error = error.to_string();
        assert!(error.contains(&format!("port {port} is taken")) && error.contains("--port"), "{error}");
    }

    #[test]
    fn the_greeting_names_every_port() {
        let text = greeting(Ports { proxy: 1, admin: 2, control: 3 });
        for part in [
            "curl localhost:1 ",
            "localhost:2/api/services/web/switch",
            "localhost:3/kill/green",
            "--server http://127.0.0.1:2",
        ] {
            assert!(text.contains(part), "{part}");
        }
    }
}
