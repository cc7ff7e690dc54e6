//! Deployments with the real proxy: traffic runs all the time, and every answer is counted by version and status.
//!
//! The times of the plans are short, and every condition is polled for.

mod blue_green;
mod brackets;
mod canary;
mod crashing;
mod crashing_brackets;
mod hooks;
mod in_place;
mod load;
mod refusing;
mod rolling;
mod shadows;
mod stages;
mod steering;
mod variants;

use serde_json::{Value, json};
use tidegate_e2e::{Origin, Programs, Tidegate};

/// The program that environments of a test run.
fn programs() -> Programs {
    Programs::new(env!("CARGO_BIN_EXE_load-origin"))
}

/// Checks that find out fast.
const HEALTH: &str = r#"health = { path = "/health", interval = "200ms", timeout = "5s", fall = 1, rise = 1 }"#;

/// A service `web` with stable `blue` and a target `green`, both in this process.
fn web(blue: &Origin, green: &Origin) -> String {
    format!(
        "[service.web]\nstable = \"blue\"\n{HEALTH}\n[service.web.target.blue]\nendpoints = [\"{}\"]\n\
         [service.web.target.green]\nendpoints = [\"{}\"]\n",
        blue.address(),
        green.address()
    )
}

/// A document with what all short deployments of `web` have in common, and the rest of it.
fn document(strategy: &str, rest: Value) -> Value {
    let mut document = json!({
        "strategy": strategy, "service": "web", "health_successes": 1, "health_timeout": "10s", "drain_timeout": "5s",
    });
    document.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    document
}

/// The kinds of what happened, in their order.
fn kinds(happened: &[Value]) -> Vec<&str> {
    happened.iter().filter_map(|entry| entry["type"].as_str()).collect()
}

/// The share of a target of `web` after each change of its traffic.
async fn shares(proxy: &Tidegate, target: &str) -> Vec<f64> {
    let events = proxy.done("GET", "/api/events?after=0", None).await;
    let changes = events.as_array().unwrap().iter().filter(|event| event["type"] == "traffic.changed");
    changes.map(|event| event["to"][target].as_f64().unwrap_or(0.0)).collect()
}
