//! Deployments as people read them. Knows nothing of HTTP.

use serde_json::Value;
use tidegate_admin::dto::{
    DeploymentReply, DeploymentView, DiagnosisView, HistoryLine, MetricsView, PlanView, StatusView, Weights,
};

use crate::cli::{
    output::{Colours, Ink, printable},
    table::{Cell, render},
};

/// An answer that this program does not know, of a newer server: as it is.
fn unknown(answer: &Value) -> String {
    format!("{answer:#}\n")
}

fn read<T: serde::de::DeserializeOwned>(answer: &Value) -> Option<T> {
    serde_json::from_value(answer.clone()).ok()
}

fn ink_of(state: &str) -> Ink {
    match state {
        "succeeded" => Ink::Good,
        "paused" | "rolling-back" => Ink::Warn,
        "rolled-back" | "failed" => Ink::Bad,
        "pending" | "cancelled" => Ink::Dim,
        _ => Ink::Plain,
    }
}

/// Names and values, a line each; those without a value are left out.
struct Fields(String, Colours);

impl Fields {
    fn head(text: &str, colours: Colours) -> Self {
        Self(format!("{}\n", Ink::Strong.paint(&printable(text), colours)), colours)
    }

    fn line(&mut self, name: &str, ink: Ink, value: &str) {
        if !value.is_empty() {
            self.0.push_str(&format!("  {name:<11}{}\n", ink.paint(&printable(value), self.1)));
        }
    }

    fn plain(&mut self, name: &str, value: &str) {
        self.line(name, Ink::Plain, value);
    }

    fn times(&mut self, status: &StatusView) {
        self.plain("created", &status.created_at);
        self.plain("updated", &status.updated_at);
    }
}

fn yes_or_no(truth: bool) -> &'static str {
    if truth { "yes" } else { "no" }
}

/// `tidegate deployment status`.
pub(super) fn status(answer: &Value, colours: Colours) -> String {
    let Some(status) = read::<StatusView>(answer) else { return unknown(answer) };
    let mut fields = Fields::head(&status.id, colours);
    fields.line("status", ink_of(&status.state), &state_of(&status));
    fields.plain("progress", &format!("{} %", status.progress));
    fields.plain("details", &status.details);
    fields.times(&status);
    fields.plain("completed", yes_or_no(status.completed));
    fields.plain("successful", yes_or_no(status.successful));
    fields.plain("labels", &labels(&status));
    fields.0
}

/// The status, and the state where that says more.
fn state_of(status: &StatusView) -> String {
    if status.status == status.state { status.state.clone() } else { format!("{} ({})", status.status, status.state) }
}

fn labels(status: &StatusView) -> String {
    let labels: Vec<_> = status.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    labels.join(" ")
}

fn services(deployment: &DeploymentView) -> String {
    deployment.members.iter().map(|member| member.service.as_str()).collect::<Vec<_>>().join(" ")
}

fn weights(weights: &Weights) -> String {
    weights.iter().map(|(target, percent)| format!("{target}={}", percent.0)).collect::<Vec<_>>().join(" ")
}

/// Each thing once, in its order.
fn distinct<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut found: Vec<&str> = Vec::new();
    for text in texts.filter(|text| !text.is_empty()) {
        if !found.contains(&text) {
            found.push(text);
        }
    }
    found.join(" ")
}

/// `tidegate deployment get`.
pub(super) fn details(answer: &Value, colours: Colours) -> String {
    let Some(deployment) = read::<DeploymentView>(answer) else { return unknown(answer) };
    let status = &deployment.status;
    let head = format!("{}  {} of {}", status.id, deployment.strategy, services(&deployment));
    let mut fields = Fields::head(&head, colours);
    fields.plain("name", deployment.name.as_deref().unwrap_or_default());
    fields.plain("project", deployment.project.as_deref().unwrap_or_default());
    fields.plain("stage", deployment.stage.as_deref().unwrap_or_default());
    let state = format!("{}, {} %: {}", state_of(status), status.progress, status.details);
    fields.line("status", ink_of(&status.state), &state);
    for member in &deployment.members {
        let image = member.image.as_deref().filter(|image| *image != member.version);
        let image = image.map_or_else(String::new, |image| format!(", image {image}"));
        let previous = member.previous.as_deref().map_or_else(String::new, |previous| format!(", before {previous}"));
        let what = format!("{} -> {}, version {}{image}{previous}", member.from, member.to.join(" "), member.version);
        fields.plain("service", &format!("{}: {what}", member.service));
    }
    for (service, split) in &deployment.traffic {
        fields.plain("traffic", &format!("{service}: {}", weights(split)));
    }
    for (service, verdict) in &deployment.verdicts {
        let samples = format!("{} samples beside {}", verdict.samples, verdict.baseline_samples);
        fields.plain("analysis", &format!("{service}: {}: {} ({samples})", verdict.verdict, verdict.reason));
    }
    if let Some(paused) = &deployment.paused {
        fields.line("paused", Ink::Warn, &format!("{}, until {}", paused.reason, paused.until));
    }
    if let Some(why) = &deployment.why {
        fields.line("why", Ink::Bad, &format!("{}: {}", why.kind, why.message));
    }
    for trouble in &deployment.troubles {
        fields.line("trouble", Ink::Bad, trouble);
    }
    fields.plain("winner", deployment.winner.as_deref().unwrap_or_default());
    fields.plain("retry of", deployment.retry_of.as_deref().unwrap_or_default());
    fields.times(status);
    fields.plain("finished", deployment.finished_at.as_deref().unwrap_or_default());
    fields.plain("labels", &labels(status));
    fields.plain("variables", &deployment.env.join(" "));
    for warning in &deployment.warnings {
        fields.line("warning", Ink::Warn, warning);
    }
    fields.0
}

/// `tidegate deployment list`.
pub(super) fn list(answer: &Value, colours: Colours) -> String {
    let Some(deployments) = read::<Vec<DeploymentView>>(answer) else { return unknown(answer) };
    if deployments.is_empty() {
        return "no deployments\n".to_owned();
    }
    let [id, strategy, service, version, state] = ["ID", "STRATEGY", "SERVICE", "VERSION", "STATE"].map(Cell::text);
    let [updated, name] = ["UPDATED", "NAME"].map(Cell::text);
    let head = [id, strategy, service, version, state, Cell::number("DONE"), updated, name];
    let mut rows = vec![head.map(|cell| cell.ink(Ink::Strong)).to_vec()];
    rows.extend(deployments.iter().map(|deployment| {
        let status = &deployment.status;
        let versions = distinct(deployment.members.iter().map(|member| member.version.as_str()));
        vec![
            Cell::text(printable(&status.id)),
            Cell::text(printable(&deployment.strategy)),
            Cell::text(printable(&services(deployment))),
            Cell::text(printable(&versions)),
            Cell::text(printable(&status.state)).ink(ink_of(&status.state)),
            Cell::number(format!("{} %", status.progress)),
            Cell::text(printable(&status.updated_at)),
            Cell::text(printable(deployment.name.as_deref().unwrap_or_default())),
        ]
    }));
    render(&rows, colours)
}

/// `tidegate deployment plan`.
pub(super) fn plan(answer: &Value, colours: Colours) -> String {
    let Some(plan) = read::<PlanView>(answer) else { return unknown(answer) };
    let mut text = steps(&plan, Stands::Somewhere, colours);
    if !plan.undo.is_empty() {
        text.push_str(&format!("a rollback would now: {}\n", printable(&plan.undo.join(", "))));
    }
    text
}

/// Whether a plan is being carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// It may be, at a step.
    Somewhere,
    /// It was only asked for.
    Nowhere,
}

/// The steps of a plan that was only asked for.
pub(super) fn asked_for(plan: &PlanView, colours: Colours) -> String {
    steps(plan, Stands::Nowhere, colours)
}

fn steps(plan: &PlanView, stands: Stands, colours: Colours) -> String {
    let head = [Cell::number("#"), Cell::text("STEP"), Cell::text("WHAT"), Cell::text("TAKEN BACK BY"), Cell::text("")];
    let mut rows = vec![head.map(|cell| cell.ink(Ink::Strong)).to_vec()];
    rows.extend(plan.steps.iter().map(|step| {
        let (mark, ink) = match step.progress.as_str() {
            "done" if stands == Stands::Somewhere => ("done", Ink::Dim),
            "now" if stands == Stands::Somewhere => ("now", Ink::Warn),
            _ => ("", Ink::Plain),
        };
        vec![
            Cell::number(step.number.to_string()),
            Cell::text(printable(&step.name)).ink(ink),
            Cell::text(printable(&step.text)).ink(ink),
            Cell::text(printable(&step.undo.join(", "))).ink(Ink::Dim),
            Cell::text(mark).ink(ink),
        ]
    }));
    let mut text = render(&rows, colours);
    for warning in &plan.warnings {
        text.push_str(&format!("{}\n", Ink::Warn.paint(&printable(&format!("warning: {warning}")), colours)));
    }
    text
}

/// What became of an order.
pub(super) fn reply(answer: &Value, colours: Colours) -> String {
    let Some(reply) = read::<DeploymentReply>(answer) else { return unknown(answer) };
    let DeploymentView { status, strategy, warnings, .. } = &reply.deployment;
    let of = services(&reply.deployment);
    if let (true, Some(plan)) = (reply.dry_run, &reply.plan) {
        let head = format!("{strategy} of {of} (dry run: nothing was changed)\n");
        return format!("{}{}", printable_line(&head), asked_for(plan, colours));
    }
    let state = ink_of(&status.state).paint(&printable(&status.details), colours);
    let id = Ink::Strong.paint(&printable(&status.id), colours);
    let mut text = format!("{id}  {}: {state}", printable(&format!("{strategy} of {of}")));
    text.push_str(if reply.dry_run { " (dry run: nothing was changed)\n" } else { "\n" });
    for warning in warnings.iter().filter(|_| status.state == "pending") {
        text.push_str(&format!("  {}\n", Ink::Warn.paint(&printable(&format!("warning: {warning}")), colours)));
    }
    if !reply.dry_run {
        text.push_str(&next(&status.id, &status.state, colours));
    }
    text
}

fn printable_line(text: &str) -> String {
    format!("{}\n", printable(text.trim_end()))
}

/// What can be done next.
pub(super) fn next(id: &str, state: &str, colours: Colours) -> String {
    let verbs: &[&str] = match state {
        "pending" => &["execute"],
        "running" | "rolling-back" => &["status"],
        "paused" => &["promote", "rollback"],
        "rolled-back" | "failed" => &["diagnose"],
        _ => &[],
    };
    let wait = |verb: &str| if matches!(verb, "execute" | "status") { " --wait" } else { "" };
    let line = |verb: &&str| {
        let text = printable(&format!("tidegate deployment {verb} {id}{}", wait(verb)));
        format!("  {}\n", Ink::Dim.paint(&text, colours))
    };
    verbs.iter().map(line).collect()
}

/// `tidegate deployment events`.
pub(super) fn events(answer: &Value, colours: Colours) -> String {
    let Some(lines) = read::<Vec<HistoryLine>>(answer) else { return unknown(answer) };
    if lines.is_empty() {
        return "nothing happened yet\n".to_owned();
    }
    lines.iter().map(|line| told(line, colours)).collect()
}

/// One of them.
pub(super) fn event(value: &Value, colours: Colours) -> String {
    // Of a newer server: as it is, in one line.
    read::<HistoryLine>(value)
        .map_or_else(|| format!("{}\n", printable(&value.to_string())), |line| told(&line, colours))
}

fn told(line: &HistoryLine, colours: Colours) -> String {
    let ink = match line.kind.as_str() {
        "step_failed" | "undo_failed" | "rollback_started" | "version_bad" | "promotion_failed" => Ink::Bad,
        "paused" | "step_skipped" | "recovered" => Ink::Warn,
        _ => Ink::Plain,
    };
    let head = Ink::Dim.paint(&printable(&format!("{} #{}", line.at, line.seq)), colours);
    format!("{head}  {}\n", ink.paint(&printable(&line.text), colours))
}

/// `tidegate deployment diagnose`.
pub(super) fn diagnosis(answer: &Value, colours: Colours) -> String {
    let Some(diagnosis) = read::<DiagnosisView>(answer) else { return unknown(answer) };
    let head = format!("{}: {}", printable(&diagnosis.id), printable(&diagnosis.details));
    let mut text = format!("{}\n", ink_of(&diagnosis.state).paint(&head, colours));
    for warning in &diagnosis.warnings {
        text.push_str(&format!("{}\n", Ink::Warn.paint(&printable(&format!("warning: {warning}")), colours)));
    }
    if diagnosis.findings.is_empty() {
        text.push_str("nothing is known to be wrong\n");
    }
    for finding in &diagnosis.findings {
        text.push_str(&format!("{}\n", Ink::Strong.paint(&printable(&finding.class), colours)));
        for seen in &finding.seen {
            // What a command printed has several lines.
            for line in seen.lines() {
                text.push_str(&format!("  {}\n", Ink::Bad.paint(&printable(line), colours)));
            }
        }
        for advice in &finding.advice {
            text.push_str(&format!("  - {}\n", printable(advice)));
        }
    }
    text
}

/// `tidegate metrics get`.
pub(super) fn metrics(answer: &Value, colours: Colours) -> String {
    let Some(metrics) = read::<MetricsView>(answer) else { return unknown(answer) };
    if metrics.variants.is_empty() {
        return "nothing was counted: the new version has had no traffic, or the deployment is long over\n".to_owned();
    }
    let titles = ["REQUESTS", "ERRORS", "ERRORS %", "P50 ms", "P95 ms", "P99 ms", "VISITORS", "CONVERSIONS", "CONV %"];
    let mut head = vec![Cell::text("SERVICE"), Cell::text("VARIANT")];
    head.extend(titles.map(Cell::number));
    let mut rows: Vec<Vec<Cell>> = vec![head.into_iter().map(|cell| cell.ink(Ink::Strong)).collect()];
    let some = |number: Option<String>| Cell::number(number.unwrap_or_else(|| "-".to_owned()));
    let decimals = |number: Option<f64>, digits: usize| some(number.map(|number| format!("{number:.digits$}")));
    rows.extend(metrics.variants.iter().map(|variant| {
        vec![
            Cell::text(printable(&variant.service)),
            Cell::text(printable(&variant.variant)),
            Cell::number(variant.requests.to_string()),
            Cell::number(variant.errors.to_string()).ink(if variant.errors > 0 { Ink::Warn } else { Ink::Plain }),
            decimals(variant.error_percent, 2),
            decimals(variant.p50_ms, 1),
            decimals(variant.p95_ms, 1),
            decimals(variant.p99_ms, 1),
            some(variant.visitors.map(|count| count.to_string())),
            some(variant.conversions.map(|count| count.to_string())),
            decimals(variant.conversion_percent, 2),
        ]
    }));
    render(&rows, colours)
}

#[cfg(test)]
#[path = "picture_tests.rs"]
mod tests;
