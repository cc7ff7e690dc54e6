//! `tidegate explain`: which target a request would go to, and why.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidegate_admin::dto::explain::{ExplainReply, OutcomeView};

use crate::cli::{
    args::ExplainArgs,
    client::Call,
    error::CliError,
    output::{Colours, Ink, printable},
    session::Session,
};

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
    if let Value::Object(body) = &mut body {
        body.extend(args.client.map(|client| ("client".to_owned(), json!(client))));
        body.extend(args.listener.as_ref().map(|listener| ("listener".to_owned(), json!(listener))));
    }
    body
}

/// The decision, and every reason in the order in which it counted.
fn words(answer: &Value, colours: Colours) -> String {
    let Ok(reply) = serde_json::from_value::<ExplainReply>(answer.clone()) else {
        // Of a newer server: shown as it is.
        return format!("{}\n", printable(&answer.to_string()));
    };
    let (ink, head) = match reply.outcome {
        OutcomeView::Forward => {
            let parts = [&reply.service, &reply.target, &reply.endpoint];
            (Ink::Good, parts.into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join(" / "))
        }
        OutcomeView::Wait => {
            (Ink::Warn, format!("{}: waits for the first verdict on an endpoint", reply.service.unwrap_or_default()))
        }
        OutcomeView::Reject => {
            (Ink::Bad, format!("{} {}", reply.status.unwrap_or_default(), reply.error.unwrap_or_default()))
        }
    };
    let mut lines = format!("{}\n", ink.paint(&printable(&head), colours));
    for reason in &reply.reasons {
        lines.push_str(&format!("  - {}\n", printable(reason)));
    }
    if !reply.mirrors.is_empty() {
        lines.push_str(&format!("copied by {}\n", printable(&reply.mirrors.join(", "))));
    }
    lines.push_str(&Ink::Dim.paint(&format!("generation {}", reply.generation), colours));
    lines.push('\n');
    lines
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

    #[test]
    fn a_decision_is_told_with_its_reasons() {
        let reply = json!({"generation": 7, "outcome": "forward", "service": "web", "route": null, "chosen": "green",
            "target": "green", "endpoint": "127.0.0.1:3002", "mirrors": ["audit"],
            "reasons": ["route 0 of service web matches", "the split chooses green"], "status": null, "error": null});
        assert_eq!(
            words(&reply, Colours::Off),
            "web / green / 127.0.0.1:3002\n  - route 0 of service web matches\n  - the split chooses green\n\
             copied by audit\ngeneration 7\n"
        );
        let reply = json!({"generation": 7, "outcome": "reject", "service": null, "route": null, "chosen": null,
            "target": null, "endpoint": null, "mirrors": [], "reasons": ["no route matches"], "status": 404,
            "error": "there is nothing here"});
        assert_eq!(words(&reply, Colours::Off), "404 there is nothing here\n  - no route matches\ngeneration 7\n");
    }
}
