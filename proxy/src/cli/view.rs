//! `tidegate status` as a picture: the services as the API shows them, laid out. Knows nothing of HTTP.

use std::collections::BTreeMap;

use tidegate_admin::dto::{
    ServiceView as Service,
    event::{CauseView, HealthView},
    mirror::MirrorView as Mirror,
    service::{ActiveFailover, PreparingFailover, TargetStatus, TargetView as Target},
};

use crate::cli::{
    output::{Colours, Ink, printable},
    table::{self, Cell},
};

/// Requests a second by service and target.
pub(crate) type Rates<'a> = BTreeMap<(&'a str, &'a str), f64>;

/// The rates between two looks at the same services.
pub(crate) fn rates<'a>(before: &[Service], now: &'a [Service], seconds: f64) -> Rates<'a> {
    let mut rates = Rates::new();
    for service in now {
        let Some(earlier) = before.iter().find(|other| other.name == service.name) else { continue };
        for target in &service.targets {
            let Some(earlier) = earlier.targets.iter().find(|other| other.name == target.name) else { continue };
            // A counter that went back belongs to a new process: no rate is better than a wrong one.
            let Some(new) = target.requests.checked_sub(earlier.requests) else { continue };
            rates.insert((&service.name, &target.name), new as f64 / seconds);
        }
    }
    rates
}

/// The picture: a table of the targets, then what else is to be known, then the generation.
pub(crate) fn render(services: &[Service], rates: &Rates<'_>, colours: Colours) -> String {
    if services.is_empty() {
        return "no services\n".to_owned();
    }
    let mut rows = vec![head()];
    rows.extend(services.iter().flat_map(|service| rows_of(service, rates)));
    let mut text = table::render(&rows, colours);
    for (ink, note) in services.iter().flat_map(notes_of) {
        text.push_str(&ink.paint(&printable(&note), colours));
        text.push('\n');
    }
    let generation = services.iter().map(|service| service.generation).max().unwrap_or_default();
    text.push_str(&Ink::Dim.paint(&format!("generation {generation}"), colours));
    text.push('\n');
    text
}

fn head() -> Vec<Cell> {
    let cells = [
        Cell::text("SERVICE"),
        Cell::text("TARGET"),
        Cell::number("WEIGHT"),
        Cell::number("HEALTH"),
        Cell::number("REQ/S"),
        Cell::number("IN FLIGHT"),
        Cell::text(""),
    ];
    cells.into_iter().map(|cell| cell.ink(Ink::Strong)).collect()
}

fn rows_of(service: &Service, rates: &Rates<'_>) -> Vec<Vec<Cell>> {
    let row = |(n, target): (usize, &Target)| {
        let rate = rates.get(&(service.name.as_str(), target.name.as_str()));
        let weight = if target.weight.0 > 0.0 { Ink::Plain } else { Ink::Dim };
        let (health, ink) = health_of(target);
        vec![
            Cell::text(if n == 0 { printable(&service.name) } else { String::new() }),
            Cell::text(printable(&target.name)),
            Cell::number(format!("{} %", target.weight.0)).ink(weight),
            Cell::number(health).ink(ink),
            Cell::number(rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))),
            Cell::number(target.running.to_string()),
            Cell::text(remarks_on(service, target)),
        ]
    };
    service.targets.iter().enumerate().map(row).collect()
}

/// How many of a target's endpoints are in use; one that is suspect still is.
fn health_of(target: &Target) -> (String, Ink) {
    let is = |health: HealthView| target.endpoints.iter().filter(|endpoint| endpoint.health == health).count();
    let (used, all) = (is(HealthView::Healthy) + is(HealthView::Suspect), target.endpoints.len());
    let ink = match (used, is(HealthView::Healthy)) {
        (0, _) => Ink::Bad,
        (_, healthy) if healthy < all => Ink::Warn,
        _ => Ink::Good,
    };
    (format!("{used}/{all}"), ink)
}

fn remarks_on(service: &Service, target: &Target) -> String {
    let mut remarks = Vec::new();
    if service.stable == target.name {
        remarks.push("stable");
    }
    match target.status {
        TargetStatus::Open => {}
        TargetStatus::Draining => remarks.push("draining"),
        TargetStatus::Drained => remarks.push("drained"),
    }
    match &service.failover.active {
        Some(failover) if failover.from == target.name => remarks.push("failed over"),
        Some(failover) if failover.to == target.name => remarks.push("carries the failover"),
        _ => {}
    }
    remarks.join(", ")
}

fn notes_of(service: &Service) -> Vec<(Ink, String)> {
    let name = &service.name;
    let mut notes = Vec::new();
    if service.hold {
        notes.push((Ink::Bad, format!("{name}: requests wait; `tidegate release {name}` lets them go on")));
    }
    if let Some(ActiveFailover { from, to, cause, since, .. }) = &service.failover.active {
        let by = match cause {
            CauseView::Health => "health",
            CauseView::Operator => "operator",
        };
        let text = format!("{name}: failover {from} -> {to} since {since} ({by}); `tidegate restore {name}` ends it");
        notes.push((Ink::Bad, text));
    }
    if let Some(PreparingFailover { from, to, since, held, .. }) = &service.failover.preparing {
        let how = if *held { "is held: its command failed" } else { "waits for its command" };
        let text = format!("{name}: failover {from} -> {to} {how}, since {since}; `tidegate restore {name}` ends it");
        notes.push((Ink::Bad, text));
    }
    for removed in &service.removed {
        let seconds = removed.closes_in_ms.div_ceil(1000);
        let text =
            format!("{name}: target {} was removed; what still runs on it is closed in {seconds} s", removed.name);
        notes.push((Ink::Plain, text));
    }
    for Mirror { name: mirror, to, percent, results, .. } in &service.mirrors {
        let all: u64 = results.values().sum();
        let sent = results.get("sent").copied().unwrap_or_default();
        let lost = all.saturating_sub(sent);
        let ink = if lost > 0 { Ink::Warn } else { Ink::Plain };
        notes.push((ink, format!("{name}: mirror {mirror} -> {to} {} %, {sent} copies, {lost} lost", percent.0)));
    }
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn target(name: &str, weight: f64, healths: &[&str], requests: u64) -> Value {
        let endpoint = |(n, health): (usize, &&str)| {
            json!({"address": format!("127.0.0.1:{}", n + 1), "weight": 1, "health": health,
                "in_flight": 0, "requests": 0, "failures": 0})
        };
        json!({"name": name, "weight": weight, "status": "open", "available": true, "running": 3, "closes_in_ms": null,
            "requests": requests, "diverted": 0, "statuses": {},
            "endpoints": healths.iter().enumerate().map(endpoint).collect::<Vec<_>>()})
    }

    fn service(name: &str, stable: &str, targets: &[Value]) -> Value {
        json!({"name": name, "generation": 12, "stable": stable, "split": {}, "targets": targets,
            "failover": {"policy": null, "active": null}, "mirrors": [], "sticky": null, "listeners": [], "routes": [],
            "differences": []})
    }

    fn services(requests: u64) -> Vec<Service> {
        let green = target("green", 99.5, &["unhealthy", "unknown"], requests);
        let mut v2 = target("v2", 0.0, &["suspect"], requests);
        v2["status"] = json!("draining");
        let mut web = service("web", "green", &[green, target("blue", 0.5, &["healthy", "unhealthy"], requests), v2]);
        web["failover"]["active"] = json!({"from": "green", "to": "blue", "share": 100, "cause": "health",
            "phase": "holding", "since": "2026-11-03T09:15:00.250Z", "since_unix_ms": 0});
        web["failover"]["preparing"] = json!({"from": "green", "to": "v2", "cause": "operator", "held": false,
            "reason": "an operator asked for it", "since": "2026-11-03T09:16:00.250Z", "since_unix_ms": 0});
        web["hold"] = json!(true);
        web["removed"] = json!([{"name": "v1", "closes_in_ms": 11_001}]);
        web["mirrors"] = json!([{"name": "audit", "to": "v3", "percent": 100, "methods": ["GET"], "max_body": 0,
            "compare": false, "ignore": [], "remove_headers": [], "set_headers": [], "in_flight": 0,
            "results": {"sent": 1234, "timeout": 2}, "statuses": {}, "compared": 0, "differences": {}}]);
        let api = service("api", "v1", &[target("v1", 100.0, &["healthy", "healthy"], requests)]);
        serde_json::from_value(json!([web, api])).unwrap()
    }

    #[test]
    fn the_picture_lines_up() {
        let now = services(150);
        let shown = render(&now, &rates(&services(100), &now, 2.0), Colours::Off);
        assert_eq!(
            shown,
            "\
SERVICE  TARGET  WEIGHT  HEALTH  REQ/S  IN FLIGHT
web      green   99.5 %     0/2   25.0          3  stable, failed over
         blue     0.5 %     1/2   25.0          3  carries the failover
         v2         0 %     1/1   25.0          3  draining
api      v1       100 %     2/2   25.0          3  stable
web: requests wait; `tidegate release web` lets them go on
web: failover green -> blue since 2026-11-03T09:15:00.250Z (health); `tidegate restore web` ends it
web: failover green -> v2 waits for its command, since 2026-11-03T09:16:00.250Z; `tidegate restore web` ends it
web: target v1 was removed; what still runs on it is closed in 12 s
web: mirror audit -> v3 100 %, 1234 copies, 2 lost
generation 12
"
        );
    }

    #[test]
    fn a_counter_that_went_back_gives_no_rate() {
        let now = services(1);
        let rates = rates(&services(100), &now, 1.0);
        assert!(rates.is_empty());
        assert!(render(&now, &rates, Colours::Off).contains("2/2      -          3"));
    }

    #[test]
    fn colours_tell_health_at_a_glance() {
        let shown = render(&services(1), &Rates::new(), Colours::On);
        for (ink, text) in [(Ink::Bad, "0/2"), (Ink::Warn, "1/2"), (Ink::Warn, "1/1"), (Ink::Good, "2/2")] {
            assert!(shown.contains(&ink.paint(text, Colours::On)), "{text}");
        }
    }

    #[test]
    fn without_services_that_is_said() {
        assert_eq!(render(&[], &Rates::new(), Colours::Off), "no services\n");
    }
}
