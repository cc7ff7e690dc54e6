//! `tidegate bracket`: services that wait to be released together.

use serde_json::{Map, Value, json};
use tidegate_admin::dto::{BracketReply, BracketView, bracket::QueuedView};
use tidegate_config::BracketId;

use super::{DONE, document, document::Name, file, in_few_options, in_options, picture, wait::Wish, watch_if};
use crate::cli::{
    args::{BracketAbortArgs, BracketAddArgs, BracketCommand, BracketCreateArgs, BracketOrderArgs},
    client::{Body, Call},
    error::CliError,
    output::{Colours, Ink, printable},
    session::{Ask, Session},
    table::{Cell, render},
};

/// `tidegate bracket`: the exit code.
pub(crate) async fn run(session: &Session, command: &BracketCommand) -> Result<u8, CliError> {
    match command {
        BracketCommand::Create(args) => create(session, args).await.map(|()| DONE),
        BracketCommand::Add(args) => add(session, args).await.map(|()| DONE),
        BracketCommand::Release(args) => release(session, args).await,
        BracketCommand::Abort(args) => abort(session, args).await.map(|()| DONE),
        BracketCommand::List => session.show(&Call::get("/api/brackets"), list).await.map(|()| DONE),
        BracketCommand::Get(args) => session.show(&Call::get(path(&args.bracket, "")), details).await.map(|()| DONE),
    }
}

fn path(bracket: &BracketId, rest: &str) -> String {
    format!("/api/brackets/{bracket}{rest}")
}

async fn create(session: &Session, args: &BracketCreateArgs) -> Result<(), CliError> {
    let body = match (&args.file, &args.bracket) {
        (Some(path), _) => file::alone(path, &args.document)?,
        (None, name) => {
            let document = document::document(&args.document, Name::OfDeployment).map_err(super::misused)?;
            Body::Json(named(document, name.as_ref()))
        }
    };
    let call = Call { body: Some(body), ..Call::post("/api/brackets", Value::Null) };
    let answer = session.change(call, "", Ask::Never, &args.change).await;
    session.print(&answer.map_err(|error| in_options(error, &args.document, Name::OfDeployment))?, reply)
}

fn named(document: Value, name: Option<&BracketId>) -> Value {
    match (document, name) {
        (Value::Object(mut document), Some(name)) => {
            document.insert("name".into(), json!(name.as_str()));
            Value::Object(document)
        }
        (document, _) => document,
    }
}

async fn add(session: &Session, args: &BracketAddArgs) -> Result<(), CliError> {
    let mut body = Map::from_iter([("service".to_owned(), json!(args.service))]);
    for (key, value) in [("to", &args.to), ("version", &args.version), ("image", &args.image)] {
        body.extend(value.as_ref().map(|value| (key.to_owned(), json!(value))));
    }
    if !args.endpoints.is_empty() {
        body.insert("endpoints".into(), json!(args.endpoints));
    }
    let call = Call::post(path(&args.bracket, "/members"), Value::Object(body));
    let answer = session.change(call, "", Ask::Never, &args.change).await.map_err(in_few_options)?;
    session.print(&answer, reply)
}

async fn release(session: &Session, args: &BracketOrderArgs) -> Result<u8, CliError> {
    let call = Call::post(path(&args.bracket, "/release"), json!({}));
    let answer = session.change(call, "", Ask::Never, &args.change).await?;
    let released: BracketReply = session.client.decode(&answer)?;
    let id = released.release.map(|deployment| deployment.status.id);
    match id.filter(|_| !args.change.dry_run) {
        Some(id) => watch_if(session, &answer, &id, Wish::Success, &args.wait, reply).await,
        None => session.print(&answer, reply).map(|()| DONE),
    }
}

async fn abort(session: &Session, args: &BracketAbortArgs) -> Result<(), CliError> {
    let body = args.reason.as_ref().map_or_else(|| json!({}), |why| json!({ "why": why }));
    let what = format!("give bracket {} up", args.bracket);
    let answer =
        session.change(Call::post(path(&args.bracket, "/abort"), body), &what, Ask::First, &args.change).await?;
    session.print(&answer, reply)
}

fn ink_of(state: &str) -> Ink {
    match state {
        "released" => Ink::Good,
        "aborted" => Ink::Bad,
        "releasing" => Ink::Warn,
        _ => Ink::Plain,
    }
}

/// What a service gets: `web -> blue web:v2`.
fn queued(member: &QueuedView) -> String {
    let to = member.to.as_ref().map_or_else(String::new, |to| format!(" -> {to}"));
    let what = member.version.as_ref().or(member.image.as_ref());
    format!("{}{to} {}", member.service, what.map_or("", String::as_str)).trim_end().to_owned()
}

fn picture_of(bracket: &BracketView, colours: Colours) -> String {
    let head = printable(&format!("bracket {}  {}", bracket.name, bracket.strategy));
    let mut text =
        format!("{} is {}\n", Ink::Strong.paint(&head, colours), ink_of(&bracket.state).paint(&bracket.state, colours));
    for member in &bracket.members {
        text.push_str(&format!("  {}\n", printable(&queued(member))));
    }
    if bracket.members.is_empty() {
        text.push_str("  no service waits in it\n");
    }
    if let Some(why) = &bracket.why {
        text.push_str(&format!("  {}\n", Ink::Bad.paint(&printable(why), colours)));
    }
    if let Some(deployment) = &bracket.deployment {
        text.push_str(&format!("  deployment {}\n", printable(deployment)));
    }
    text
}

/// `tidegate bracket get`.
fn details(answer: &Value, colours: Colours) -> String {
    match serde_json::from_value::<BracketView>(answer.clone()) {
        Ok(bracket) => picture_of(&bracket, colours),
        // Of a newer server: shown as it is.
        Err(_) => format!("{answer:#}\n"),
    }
}

/// What became of an order.
pub(super) fn reply(answer: &Value, colours: Colours) -> String {
    let Ok(reply) = serde_json::from_value::<BracketReply>(answer.clone()) else { return format!("{answer:#}\n") };
    let mut text = picture_of(&reply.bracket, colours);
    if let Some(plan) = &reply.plan {
        text.push_str(&picture::asked_for(plan, colours));
    }
    if reply.dry_run {
        text.push_str("(dry run: nothing was changed)\n");
    }
    text
}

/// `tidegate bracket list`.
fn list(answer: &Value, colours: Colours) -> String {
    let Ok(brackets) = serde_json::from_value::<Vec<BracketView>>(answer.clone()) else {
        return format!("{answer:#}\n");
    };
    if brackets.is_empty() {
        return "no brackets\n".to_owned();
    }
    let head = ["BRACKET", "STRATEGY", "STATE", "SERVICES", "DEPLOYMENT"];
    let mut rows = vec![head.map(|title| Cell::text(title).ink(Ink::Strong)).to_vec()];
    rows.extend(brackets.iter().map(|bracket| {
        let services: Vec<_> = bracket.members.iter().map(|member| member.service.as_str()).collect();
        vec![
            Cell::text(printable(&bracket.name)),
            Cell::text(printable(&bracket.strategy)),
            Cell::text(printable(&bracket.state)).ink(ink_of(&bracket.state)),
            Cell::text(printable(&services.join(" "))),
            Cell::text(printable(bracket.deployment.as_deref().unwrap_or_default())),
        ]
    }));
    render(&rows, colours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bracket(change: Value) -> Value {
        let mut bracket = json!({"name": "spring", "state": "open", "strategy": "blue-green", "deployment": null,
            "why": null, "created_at": "2026-11-03T09:15:00.250Z", "members": [
                {"service": "web", "to": "blue", "version": null, "image": "web:2"},
                {"service": "api", "to": null, "version": "1.4", "image": "api:1.4"}]});
        if let (Value::Object(bracket), Value::Object(change)) = (&mut bracket, change) {
            bracket.extend(change);
        }
        bracket
    }

    #[test]
    fn a_bracket_says_what_waits_in_it() {
        let shown = "bracket spring  blue-green is open\n  web -> blue web:2\n  api 1.4\n";
        assert_eq!(details(&bracket(json!({})), Colours::Off), shown);
        let empty = json!({"members": [], "state": "aborted", "why": "no time", "generation": 7, "dry_run": true});
        assert_eq!(
            reply(&bracket(empty), Colours::Off),
            "bracket spring  blue-green is aborted\n  no service waits in it\n  no time\n(dry run: nothing was changed)\n"
        );
    }

    #[test]
    fn brackets_are_listed() {
        let released = bracket(json!({"name": "autumn", "state": "released", "deployment": "dep-1"}));
        assert_eq!(
            list(&json!([bracket(json!({})), released]), Colours::Off),
            "\
BRACKET  STRATEGY    STATE     SERVICES  DEPLOYMENT
spring   blue-green  open      web api
autumn   blue-green  released  web api   dep-1
"
        );
        assert_eq!(list(&json!([]), Colours::Off), "no brackets\n");
    }

    #[test]
    fn answers_of_a_newer_server_are_shown_as_they_are() {
        for picture in [details, reply, list] {
            assert_eq!(picture(&json!({"tide": 1}), Colours::Off), "{\n  \"tide\": 1\n}\n");
        }
    }
}
