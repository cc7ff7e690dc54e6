//! Arguments of the verbs that only look.

use std::str::FromStr;

use clap::Args;
use tidegate_config::{ListenerId, ServiceId};

/// Arguments of `status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this service.
    pub(crate) service: Option<ServiceId>,
    /// Draw it anew every second until Ctrl-C.
    #[arg(short, long)]
    pub(crate) watch: bool,
}

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// The request's URL, as a client would ask for it.
    pub(crate) url: String,
    /// A header of the request; may be given several times.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<HeaderArg>,
    /// The request's method.
    #[arg(short = 'X', long, default_value = "GET")]
    pub(crate) method: String,
    /// The client's address.
    #[arg(long, value_name = "IP")]
    pub(crate) client: Option<std::net::IpAddr>,
    /// The listener that it comes in by; without it the first on which a route is found.
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: Option<ListenerId>,
}

/// A header: `x-beta: 1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HeaderArg {
    /// Its name, lower case.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

impl FromStr for HeaderArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, value) = text.split_once(':').ok_or("write 'NAME: VALUE', as in 'x-beta: 1'")?;
        let name = name.trim().parse::<http::HeaderName>().map_err(|_| "this is not the name of a header")?;
        Ok(Self { name: name.as_str().to_owned(), value: value.trim().to_owned() })
    }
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Go on with new events until Ctrl-C.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Only events after this number; 0: all that are kept. Without it the newest ones, or those to come.
    #[arg(long, value_name = "NUMBER")]
    pub(crate) after: Option<u64>,
    /// The most events of a list.
    #[arg(short = 'n', long, default_value_t = 100, conflicts_with = "follow")]
    pub(crate) limit: u32,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub(crate) struct HistoryArgs {
    /// Show how the health of this service's endpoints changed.
    pub(crate) service: Option<ServiceId>,
    /// The most entries.
    #[arg(short = 'n', long, default_value_t = 50)]
    pub(crate) limit: u32,
}
