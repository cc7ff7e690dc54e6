//! The file as a whole, the process, the admin API, listeners and flags.

use super::{check, top, whole};

#[test]
fn what_is_not_toml_says_where() {
    check(
        whole,
        &[
            ("a = ", "line 1: column 5: this is not TOML: string values must be quoted, expected literal string"),
            (
                "a = 1
a = 2
[b
c = 'x",
                "line 2: column 1: this is not TOML: duplicate key
line 3: column 3: this is not TOML: unclosed table, expected `]`",
            ),
            (
                r#"""#,
                r#"line 1: column 2: this is not TOML: key with no value, expected `=`
line 1: column 2: this is not TOML: invalid basic string, expected `"`"#,
            ),
            (
                "[service.web]
[service.web]",
                "line 2: column 10: this is not TOML: duplicate key",
            ),
            (
                "[a]
b = 1
b.c = 2
b.d = 3
",
                "line 3: column 1: this is not TOML: cannot extend value of type integer with a dotted key
line 4: column 1: this is not TOML: cannot extend value of type integer with a dotted key",
            ),
            (
                "é = x",
                "line 1: column 1: this is not TOML: invalid unquoted key, expected letters, numbers, `-`, `_`
line 1: column 5: this is not TOML: string values must be quoted, expected literal string",
            ),
        ],
    );
}

#[test]
fn required_parts_are_asked_for() {
    check(
        whole,
        &[
            ("", r#"line 1: service: missing: add [service.NAME.target.NAME] with endpoints = ["127.0.0.1:3001"]"#),
            ("service = 3", "line 1: service: expected a table, not a whole number"),
            (
                "[service]",
                r#"line 1: service: there is no service: add [service.NAME.target.NAME] with endpoints = ["127.0.0.1:3001"]"#,
            ),
            (
                "[service.web]",
                r#"line 1: service.web.target: missing: a service needs a target: add [service.web.target.NAME] with endpoints = ["127.0.0.1:3001"]"#,
            ),
            (
                "[service.web.target]",
                r#"line 1: service.web.target: a service needs a target: add [service.web.target.NAME] with endpoints = ["127.0.0.1:3001"]"#,
            ),
            (
                "[service.web.target.green]",
                r#"line 1: service.web.target.green.endpoints: missing: write endpoints = ["127.0.0.1:3001"]"#,
            ),
            (
                "[service.web.target.green]
endpoints = []",
                r#"line 2: service.web.target.green.endpoints: the list is empty: write endpoints = ["127.0.0.1:3001"]"#,
            ),
            ("service.web.target.green = 1", "line 1: service.web.target.green: expected a table, not a whole number"),
            (
                r#"[service.web.target.green]
endpoints = ["127.0.0.1:3001"]
[service.web.target.blue]
endpoints = ["127.0.0.1:3002"]
"#,
                "line 1: service.web.stable: missing: say which target carries the service (blue, green)",
            ),
        ],
    );
}

#[test]
fn names_are_checked() {
    check(
        whole,
        &[
            (
                r#"[service."a b".target.x]
endpoints = ["a:1"]"#,
                r#"line 1: service."a b": a name must not contain ' ': use letters, digits, '-', '_' and '.'"#,
            ),
            (
                r#"[service.web.target."-x"]
endpoints = ["a:1"]"#,
                "line 1: service.web.target.-x: a name must begin with a letter or digit, not with '-'",
            ),
            (
                r#"[service.web.target.""]
endpoints = ["a:1"]"#,
                r#"line 1: service.web.target."": a name must not be empty"#,
            ),
            (
                r#"[service.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.target.x]
endpoints = ["a:1"]"#,
                r#"line 1: service."aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"...: a name must not be longer than 64 bytes"#,
            ),
        ],
    );
}

#[test]
fn unknown_keys_are_refused_with_what_was_meant() {
    check(
        whole,
        &[
            (
                r#"serve = 1
[service.web.target.green]
endpoints = ["127.0.0.1:3001"]
[service.api]
routes = [{ path = "/api" }]
[service.api.target.blue]
endpoints = ["127.0.0.1:3002"]
"#,
                "line 1: serve: unknown key: did you mean server?",
            ),
            (
                r#"[service.web]
stabel = "green"
[service.web.target.green]
endpoints = ["127.0.0.1:3001"]
"#,
                "line 2: service.web.stabel: unknown key: did you mean stable?",
            ),
            (
                r#"[service.web.targets.a]
endpoints=["a:1"]"#,
                r#"line 1: service.web.target: missing: a service needs a target: add [service.web.target.NAME] with endpoints = ["127.0.0.1:3001"]
line 1: service.web.targets: unknown key: did you mean target?"#,
            ),
        ],
    );
}

#[test]
fn the_process_is_checked() {
    check(
        top,
        &[
            (
                r#"[server]
threads = 0
state_dir = ""
grace = "5"
forwarded = 1"#,
                r#"line 2: server.threads: 0 is not between 1 and 1024
line 3: server.state_dir: the path is empty
line 4: server.grace: "5" is not a duration: the unit is missing; write a whole number and one of d, h, m, s, ms
line 5: server.forwarded: expected true or false, not a whole number"#,
            ),
            (
                r#"[server]
trusted_proxies = ["10.0.0.1/8", "x", "1.2.3.4/33", "1.2.3.4/", "1.2.3.4/+8", 3]"#,
                r#"line 2: server.trusted_proxies[0]: 10.0.0.1/8 does not begin its network: write "10.0.0.0/8"
line 2: server.trusted_proxies[1]: "x" is not a network: write one such as "10.0.0.0/8" or an address
line 2: server.trusted_proxies[2]: "1.2.3.4/33" is not a network: write one such as "10.0.0.0/8" or an address
line 2: server.trusted_proxies[3]: "1.2.3.4/" is not a network: write one such as "10.0.0.0/8" or an address
line 2: server.trusted_proxies[4]: "1.2.3.4/+8" is not a network: write one such as "10.0.0.0/8" or an address
line 2: server.trusted_proxies[5]: expected a string, not a whole number"#,
            ),
            (
                r#"[server.limits]
header_bytes = 10
header_fields = 1000
connections = 0
connections_per_client = 0
header_timeout = "0s"
body_min_rate = -3"#,
                "line 2: server.limits.header_bytes: 10 is less than 1024
line 3: server.limits.header_fields: 1000 is not between 8 and 256
line 4: server.limits.connections: 0 is not between 1 and 10000000
line 5: server.limits.connections_per_client: 0 is not between 1 and 10000000
line 6: server.limits.header_timeout: a duration of zero would never let anything pass: write a longer one
line 7: server.limits.body_min_rate: -3 is not between 0 and 1099511627776",
            ),
            (
                "[server.access_log]
sample = 1.5",
                "line 2: server.access_log.sample: 1.5 is not a share: write 0.0 (nothing) to 1.0 (every request)",
            ),
            ("server = 3", "line 1: server: expected a table, not a whole number"),
        ],
    );
}

#[test]
fn the_admin_address_is_free_and_safe() {
    check(
        top,
        &[
            (
                r#"[admin]
listen = "localhost""#,
                r#"line 2: admin.listen: "localhost" is not an address: write ip:port such as "0.0.0.0:3090""#,
            ),
            (
                r#"[admin]
listen = "unix:x""#,
                r#"line 2: admin.listen: a Unix socket needs an absolute path: write "unix:/run/tidegate/admin.sock""#,
            ),
            (
                r#"[admin]
listen = "0.0.0.0:3091""#,
                r#"line 1: admin.tokens: missing: 0.0.0.0:3091 can be reached by other machines: give tokens = [{ name = "ci", role = "operate", env = "NAME" }], or listen on 127.0.0.1"#,
            ),
            (
                r#"[admin]
listen = "[::ffff:10.0.0.1]:3091""#,
                r#"line 1: admin.tokens: missing: [::ffff:10.0.0.1]:3091 can be reached by other machines: give tokens = [{ name = "ci", role = "operate", env = "NAME" }], or listen on 127.0.0.1"#,
            ),
            (
                r#"[admin]
listen = "127.0.0.1:3090""#,
                "line 2: admin.listen: 127.0.0.1:3090 is taken by listener public (0.0.0.0:3090): use another port",
            ),
            (
                r#"[listener.a]
address = "127.0.0.1:3091""#,
                "line 1: admin.listen: 127.0.0.1:3091 is taken by listener a (127.0.0.1:3091): use another port",
            ),
            (
                r#"[listener.a]
address = "[::]:3091""#,
                "line 1: admin.listen: 127.0.0.1:3091 is taken by listener a ([::]:3091): use another port",
            ),
            (
                "[admin]
metrics_auth = true",
                "line 2: admin.metrics_auth: there is no token to ask for: give tokens, or leave metrics_auth out",
            ),
            (
                r#"[admin]
hosts = ["a:80"]"#,
                r#"line 2: admin.hosts[0]: "a:80" is not a host: leave the port out, and write an IPv6 address in brackets"#,
            ),
        ],
    );
}

#[test]
fn tokens_are_checked() {
    check(
        top,
        &[
            (
                "[admin]
tokens = []",
                "line 2: admin.tokens: the list is empty: give a token, or leave the key out",
            ),
            (
                "[admin]
tokens = [{}]",
                r#"line 2: admin.tokens[0].name: missing: the audit log shows it
line 2: admin.tokens[0].role: missing: write "read", "operate" or "admin"
line 2: admin.tokens[0].env: missing: write env = "NAME", or file = "PATH""#,
            ),
            (
                r#"[admin]
tokens = [{ name = "a", role = "root", env = "A" }, { name = "b", role = "read", env = "A" }, { name = "b", role = "read", file = "A" }]"#,
                r#"line 2: admin.tokens[0].role: "root" is none of "read", "operate", "admin"
line 2: admin.tokens[2]: there is a token named b already: the audit log needs to tell them apart"#,
            ),
            (
                r#"[admin]
tokens = [{ name = "a b", role = "read", env = "A", file = "B" }]"#,
                "line 2: admin.tokens[0].name: a name must not contain ' ': use letters, digits, '-', '_' and '.'
line 2: admin.tokens[0].file: the secret comes from env already: keep one of the two",
            ),
            (
                r#"[admin]
tokens = [{ name = "a", role = "read", token = "hunter2" }]"#,
                r#"line 2: admin.tokens[0].env: missing: write env = "NAME", or file = "PATH"
line 2: admin.tokens[0].token: unknown key: the keys here are name, role, env, file"#,
            ),
        ],
    );
}

#[test]
fn listeners_are_checked() {
    check(
        top,
        &[
            ("[listener.a]", r#"line 1: listener.a.address: missing: write ip:port such as "0.0.0.0:3090""#),
            (
                r#"[listener.a]
address = ":80""#,
                r#"line 2: listener.a.address: ":80" is not an address: write ip:port such as "0.0.0.0:3090""#,
            ),
            (
                r#"[listener.a]
address = "1.1.1.1:80"
[listener.b]
address = "1.1.1.1:80""#,
                "line 4: listener.b.address: 1.1.1.1:80 is taken by listener a: use another port",
            ),
            (
                r#"[listener.a]
address = "1.1.1.1:80"
tls = { cert = "x" }
h2c = true"#,
                "line 3: listener.a.tls.key: missing: write the path of the private key (PEM)
line 4: listener.a.h2c: a listener with tls speaks HTTP/2 by ALPN: leave h2c out",
            ),
            (
                r#"[listener.a]
address = "1.1.1.1:80"
service_paths = 1
preview = "*.preview.localhost""#,
                r#"line 3: listener.a.service_paths: expected true or false, not a whole number
line 4: listener.a.preview: "*.preview.localhost" is not a host: write labels of letters, digits and '-' with a dot between them"#,
            ),
            ("listener = 3", "line 1: listener: expected a table, not a whole number"),
            (
                r#"[listener."a b"]
address = "1.1.1.1:80""#,
                r#"line 1: listener."a b": a name must not contain ' ': use letters, digits, '-', '_' and '.'"#,
            ),
            (
                r#"[listener.a]
adress = "1.1.1.1:80""#,
                r#"line 1: listener.a.address: missing: write ip:port such as "0.0.0.0:3090"
line 2: listener.a.adress: unknown key: did you mean address?"#,
            ),
        ],
    );
}

#[test]
fn flags_are_checked() {
    check(
        top,
        &[
            (
                r#"[flags]
source = "redis://:hunter2@127.0.0.1:6379/0""#,
                r#"line 2: flags.source: this is not the URL of a store: it holds a password, which belongs into password = { env = "NAME" } or { file = "PATH" }; write redis://HOST:PORT/DB, rediss://HOST:PORT/DB, unix:/PATH or redis+sentinel://HOST:PORT,.../NAME/DB"#,
            ),
            (
                r#"[flags]
values = { a = true, "b c" = "x" }"#,
                r#"line 2: flags.values.a: expected a string such as "on", not true or false
line 2: flags.values."b c": a name must not contain ' ': use letters, digits, '-', '_' and '.'"#,
            ),
            ("flags = 1", "line 1: flags: expected a table, not a whole number"),
        ],
    );
}
