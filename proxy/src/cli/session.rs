//! What the verbs that talk to the admin API have in common.

use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use crate::cli::{
    address::ServerAddress,
    args::{ChangeArgs, DEFAULT_SERVER, GlobalArgs},
    client::{ApiToken, Call, Client},
    error::{CliError, Format},
    output::{self, Colours, Screen},
};

/// A client and how its answers are shown.
#[derive(Debug)]
pub(crate) struct Session {
    /// The client.
    pub(crate) client: Client,
    /// How results are written.
    pub(crate) format: Format,
    /// What stdout is.
    pub(crate) screen: Screen,
}

/// Whether the operator is asked before a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// It moves or ends traffic at once: ask, where there is somebody to ask.
    First,
    /// It is gradual, or adds something.
    Never,
}

impl Session {
    /// Parses the global arguments. An empty variable is as good as none: compose files pass those.
    pub(crate) fn new(global: &GlobalArgs) -> Result<Self, CliError> {
        let server = global.server.as_deref().filter(|text| !text.is_empty()).unwrap_or(DEFAULT_SERVER);
        let server: ServerAddress = server
            .parse()
            .map_err(|why| CliError::Usage(format!("--server (or TIDEGATE_ADMIN) {server:?} is wrong: {why}")))?;
        let token = global.token.as_deref().filter(|text| !text.is_empty()).map(str::parse::<ApiToken>).transpose();
        let token = token.map_err(|why| CliError::Usage(format!("--token (or TIDEGATE_TOKEN) is wrong: {why}")))?;
        Ok(Self { client: Client::new(server, token), format: global.format(), screen: Screen::of_stdout() })
    }

    /// Whether results may carry colours.
    pub(crate) fn colours(&self) -> Colours {
        self.screen.colours()
    }

    /// Reads something and shows it: as it came, or in words.
    pub(crate) async fn show(
        &self,
        call: &Call,
        words: impl FnOnce(&Value, Colours) -> String,
    ) -> Result<(), CliError> {
        let answer = self.client.send(call).await?;
        self.print(&answer, words)
    }

    /// Asks if need be and makes a change; the API's answer.
    pub(crate) async fn change(&self, call: Call, what: &str, ask: Ask, args: &ChangeArgs) -> Result<Bytes, CliError> {
        let call = self.conditioned(call, what, ask, args)?;
        self.client.send(&call).await
    }

    /// [`Session::change`] with another deadline.
    pub(crate) async fn change_patiently(
        &self,
        call: Call,
        what: &str,
        ask: Ask,
        args: &ChangeArgs,
        deadline: Duration,
    ) -> Result<Bytes, CliError> {
        let call = self.conditioned(call, what, ask, args)?;
        self.client.send_patiently(&call, deadline).await
    }

    /// A change under the conditions that were given, once nobody has anything against it.
    fn conditioned(&self, mut call: Call, what: &str, ask: Ask, args: &ChangeArgs) -> Result<Call, CliError> {
        let settled = args.yes || args.dry_run || ask == Ask::Never || !output::can_ask();
        if !settled && !output::confirm(&format!("{what}?")) {
            return Err(CliError::Declined);
        }
        call.if_match = args.if_match;
        if args.dry_run {
            call.ask("dry_run=true");
        }
        Ok(call)
    }

    /// Shows an answer: as it came, or in words.
    pub(crate) fn print(&self, answer: &Bytes, words: impl FnOnce(&Value, Colours) -> String) -> Result<(), CliError> {
        let value = self.client.decode(answer)?;
        match self.format {
            Format::Json => output::result(&as_it_came(answer))?,
            Format::Text => output::result(&words(&value, self.colours()))?,
        }
        Ok(())
    }
}

/// An answer of the API as one line of output.
pub(crate) fn as_it_came(answer: &Bytes) -> String {
    format!("{}\n", String::from_utf8_lossy(answer).trim_end())
}

impl GlobalArgs {
    /// How results and errors are written.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::client::tests::{fake, ok};

    async fn request_line_and_if_match(args: &ChangeArgs) -> (String, bool) {
        let (server, seen) = fake(ok("{}")).await;
        let global = GlobalArgs { server: Some(server.to_string()), token: None, json: false };
        let session = Session::new(&global).unwrap();
        session.change(Call::delete("/api/x"), "", Ask::First, args).await.unwrap();
        let seen = seen.lock().unwrap();
        (seen.lines().next().unwrap().to_owned(), seen.contains("if-match: \"7\"\r\n"))
    }

    #[tokio::test]
    async fn conditions_of_a_change_are_sent() {
        let args = ChangeArgs { dry_run: false, if_match: None, yes: true };
        assert_eq!(request_line_and_if_match(&args).await, ("DELETE /api/x HTTP/1.1".into(), false));
        let args = ChangeArgs { dry_run: true, if_match: Some(7), yes: false };
        assert_eq!(request_line_and_if_match(&args).await, ("DELETE /api/x?dry_run=true HTTP/1.1".into(), true));
    }

    fn global(server: Option<&str>, token: Option<&str>) -> GlobalArgs {
        GlobalArgs { server: server.map(Into::into), token: token.map(Into::into), json: false }
    }

    #[test]
    fn empty_variables_are_as_good_as_none() {
        assert!(Session::new(&global(Some(""), Some(""))).is_ok());
        assert!(Session::new(&global(None, None)).is_ok());
    }

    #[test]
    fn a_token_is_in_no_message() {
        let error = Session::new(&global(None, Some("se\ncret"))).expect_err("two lines").to_string();
        assert!(!error.contains("cret"), "{error}");
        let session = Session::new(&global(None, Some("secret"))).expect("valid");
        assert!(!format!("{session:?}").contains("secret"));
    }

    #[test]
    fn a_wrong_server_is_bad_usage() {
        let error = Session::new(&global(Some("https://h"), None)).expect_err("https");
        assert_eq!(error.code(), 2);
    }
}
