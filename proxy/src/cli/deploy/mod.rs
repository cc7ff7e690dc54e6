//! The verbs about deployments: one order each, and if asked a look at what becomes of it.

pub(crate) mod bracket;
mod document;
mod file;
mod meter;
mod picture;
pub(crate) mod pipeline;
pub(crate) mod trigger;
pub(crate) mod version;
mod wait;

use bytes::Bytes;
use serde_json::{Value, json};
use tidegate_admin::dto::{DeploymentReply, StatusView};

use self::{document::Name, wait::Wish};
use crate::cli::{
    args::{
        AppCommand, AppDeployArgs, ChangeArgs, ConvertArgs, CreateArgs, DeploymentCommand, DiagnoseArgs, DocumentArgs,
        EventsOfArgs, MetricsArgs, OrderArgs, PipelineName, StatusOfArgs, SteerArgs, WaitArgs, WhichArgs,
    },
    client::{Body, Call},
    error::{CliError, Format},
    events,
    output::{self, Colours},
    session::{Ask, Session, as_it_came},
};

/// Exit code of a verb that did what was asked.
const DONE: u8 = 0;

/// `tidegate deployment`: the exit code.
pub(crate) async fn run(session: &Session, command: &DeploymentCommand) -> Result<u8, CliError> {
    use DeploymentCommand as C;
    let post = |which: &WhichArgs, verb: &str| Call::post(which.path(verb), json!({}));
    match command {
        C::Create(args) => create(session, args).await,
        C::Plan(which) => session.show(&Call::get(which.path("/plan")), picture::plan).await.map(|()| DONE),
        C::List(args) => {
            let of = args.service.as_ref().map_or_else(String::new, |service| format!("?service={service}"));
            session.show(&Call::get(format!("/api/deployments{of}")), picture::list).await.map(|()| DONE)
        }
        C::Get(which) => session.show(&Call::get(which.path("")), picture::details).await.map(|()| DONE),
        C::Execute(args) => execute(session, args).await,
        C::Rollback(args) => rollback(session, args).await,
        C::Status(args) => status(session, args).await,
        C::Promote(args) => {
            let body = if args.full { json!({ "full": true }) } else { json!({}) };
            order(session, Call::post(args.order.which.path("/promote"), body), &args.order).await
        }
        C::Pause(args) => steer(session, post(&args.which, "/pause"), args).await,
        C::Resume(args) => order(session, post(&args.which, "/resume"), args).await,
        C::Skip(args) => order(session, post(&args.which, "/skip"), args).await,
        C::Retry(args) => order(session, post(&args.which, "/retry"), args).await,
        C::Cancel(args) => steer(session, post(&args.which, "/cancel"), args).await,
        C::SelectWinner(args) => {
            let call = Call::post(args.order.which.path("/select-winner"), json!({ "variant": args.variant }));
            order(session, call, &args.order).await
        }
        C::Diagnose(args) => diagnose(session, args).await.map(|()| DONE),
        C::Events(args) => events_of(session, args).await.map(|()| DONE),
        C::Convert(args) => convert(session, args).await.map(|()| DONE),
    }
}

/// `tidegate app`: the exit code.
pub(crate) async fn app(session: &Session, command: &AppCommand) -> Result<u8, CliError> {
    match command {
        AppCommand::Deploy(args) => app_deploy(session, args, "/api/deployments?execute=true").await,
        AppCommand::ZeroDowntimeDeploy(args) => app_deploy(session, args, "/api/deployments/zero-downtime").await,
        AppCommand::DeploymentStatus(args) => status(session, args).await,
        AppCommand::RollbackDeployment(args) => rollback(session, args).await,
    }
}

/// `tidegate metrics get`.
pub(crate) async fn metrics(session: &Session, args: &MetricsArgs) -> Result<(), CliError> {
    let of = args.variant.as_ref().map_or_else(String::new, |variant| format!("?variant={variant}"));
    session.show(&Call::get(args.which.path(&format!("/metrics{of}"))), picture::metrics).await
}

async fn create(session: &Session, args: &CreateArgs) -> Result<u8, CliError> {
    let body = match &args.file {
        Some(path) => file::alone(path, &args.document)?,
        None => body(&args.document, Name::OfDeployment, args.pipeline.as_ref())?,
    };
    let begins = !args.pending && !args.change.dry_run;
    let path = if begins { "/api/deployments?execute=true" } else { "/api/deployments" };
    let made = begin(session, path, body, &args.wait, &args.change).await;
    made.map_err(|error| match (error, &args.file) {
        (CliError::Refused(problem), Some(path)) => CliError::Refused(Box::new(problem.of_file(path))),
        (error, _) => in_options(error, &args.document, Name::OfDeployment),
    })
}

async fn app_deploy(session: &Session, args: &AppDeployArgs, path: &str) -> Result<u8, CliError> {
    let body = body(&args.document, Name::OfService, args.pipeline.as_ref())?;
    let made = begin(session, path, body, &args.wait, &args.change).await;
    made.map_err(|error| in_options(error, &args.document, Name::OfService))
}

fn body(args: &DocumentArgs, name: Name, pipeline: Option<&PipelineName>) -> Result<Body, CliError> {
    let document = document::document(args, name).map_err(misused)?;
    pipeline::with_defaults(document, pipeline).map(Body::Json)
}

fn misused(problems: Vec<String>) -> CliError {
    CliError::Usage(problems.join("\n  "))
}

/// A key by which the API knows a repeated call.
fn idempotency_key() -> String {
    format!("tidegate-{:032x}", rand::random::<u128>())
}

/// The places of a refusal in the words of whoever wrote the options.
fn in_options(error: CliError, args: &DocumentArgs, name: Name) -> CliError {
    match error {
        CliError::Refused(problem) => {
            CliError::Refused(Box::new(problem.renamed(|path| document::option_of(path, args, name))))
        }
        other => other,
    }
}

/// The places of a refusal in the words of verbs with few options.
fn in_few_options(error: CliError) -> CliError {
    let option = |path: &str| match path.split('[').next() {
        Some("endpoints") => Some("--endpoint".to_owned()),
        Some(key @ ("to" | "version" | "image")) => Some(format!("--{key}")),
        _ => None,
    };
    match error {
        CliError::Refused(problem) => CliError::Refused(Box::new(problem.renamed(option))),
        other => other,
    }
}

/// Creates a deployment. However often the connection fails meanwhile, it is created once.
async fn begin(
    session: &Session,
    path: &str,
    body: Body,
    wait: &WaitArgs,
    change: &ChangeArgs,
) -> Result<u8, CliError> {
    let call = Call { body: Some(body), key: Some(idempotency_key()), ..Call::post(path, Value::Null) };
    let answer = session.change(call, "", Ask::Never, change).await?;
    if session.format == Format::Text && !change.dry_run {
        let reply: DeploymentReply = session.client.decode(&answer)?;
        // A plan says its own, and so does what only waits to be executed.
        for warning in reply.deployment.warnings.iter().filter(|_| reply.deployment.status.state != "pending") {
            output::note(&format!("warning: {}\n", output::printable(warning)));
        }
    }
    settle(session, &answer, Wish::Success, wait, change).await
}

async fn order(session: &Session, call: Call, args: &OrderArgs) -> Result<u8, CliError> {
    let answer = session.change(call, "", Ask::Never, &args.change).await?;
    settle(session, &answer, Wish::Success, &args.wait, &args.change).await
}

/// Begins a deployment. One that runs already is as wished: who creates it may have begun it.
async fn execute(session: &Session, args: &OrderArgs) -> Result<u8, CliError> {
    let call = Call::post(args.which.path("/execute"), json!({}));
    let answer = match session.change(call, "", Ask::Never, &args.change).await {
        Err(CliError::Refused(problem)) if problem.is_conflict() => {
            let answer = session.client.send(&Call::get(args.which.path("/status"))).await?;
            let status: StatusView = session.client.decode(&answer)?;
            if status.status != "in_progress" {
                return Err(CliError::Refused(problem));
            }
            return watch_if(session, &answer, &status.id, Wish::Success, &args.wait, picture::status).await;
        }
        other => other?,
    };
    settle(session, &answer, Wish::Success, &args.wait, &args.change).await
}

async fn rollback(session: &Session, args: &OrderArgs) -> Result<u8, CliError> {
    let call = Call::post(args.which.path("/rollback"), json!({}));
    let answer = session.change(call, "take the deployment back", Ask::First, &args.change).await?;
    settle(session, &answer, Wish::Rollback, &args.wait, &args.change).await
}

async fn steer(session: &Session, call: Call, args: &SteerArgs) -> Result<u8, CliError> {
    let answer = session.change(call, "", Ask::Never, &args.change).await?;
    session.print(&answer, picture::reply).map(|()| DONE)
}

/// Shows what became of an order; if asked, when the deployment is over.
async fn settle(
    session: &Session,
    answer: &Bytes,
    wish: Wish,
    wait: &WaitArgs,
    change: &ChangeArgs,
) -> Result<u8, CliError> {
    if change.dry_run {
        return session.print(answer, picture::reply).map(|()| DONE);
    }
    let status: StatusView = session.client.decode(answer)?;
    watch_if(session, answer, &status.id, wish, wait, picture::reply).await
}

/// Follows a deployment if asked; else shows the answer to the order.
async fn watch_if(
    session: &Session,
    answer: &Bytes,
    id: &str,
    wish: Wish,
    wait: &WaitArgs,
    words: fn(&Value, Colours) -> String,
) -> Result<u8, CliError> {
    if !wait.wait {
        return session.print(answer, words).map(|()| DONE);
    }
    if session.format == Format::Text {
        output::note(&format!("deployment {}\n", output::printable(id)));
    }
    watch(session, id, wish, wait).await
}

/// Follows a deployment, and shows how it ended.
async fn watch(session: &Session, id: &str, wish: Wish, wait: &WaitArgs) -> Result<u8, CliError> {
    let (code, last) = wait::follow(session, id, wish, wait).await?;
    print_end(session, id, code, &last).map(|()| code)
}

/// Shows how a deployment ended, and what can be done if that was not as wished.
fn print_end(session: &Session, id: &str, code: u8, last: &Bytes) -> Result<(), CliError> {
    session.print(last, |answer, colours| {
        let state = answer.get("state").and_then(Value::as_str).unwrap_or_default();
        let next = if code == DONE { String::new() } else { picture::next(id, state, colours) };
        picture::status(answer, colours) + &next
    })
}

async fn status(session: &Session, args: &StatusOfArgs) -> Result<u8, CliError> {
    let call = Call::get(args.which.path("/status"));
    if !args.wait.wait {
        return session.show(&call, picture::status).await.map(|()| DONE);
    }
    // The first look must succeed: a mistyped name or address is not worth waiting for.
    let answer = session.client.send(&call).await?;
    let status: StatusView = session.client.decode(&answer)?;
    watch(session, &status.id, Wish::Success, &args.wait).await
}

async fn diagnose(session: &Session, args: &DiagnoseArgs) -> Result<(), CliError> {
    let diagnosis = Call::get(args.which.path("/diagnose"));
    if !args.verbose {
        return session.show(&diagnosis, picture::diagnosis).await;
    }
    let diagnosis = session.client.send(&diagnosis).await?;
    let events = session.client.send(&Call::get(args.which.path("/events"))).await?;
    match session.format {
        Format::Json => {
            let (diagnosis, events): (Value, Value) =
                (session.client.decode(&diagnosis)?, session.client.decode(&events)?);
            let both = json!({ "diagnosis": diagnosis, "events": events });
            Ok(output::result(&format!("{both}\n"))?)
        }
        Format::Text => {
            session.print(&diagnosis, picture::diagnosis)?;
            session.print(&events, picture::events)
        }
    }
}

async fn events_of(session: &Session, args: &EventsOfArgs) -> Result<(), CliError> {
    let path = args.which.path("/events");
    if args.follow {
        return events::follow(session, &path, Some(args.after), picture::event).await;
    }
    session.show(&Call::get(format!("{path}?after={}", args.after)), picture::events).await
}

async fn convert(session: &Session, args: &ConvertArgs) -> Result<(), CliError> {
    let body = json!({ "visitor": args.visitor, "goal": args.goal });
    let answer = session.client.send(&Call::post(args.which.path("/conversions"), body)).await?;
    match session.format {
        Format::Json => Ok(output::result(&as_it_came(&answer))?),
        Format::Text => Ok(output::result("counted\n")?),
    }
}
