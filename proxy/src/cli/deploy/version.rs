//! The verbs about the versions of a service: which is main, which are shadows, which are bad.

use serde_json::{Map, Value, json};
use tidegate_admin::dto::{
    VersionsReply, VersionsView,
    version::{KnownView, VersionView},
};
use tidegate_config::ServiceId;

use super::{DONE, in_few_options, wait, wait::Wish};
use crate::cli::{
    args::{AssignArgs, BadArgs, ChangeArgs, DeployArgs, KillArgs, LsArgs, UnbadArgs, WaitArgs},
    client::{Call, segment},
    error::{CliError, Format},
    output::{self, Colours, Ink, printable},
    session::{Ask, Session},
    table::{Cell, render},
};

fn of(service: &ServiceId, rest: &str) -> String {
    format!("/api/services/{service}{rest}")
}

/// `tidegate deploy`: the exit code.
pub(crate) async fn deploy(session: &Session, args: &DeployArgs) -> Result<u8, CliError> {
    let mut body =
        Map::from_iter([("version".to_owned(), json!(args.version)), ("source".to_owned(), json!(args.source))]);
    body.extend(args.to.as_ref().map(|to| ("to".to_owned(), json!(to))));
    if !args.endpoints.is_empty() {
        body.insert("endpoints".into(), json!(args.endpoints));
    }
    let call = Call::post(of(&args.service, "/versions"), Value::Object(body));
    let answer = session.change(call, "", Ask::Never, &args.change).await.map_err(in_few_options)?;
    let reply: VersionsReply = session.client.decode(&answer)?;
    let id = reply.deployment.map(|deployment| deployment.status.id);
    let Some(id) = id.filter(|_| !args.change.dry_run && !args.detach) else {
        return session.print(&answer, deployed).map(|()| DONE);
    };
    let (code, last) = wait::follow(session, &id, Wish::Success, &WaitArgs { wait: true, wait_timeout: None }).await?;
    if code != DONE || session.format == Format::Json {
        super::print_end(session, &id, code, &last)?;
        return Ok(code);
    }
    output::result(&format!("{} {} is deployed\n", args.service, printable(&args.version)))?;
    list(session, Some(&args.service)).await.map(|()| code)
}

/// `tidegate ls`.
pub(crate) async fn ls(session: &Session, args: &LsArgs) -> Result<(), CliError> {
    list(session, args.service.as_ref()).await
}

async fn list(session: &Session, service: Option<&ServiceId>) -> Result<(), CliError> {
    match service {
        Some(service) => session.show(&Call::get(of(service, "/versions")), picture).await,
        None => session.show(&Call::get("/api/versions"), picture).await,
    }
}

/// `tidegate assign`.
pub(crate) async fn assign(session: &Session, args: &AssignArgs) -> Result<(), CliError> {
    let AssignArgs { service, version, change } = args;
    let call = Call::put(of(service, "/main"), json!({ "version": version }));
    let what = format!("change {service} {} to main", printable(version));
    let done = format!("changed main version to {service} {}", printable(version));
    told(session, call, &what, &done, change).await
}

/// `tidegate kill`.
pub(crate) async fn kill(session: &Session, args: &KillArgs) -> Result<(), CliError> {
    let KillArgs { service, version, change } = args;
    let (path, name) = match version {
        Some(version) => {
            (of(service, &format!("/versions/{}", segment(version))), format!("{service} {}", printable(version)))
        }
        None => (of(service, ""), format!("all versions of {service}")),
    };
    let what = format!("kill {name}");
    told(session, Call::delete(path), &what, &format!("killed {name}"), change).await
}

/// `tidegate bad`.
pub(crate) async fn bad(session: &Session, args: &BadArgs) -> Result<(), CliError> {
    let BadArgs { service, version, reason, change } = args;
    let body = reason.as_ref().map_or_else(|| json!({}), |why| json!({ "why": why }));
    let call = Call::put(of(service, &format!("/versions/{}/bad", segment(version))), body);
    marked(session, call, &format!("{service} {} is marked as bad", printable(version)), change).await
}

/// `tidegate unbad`.
pub(crate) async fn unbad(session: &Session, args: &UnbadArgs) -> Result<(), CliError> {
    let UnbadArgs { service, version, change } = args;
    let call = Call::delete(of(service, &format!("/versions/{}/bad", segment(version))));
    marked(session, call, &format!("{service} {} is not marked as bad any more", printable(version)), change).await
}

/// Asks, changes, and shows the versions as they are then.
async fn told(session: &Session, call: Call, what: &str, done: &str, args: &ChangeArgs) -> Result<(), CliError> {
    // A stop command takes its time, and the answer comes when it has ended.
    let answer = session.change_patiently(call, what, Ask::First, args, STOP).await?;
    session.print(&answer, |answer, colours| format!("{}{}", said(done, args), picture(answer, colours)))
}

async fn marked(session: &Session, call: Call, done: &str, args: &ChangeArgs) -> Result<(), CliError> {
    let answer = session.change(call, "", Ask::Never, args).await?;
    session.print(&answer, |_, _| said(done, args))
}

/// Longest stop command that is waited for, and a little more: longer ones are ended by the proxy only after a day.
const STOP: std::time::Duration = std::time::Duration::from_secs(600);

fn said(done: &str, args: &ChangeArgs) -> String {
    if args.dry_run { format!("{done} (dry run: nothing was changed)\n") } else { format!("{done}\n") }
}

/// A version that is being deployed, and the others.
fn deployed(answer: &Value, colours: Colours) -> String {
    let Ok(reply) = serde_json::from_value::<VersionsReply>(answer.clone()) else { return format!("{answer:#}\n") };
    let mut text = String::new();
    if let Some(plan) = &reply.plan {
        text.push_str(&super::picture::asked_for(plan, colours));
        text.push_str("(dry run: nothing was changed)\n");
    } else if let Some(deployment) = &reply.deployment {
        text.push_str(&format!("deployment {}\n", printable(&deployment.status.id)));
    }
    text.push_str(&picture(answer, colours));
    text
}

/// Versions of one service or of many.
fn picture(answer: &Value, colours: Colours) -> String {
    let services = match answer {
        Value::Array(_) => serde_json::from_value::<Vec<VersionsView>>(answer.clone()),
        _ => serde_json::from_value::<VersionsView>(answer.clone()).map(|service| vec![service]),
    };
    // Of a newer server: shown as it is.
    let Ok(services) = services else { return format!("{answer:#}\n") };
    let head = ["MAIN", "NAME", "VERSION", "STATUS", "RUNNING"];
    let mut rows = vec![head.map(|title| Cell::text(title).ink(Ink::Strong)).to_vec()];
    for service in &services {
        rows.extend(service.versions.iter().map(|version| row(service, version)));
    }
    services.iter().fold(render(&rows, colours), |text, service| text + &marks(service, colours))
}

/// The versions of a service that are not deployed again, a line each.
fn marks(service: &VersionsView, colours: Colours) -> String {
    let of = |known: &KnownView| {
        let bad = known.bad.as_ref()?;
        let (name, version) = (&service.service, &known.name);
        let line = format!("{name} {version} is bad since {}: {}", plain_time(&bad.at), bad.why);
        Some(Ink::Bad.paint(&printable(&line), colours) + "\n")
    };
    service.known.iter().filter_map(of).collect()
}

fn row(service: &VersionsView, version: &VersionView) -> Vec<Cell> {
    let runs = version.status == "running";
    let name = version.version.as_ref().unwrap_or(&version.target);
    let since = version.since.as_deref().map_or_else(String::new, |since| format!(" (since {})", plain_time(since)));
    vec![
        Cell::text(if version.main { "*" } else { "" }),
        Cell::text(printable(&service.service)),
        Cell::text(printable(name)),
        Cell::text(printable(&version.status)).ink(if runs { Ink::Good } else { Ink::Bad }),
        Cell::text(printable(&if runs { format!("Running{since}") } else { "-".to_owned() })),
    ]
}

/// `2026-11-03T09:15:00.250Z` for people: `2026-11-03 09:15:00`.
fn plain_time(text: &str) -> String {
    text.split('.').next().unwrap_or(text).trim_end_matches('Z').replacen('T', " ", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello() -> Value {
        let version = |main: bool, target: &str, version: Option<&str>, status: &str| {
            json!({"main": main, "target": target, "version": version, "status": status,
                "since": version.map(|_| "2020-11-23T11:30:00.123Z")})
        };
        let bad = json!({"why": "loses carts", "at": "2020-11-24T09:15:00.250Z", "labels": {}});
        let known =
            |key: &str, bad: Value| json!({"key": key, "name": key, "image": null, "good_at": null, "bad": bad});
        let known = [known("1.5.0", bad), known("2.0.0", Value::Null)];
        json!({"service": "hello", "main": "v1", "known": known, "versions": [version(true, "v1", Some("1.0.0"), "running"),
            version(false, "v2", Some("2.0.0"), "down"), version(false, "v3", None, "running")]})
    }

    const TABLE: &str = "\
MAIN  NAME   VERSION  STATUS   RUNNING
*     hello  1.0.0    running  Running (since 2020-11-23 11:30:00)
      hello  2.0.0    down     -
      hello  v3       running  Running
hello 1.5.0 is bad since 2020-11-24 09:15:00: loses carts
";

    #[test]
    fn versions_are_listed_with_main_marked_and_bad_ones_told() {
        assert_eq!(picture(&hello(), Colours::Off), TABLE);
        assert_eq!(picture(&json!([hello()]), Colours::Off), TABLE);
        assert_eq!(picture(&json!({"tide": 1}), Colours::Off), "{\n  \"tide\": 1\n}\n");
    }

    #[test]
    fn a_dry_run_says_so() {
        let args = |dry_run| ChangeArgs { dry_run, if_match: None, yes: false };
        assert_eq!(said("killed web 1", &args(true)), "killed web 1 (dry run: nothing was changed)\n");
        assert_eq!(said("killed web 1", &args(false)), "killed web 1\n");
    }
}
