//! `tidegate explain`: which target a request would go to, and why.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cli::{args::ExplainArgs, client::Call, error::CliError, output::Colours, session::Session};

/// Runs the verb.
pub(crate) async fn run(session: &Session, args: &ExplainArgs) -> Result<(), CliError> {
    session.show(&Call::post("/api/explain", body(args)), words).await
}

fn body(args: &ExplainArgs) -> Value {
    // A name that is given twice is one field with both values, as HTTP has it (RFC 9110, 5.2).
    let mut headers: BTreeMap<&str, String> = BTreeMap::new();
    for header in &args.headers {
        let separator = if header.name == "cookie" { "; " } else { ", " };
        headers
            .entry(&header.name)
            .and_modify(|value| {
                value.push_str(separator);
                value.push_str(&header.value);
            })
            .or_insert_with(|| header.value.clone());
    }
    let mut body = json!({ "method": args.method.to_ascii_uppercase(), "url": args.url, "headers": headers });
    if let (Some(client), Value::Object(body)) = (args.client, &mut body) {
        body.insert("client".into(), client.to_string().into());
    }
    body
}

/// The decision over several lines.
fn words(answer: &Value, _: Colours) -> String {
    format!("{answer:#}\n")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn sent(arguments: &[&str]) -> Value {
        let words = ["tidegate", "explain"].iter().chain(arguments);
        let Command::Explain(args) = Cli::try_parse_from(words).unwrap().command else { panic!("another verb") };
        body(&args)
    }

    #[test]
    fn a_request_is_sent_as_a_client_would_send_it() {
        assert_eq!(sent(&["http://h/p"]), json!({"method": "GET", "url": "http://h/p", "headers": {}}));
        assert_eq!(
            sent(&[
                "http://h/",
                "-X",
                "post",
                "-H",
                "X-Beta:  1",
                "-H",
                "x-beta: 2",
                "-H",
                "Cookie: a=1",
                "-H",
                "cookie: b=2",
                "--client",
                "::1"
            ]),
            json!({"method": "POST", "url": "http://h/", "headers": {"x-beta": "1, 2", "cookie": "a=1; b=2"}, "client": "::1"})
        );
    }
}
