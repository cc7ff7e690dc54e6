//! The description of a configuration is a file that means the same.

use super::{WEB, accepted, examples::EXAMPLES};
use crate::*;

/// Describes a configuration, reads the description, and gives it back.
pub(crate) fn described(config: &Config) -> String {
    let text = toml::to_string(&describe(config)).unwrap();
    let again = accepted(&text);
    assert_eq!(format!("{again:?}"), format!("{config:?}"), "the description reads otherwise:\n{text}");
    assert_eq!(toml::to_string(&describe(&again)).unwrap(), text);
    text
}

#[test]
fn every_example_survives_its_description() {
    // These remove a client's credentials by name; a value that is a credential would be masked.
    for (_, text) in EXAMPLES {
        described(&accepted(text));
    }
}

#[test]
fn a_file_with_every_key_survives_its_description() {
    described(&accepted(EVERYTHING));
}

#[test]
fn the_description_fills_defaults_in() {
    let text = described(&accepted(WEB));
    for line in [
        "listen = \"127.0.0.1:3091\"",
        "address = \"0.0.0.0:3090\"",
        "green = 100",
        "interval = \"5s\"",
        "header_bytes = 65536",
        "drain = \"30s\"",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}

#[test]
fn secrets_show_where_they_are_and_never_what_they_are() {
    let credentials = "
[service.web]
pin = { file = \"/run/pin\" }
health = { headers = { authorization = \"Bearer hunter2\", x-probe = \"shown\" } }
[[service.web.rule]]
when = { header = { X-Api-Key = \"hunter2\" }, cookie = { session_id = { prefix = \"hunter2\" } }, query = { access_token = { regex = \"hunter2\" } } }
to = \"green\"
[service.web.mirror.m]
to = \"green\"
headers = { set = { cookie = \"a=hunter2\" } }
[hook.login]
argv = [\"login\", \"--password\", \"hunter2\", \"--api-key=hunter2\", \"X-Token: hunter2\", \"--verbose\", \"level=3\"]
[stage.dev]
pre_hook = [\"env\", \"DB_PASSWORD=hunter2\", \"migrate\"]
env = { DB_PASSWORD = \"hunter2\", LEVEL = \"loud\" }
[[events.sink]]
name = \"keptn\"
url = \"http://127.0.0.1:1/\"
token = { env = \"KEPTN_TOKEN\" }
";
    let text = toml::to_string(&describe(&accepted(&format!("{credentials}{WEB}")))).unwrap();
    assert!(!text.contains("hunter2"), "{text}");
    for shown in [
        "file = \"/run/pin\"",
        "x-probe = \"shown\"",
        "x-api-key = \"***\"",
        "\"--verbose\", \"level=3\"",
        "LEVEL = \"loud\"",
        "env = \"KEPTN_TOKEN\"",
        "\"migrate\"",
    ] {
        assert!(text.contains(shown), "{shown} is not in\n{text}");
    }
}

/// Every key with another value than its default.
pub(crate) const EVERYTHING: &str = r#"
[server]
threads = 3
state_dir = "/var/lib/tidegate"
grace = "1500ms"
trusted_proxies = ["10.0.0.0/8", "192.168.1.7", "fd00::/8", "0.0.0.0/0"]
forwarded = true
limits = { header_bytes = "32KiB", header_fields = 50, header_timeout = "90s", body_min_rate = 0, connections = 7, connections_per_client = 3 }
access_log = { sample = 0.25 }

[admin]
listen = "[::]:3091"
tokens = [{ name = "ci", role = "operate", env = "CI_TOKEN" }, { name = "me", role = "admin", file = "/run/me" }, { name = "ro", role = "read", env = "_RO" }]
hosts = ["tidegate.internal", "[::1]"]
metrics_auth = true

[listener.plain]
address = "127.0.0.1:0"
h2c = true
[listener.plain2]
address = "127.0.0.1:0"
service_paths = true
preview = "Preview.localhost"
[listener.secure]
address = "[::]:3443"
tls = { cert = "cert.pem", key = "key.pem" }

[flags]
source = "embedded"
values = { RECENT = "on", "new.look" = "25%" }

[hook.copy-db]
argv = ["sqlite3", "a b.db", ".dump"]
timeout = "90s"
[hook.stop]
argv = ["stop"]
idempotent = false

[stage.hardening]
next = "production"
auto_promote = true
strategy = "canary"
steps = [20, 50.5, { set = 100 }]
[stage.production]
strategy = "blue-green"

[watch]
interval = "5s"
fetch = ["git", "pull"]
commit = "stop"
stacks = ["/srv/a/*", "/srv/b/?"]
deploy = false
method = "blue-green"

[events]
prefix = "sh.keptn.event"
node = "edge-1"
[[events.sink]]
name = "keptn"
url = "https://keptn:8080/api?x=1"
token = { file = "/run/keptn" }
types = ["deployment.*", "version.bad"]
backlog = 3
timeout = "1s"
[[events.sink]]
name = "mail"
command = "stop"
[[events.sink]]
name = "log"
file = "/var/log/events.jsonl"

[service.web]
listeners = ["secure", "plain"]
routes = [{ host = "Shop.Example.com", path = "/a%20b/c", strip = true }, { host = "*.example.com" }, { host = "[::1]" }, { host = "10.0.0.1", path = "/x" }]
stable = "green"
split = { green = 66.67, blue = 33.33, old = 0 }
sticky = { cookie = "who", header = "X-User", max_age = "36h" }
health = { method = "head", path = "/healthz?full=1", host = "web", headers = { X-Probe = "1" }, expect = [200, "204", "300-302,307"], body = "ok|fine", interval = "250ms", timeout = "1s", fall = 1, rise = 3 }
failover = { to = "blue", failback = "auto", before = "copy-db", before_timeout = "1m", on_timeout = "hold", after = ["echo", "done", ""] }
start = ["start", "{slot}"]
stop = "stop"
save = "copy-db"
install = ["install"]
pre_hook = ["pre"]
post_hook = "stop"
rollback_hook = ["back"]
keep_old = "10m"
mark_bad = false
drain = "0s"
timeouts = { connect = "100ms", response = "10m", idle = "1d" }
retry = { attempts = 0, budget = 100 }
pin = { env = "WEB_PIN" }
expose = true
max_body = "10MB"
[service.web.target.green]
endpoints = ["127.0.0.1:3001", { address = "https://Green.internal:8443", weight = 3 }]
[service.web.target.blue]
endpoints = ["h2c://[::1]:50051", "unix:/run/blue.sock", "https://unix:/run/tls.sock"]
[service.web.target.old]
endpoints = ["old:1"]
[[service.web.rule]]
to = "old"
[service.web.rule.when]
header = { X-Beta = "1", user-agent = { prefix = "curl/" }, x-any = "*" }
cookie = { beta = { regex = "^(a|b)$" } }
query = { v = "2" }
method = ["get", "POST"]
path = "/shop"
flag = { name = "RECENT", is = "on" }
[[service.web.rule]]
when = { flag = "new.look", method = "delete" }
to = "blue"
[service.web.mirror.m]
to = "old"
percent = 0.01
methods = ["*"]
max_body = "1MiB"
compare = true
ignore = ["$.at"]
headers = { remove = ["X-Trace"], set = { X-Shadow = "yes" } }

[service.tcp]
listeners = ["plain2"]
health = { tcp = true, interval = "2s" }
target = { a = { endpoints = ["a:1"] } }

[service.passive]
routes = [{ path = "/passive" }]
health = false
keep_old = false
target = { "a.b" = { endpoints = ["a:1"] } }
"#;
