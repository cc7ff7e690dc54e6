//! Every way in which a file can be wrong, with the line, the path and the words.

mod deploy;
mod parts;
mod process;
mod service;

use super::refused;

const TARGETS: &str = r#"
[service.web.target.green]
endpoints = ["127.0.0.1:3001"]
[service.web.target.blue]
endpoints = ["127.0.0.1:3002"]
"#;

/// A whole file.
pub(super) fn whole(text: &str) -> String {
    text.into()
}

/// A line of a service with two targets, the third of the file.
pub(super) fn web(line: &str) -> String {
    format!("[service.web]\nstable = \"green\"\n{line}\n{TARGETS}")
}

/// A line of a service with two targets and no stable one, the second of the file.
pub(super) fn bare(line: &str) -> String {
    format!("[service.web]\n{line}\n{TARGETS}")
}

/// Lines before a service that is right.
pub(super) fn top(lines: &str) -> String {
    format!("{lines}\n[service.web]\nstable = \"green\"\n{TARGETS}")
}

pub(super) fn check(file: fn(&str) -> String, cases: &[(&str, &str)]) {
    for (text, problems) in cases {
        assert_eq!(refused(&file(text)), *problems, "in {text}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = r#"
[server]
threds = 2
grace = 30

[listener.a]
address = "0.0.0.0:3090"
[listener.b]
address = "0.0.0.0:3090"

[admin]
listen = "127.0.0.1:3090"

[service.web]
stable = "grean"
split = { green = 120 }
health = { interval = "5 parsecs", fall = 0 }
failover = { to = "red" }
expose = "yes"

[service.web.target.green]
endpoints = ["127.0.0.1:3001", "127.0.0.1:3001"]

[[service.web.rule]]
when = { header = { x-beta = { regex = "(" } } }
to = "blu"

[service.api]
routes = [{ path = "/api/" }]
"#;
    let expected = r#"line 3: server.threds: unknown key: did you mean threads?
line 4: server.grace: 30 has no unit: write "30s" or another of d, h, m, s, ms
line 9: listener.b.address: 0.0.0.0:3090 is taken by listener a: use another port
line 12: admin.listen: 127.0.0.1:3090 is taken by listener a (0.0.0.0:3090): use another port
line 15: service.web.stable: there is no target "grean": did you mean green?
line 16: service.web.split.green: 120 % is more than 100 %
line 17: service.web.health.interval: "5 parsecs" is not a duration: the unit is unknown; write a whole number and one of d, h, m, s, ms
line 17: service.web.health.fall: 0 is not between 1 and 1000
line 18: service.web.failover.to: there is no target "red": declare it in [service.web.target.NAME] or use one of green
line 19: service.web.expose: expected true or false, not a string
line 22: service.web.target.green.endpoints[1]: 127.0.0.1:3001 is in this target already: give it a weight instead
line 25: service.web.rule[0].when.header.x-beta.regex: "(" is not a regular expression: unclosed group
line 26: service.web.rule[0].to: there is no target "blu": declare it in [service.web.target.NAME] or use one of green
line 28: service.api.target: missing: a service needs a target: add [service.api.target.NAME] with endpoints = ["127.0.0.1:3001"]
line 29: service.api.routes[0].path: "/api/" is not a path prefix: leave the trailing '/' out, it matches everything below it anyway"#;
    assert_eq!(refused(text), expected);
}
