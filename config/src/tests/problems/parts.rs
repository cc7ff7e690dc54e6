//! The parts of a service, and the values that any part may have.

use super::{check, web};

#[test]
fn sticky_needs_names_and_a_lifetime() {
    check(
        web,
        &[
            ("sticky = true", "line 3: service.web.sticky: expected a table, not true or false"),
            (
                r#"sticky = { cookie = "a b" }"#,
                r#"line 3: service.web.sticky.cookie: "a b" is not the name of a cookie: use letters, digits, '-' and '_'"#,
            ),
            (
                r#"sticky = { cookie = "" }"#,
                r#"line 3: service.web.sticky.cookie: "" is not the name of a cookie: use letters, digits, '-' and '_'"#,
            ),
            (
                r#"sticky = { header = "a b" }"#,
                r#"line 3: service.web.sticky.header: "a b" is not the name of a header: use letters, digits and '-'"#,
            ),
            (
                "sticky = { max_age = 3 }",
                r#"line 3: service.web.sticky.max_age: 3 has no unit: write "3s" or another of d, h, m, s, ms"#,
            ),
            (
                r#"sticky = { max_age = "10ms" }"#,
                r#"line 3: service.web.sticky.max_age: a cookie lives for a second at least: write "1s" or more"#,
            ),
        ],
    );
}

#[test]
fn health_checks_are_checked() {
    check(
        web,
        &[
            ("health = true", r#"line 3: service.web.health: write false, or a table such as { path = "/healthz", interval = "5s" }"#),
            (r#"health = { tcp = true, path = "/", expect = 200 }"#, "line 3: service.web.health.path: a tcp check only opens a connection: leave this key or tcp out
line 3: service.web.health.expect: a tcp check only opens a connection: leave this key or tcp out"),
            ("health = { fall = 0, rise = 0 }", "line 3: service.web.health.fall: 0 is not between 1 and 1000
line 3: service.web.health.rise: 0 is not between 1 and 1000"),
            (r#"health = { interval = "0s", timeout = "0ms" }"#, "line 3: service.web.health.interval: a duration of zero would never let anything pass: write a longer one
line 3: service.web.health.timeout: a duration of zero would never let anything pass: write a longer one"),
            (r#"health = { path = "healthz" }"#, r#"line 3: service.web.health.path: "healthz" is not a path: begin it with '/' and write other than plain characters as %XX"#),
            (r#"health = { path = "/a#b" }"#, r#"line 3: service.web.health.path: "/a#b" is not a path: begin it with '/' and write other than plain characters as %XX"#),
            (r#"health = { path = "/a b" }"#, r#"line 3: service.web.health.path: "/a b" is not a path: begin it with '/' and write other than plain characters as %XX"#),
            (r#"health = { method = "G T" }"#, r#"line 3: service.web.health.method: "G T" is not a method: write one such as "GET""#),
            (r#"health = { headers = { "a b" = "x" } }"#, r#"line 3: service.web.health.headers."a b": "a b" is not the name of a header: use letters, digits and '-'"#),
            (r#"health = { headers = { a = "x\ny" } }"#, "line 3: service.web.health.headers.a: the value of a header holds visible ASCII characters and spaces only"),
            (r#"health = { headers = { a = "1", A = "2" } }"#, "line 3: service.web.health.headers.a: this is there twice: upper and lower case are the same here"),
            (r#"health = { host = "" }"#, "line 3: service.web.health.host: the text is empty"),
            (r#"health = { body = "[" }"#, r#"line 3: service.web.health.body: "[" is not a regular expression: unclosed character class"#),
        ],
    );
}

#[test]
fn expected_statuses_are_statuses() {
    check(
        web,
        &[
            (
                r#"health = { expect = "2xx" }"#,
                r#"line 3: service.web.health.expect: "2xx" is not a status: write one such as "200", "200-399" or "200,204""#,
            ),
            (
                r#"health = { expect = "300-200" }"#,
                r#"line 3: service.web.health.expect: "300-200" is not a status: write one such as "200", "200-399" or "200,204""#,
            ),
            (
                r#"health = { expect = "200-" }"#,
                r#"line 3: service.web.health.expect: "200-" is not a status: write one such as "200", "200-399" or "200,204""#,
            ),
            (
                r#"health = { expect = "" }"#,
                r#"line 3: service.web.health.expect: "" is not a status: write one such as "200", "200-399" or "200,204""#,
            ),
            (
                "health = { expect = [] }",
                "line 3: service.web.health.expect: the list is empty: write a status such as 200",
            ),
            ("health = { expect = [99] }", "line 3: service.web.health.expect[0]: 99 is not between 100 and 599"),
            ("health = { expect = 700 }", "line 3: service.web.health.expect: 700 is not between 100 and 599"),
            (
                r#"health = { expect = ["200", "600"] }"#,
                r#"line 3: service.web.health.expect[1]: "600" is not a status: write one such as "200", "200-399" or "200,204""#,
            ),
            (
                "health = { expect = true }",
                r#"line 3: service.web.health.expect: expected a status such as 200 or "200-399", not true or false"#,
            ),
        ],
    );
}

#[test]
fn durations_have_a_unit() {
    check(
        web,
        &[
            ("drain = 30", r#"line 3: service.web.drain: 30 has no unit: write "30s" or another of d, h, m, s, ms"#),
            (
                r#"drain = "30""#,
                r#"line 3: service.web.drain: "30" is not a duration: the unit is missing; write a whole number and one of d, h, m, s, ms"#,
            ),
            (
                r#"drain = "s""#,
                r#"line 3: service.web.drain: "s" is not a duration: it does not begin with a whole number; write a whole number and one of d, h, m, s, ms"#,
            ),
            (
                r#"drain = """#,
                r#"line 3: service.web.drain: "" is not a duration: it does not begin with a whole number; write a whole number and one of d, h, m, s, ms"#,
            ),
            (
                r#"drain = "1.5s""#,
                r#"line 3: service.web.drain: "1.5s" is not a duration: the unit is unknown; write a whole number and one of d, h, m, s, ms"#,
            ),
            (
                r#"drain = "-1s""#,
                r#"line 3: service.web.drain: "-1s" is not a duration: it does not begin with a whole number; write a whole number and one of d, h, m, s, ms"#,
            ),
            (
                r#"drain = "1 s""#,
                r#"line 3: service.web.drain: "1 s" is not a duration: the unit is unknown; write a whole number and one of d, h, m, s, ms"#,
            ),
            (
                r#"drain = "1m30s""#,
                r#"line 3: service.web.drain: "1m30s" is not a duration: the unit is unknown; write a whole number and one of d, h, m, s, ms"#,
            ),
            (r#"drain = "4000d""#, r#"line 3: service.web.drain: "4000d" is too long: write at most "3650d""#),
            (
                r#"drain = "99999999999999999999s""#,
                r#"line 3: service.web.drain: "99999999999999999999s" is too long: write at most "3650d""#,
            ),
            (
                r#"drain = "30sec""#,
                r#"line 3: service.web.drain: "30sec" is not a duration: the unit is unknown; write a whole number and one of d, h, m, s, ms"#,
            ),
            ("drain = true", r#"line 3: service.web.drain: expected a duration such as "5s", not true or false"#),
            (
                r#"timeouts = { connect = "0s" }"#,
                "line 3: service.web.timeouts.connect: a duration of zero would never let anything pass: write a longer one",
            ),
        ],
    );
}

#[test]
fn sizes_are_bytes_or_have_a_unit() {
    check(
        web,
        &[
            ("max_body = -1", "line 3: service.web.max_body: -1 is not between 0 and 9223372036854775807"),
            (
                r#"max_body = "10 XB""#,
                r#"line 3: service.web.max_body: "10 XB" is not a size: write a whole number and one of KiB, MiB, GiB, kB, MB, GB, B"#,
            ),
            (
                r#"max_body = "10""#,
                r#"line 3: service.web.max_body: "10" is not a size: write a whole number and one of KiB, MiB, GiB, kB, MB, GB, B"#,
            ),
            (
                r#"max_body = """#,
                r#"line 3: service.web.max_body: "" is not a size: write a whole number and one of KiB, MiB, GiB, kB, MB, GB, B"#,
            ),
            (
                "max_body = 1.5",
                r#"line 3: service.web.max_body: expected a number of bytes, or a size such as "10MiB", not a number with decimals"#,
            ),
            (
                "max_body = true",
                r#"line 3: service.web.max_body: expected a number of bytes, or a size such as "10MiB", not true or false"#,
            ),
            (
                r#"max_body = "99999999999GiB""#,
                r#"line 3: service.web.max_body: "99999999999GiB" is more than 9223372036854775807 bytes"#,
            ),
        ],
    );
}

#[test]
fn numbers_are_in_range() {
    check(
        web,
        &[
            (
                "retry = { attempts = 6, budget = 101 }",
                "line 3: service.web.retry.attempts: 6 is not between 0 and 5
line 3: service.web.retry.budget: 101 is not between 0 and 100",
            ),
            (
                "retry = { attempts = -1, budget = 1.0 }",
                "line 3: service.web.retry.attempts: -1 is not between 0 and 5
line 3: service.web.retry.budget: expected a whole number, not a number with decimals",
            ),
            (
                r#"target.red = { endpoints = [{ address = "a:1", weight = 0 }, { address = "b:1", weight = 1001 }] }"#,
                "line 3: service.web.target.red.endpoints[0].weight: 0 is not between 1 and 1000
line 3: service.web.target.red.endpoints[1].weight: 1001 is not between 1 and 1000",
            ),
        ],
    );
}

#[test]
fn types_are_checked() {
    check(
        web,
        &[
            ("timeouts = 3", "line 3: service.web.timeouts: expected a table, not a whole number"),
            ("retry = []", "line 3: service.web.retry: expected a table, not a list"),
            ("expose = 1", "line 3: service.web.expose: expected true or false, not a whole number"),
            (r#"pin = "hunter2""#, "line 3: service.web.pin: expected a table, not a string"),
            (r#"rule = { to = "green" }"#, "line 3: service.web.rule: expected a list, not a table"),
            ("mirror = []", "line 3: service.web.mirror: expected a table, not a list"),
            ("routes = [3]", "line 3: service.web.routes[0]: expected a table, not a whole number"),
        ],
    );
}

#[test]
fn a_secret_has_one_source_and_is_never_repeated() {
    check(
        web,
        &[
            ("pin = {}", r#"line 3: service.web.pin.env: missing: write env = "NAME", or file = "PATH""#),
            (
                r#"pin = { env = "A", file = "b" }"#,
                "line 3: service.web.pin.file: the secret comes from env already: keep one of the two",
            ),
            (
                r#"pin = { env = "hunter2!" }"#,
                "line 3: service.web.pin.env: this is not the name of an environment variable: write its name, never the secret itself",
            ),
            (r#"pin = { file = "" }"#, "line 3: service.web.pin.file: the path is empty"),
            (
                r#"pin = { value = "hunter2" }"#,
                r#"line 3: service.web.pin.env: missing: write env = "NAME", or file = "PATH"
line 3: service.web.pin.value: unknown key: the keys here are env, file"#,
            ),
        ],
    );
}

#[test]
fn rules_are_checked() {
    check(
        web,
        &[
            (
                "rule = [{}]",
                r#"line 3: service.web.rule[0].when: missing: say which requests, such as when = { header = { x-beta = "1" } }
line 3: service.web.rule[0].to: missing: say which target"#,
            ),
            (
                r#"rule = [{ when = {}, to = "green" }]"#,
                "line 3: service.web.rule[0].when: this holds for every request: give a condition (header, cookie, query, method, path, flag)",
            ),
            (
                r#"rule = [{ when = { method = [] }, to = "green" }]"#,
                "line 3: service.web.rule[0].when.method: the list is empty: name a method, or leave the key out for all",
            ),
            (
                r#"rule = [{ when = { header = {} }, to = "green" }]"#,
                "line 3: service.web.rule[0].when.header: the table is empty: name what must be there",
            ),
            (
                r#"rule = [{ when = { heade = { a = "1" } }, to = "green" }]"#,
                "line 3: service.web.rule[0].when.heade: unknown key: did you mean header?",
            ),
            (
                r#"rule = [{ when = { header = { a = 1 } }, to = "green" }]"#,
                r#"line 3: service.web.rule[0].when.header.a: expected a string, { prefix = ".." } or { regex = ".." }, not a whole number"#,
            ),
            (
                r#"rule = [{ when = { header = { a = {} } }, to = "green" }]"#,
                r#"line 3: service.web.rule[0].when.header.a: missing: write prefix = ".." or regex = "..""#,
            ),
            (
                r#"rule = [{ when = { header = { a = { prefix = "x", regex = "y" } } }, to = "green" }]"#,
                "line 3: service.web.rule[0].when.header.a.regex: there is a prefix already: keep one of the two",
            ),
            (
                r#"rule = [{ when = { header = { a = { regex = "(" } } }, to = "green" }]"#,
                r#"line 3: service.web.rule[0].when.header.a.regex: "(" is not a regular expression: unclosed group"#,
            ),
            (
                r#"rule = [{ when = { header = { a = "1", A = "2" } }, to = "green" }]"#,
                "line 3: service.web.rule[0].when.header.a: this is there twice: upper and lower case are the same here",
            ),
            (
                r#"rule = [{ when = { header = { "a b" = "1" } }, to = "green" }]"#,
                r#"line 3: service.web.rule[0].when.header."a b": "a b" is not the name of a header: use letters, digits and '-'"#,
            ),
            (
                r#"rule = [{ when = { cookie = { "a b" = "1" } }, to = "green" }]"#,
                r#"line 3: service.web.rule[0].when.cookie."a b": "a b" is not the name of a cookie: use letters, digits, '-' and '_'"#,
            ),
            (
                r#"rule = [{ when = { query = { "" = "1" } }, to = "green" }]"#,
                r#"line 3: service.web.rule[0].when.query."": a query parameter has a name"#,
            ),
            (
                r#"rule = [{ when = { path = "x" }, to = "green" }]"#,
                r#"line 3: service.web.rule[0].when.path: "x" is not a path prefix: begin it with '/'"#,
            ),
            (
                r#"rule = [{ when = { flag = "x" }, to = "green" }]"#,
                r#"line 3: service.web.rule[0].when.flag: there is no flag "x": declare it in [flags.flag.NAME]"#,
            ),
            (
                r#"rule = [{ when = { flag = { is = "x" } }, to = "green" }]"#,
                "line 3: service.web.rule[0].when.flag.name: missing: say which flag",
            ),
            (
                r#"rule = [{ when = { method = "GET" }, to = "green" }, { when = { method = "" }, to = "gren" }]"#,
                r#"line 3: service.web.rule[1].when.method: "" is not a method: write one such as "GET"
line 3: service.web.rule[1].to: there is no target "gren": did you mean green?"#,
            ),
        ],
    );
}

#[test]
fn mirrors_are_checked() {
    check(
        web,
        &[
            ("mirror = { a = {} }", "line 3: service.web.mirror.a.to: missing: say which target gets the copies"),
            (
                r#"mirror = { a = { to = "blue", percent = 101 } }"#,
                "line 3: service.web.mirror.a.percent: 101 % is more than 100 %",
            ),
            (
                r#"mirror = { a = { to = "blue", methods = [] } }"#,
                r#"line 3: service.web.mirror.a.methods: the list is empty: name a method, or write ["*"] for all"#,
            ),
            (
                r#"mirror = { a = { to = "blue", methods = ["*", "GET"] } }"#,
                r#"line 3: service.web.mirror.a.methods: "*" is every method already: leave the others out"#,
            ),
            (
                r#"mirror = { a = { to = "blue", max_body = "17MiB" } }"#,
                r#"line 3: service.web.mirror.a.max_body: "17MiB" is more than 16777216 bytes"#,
            ),
            (
                r#"mirror = { a = { to = "blue", ignore = [""] } }"#,
                "line 3: service.web.mirror.a.ignore[0]: the text is empty",
            ),
            (
                r#"mirror = { a = { to = "blue", headers = { remove = ["a b"], set = { a = 1 }, add = {} } } }"#,
                r#"line 3: service.web.mirror.a.headers.remove[0]: "a b" is not the name of a header: use letters, digits and '-'
line 3: service.web.mirror.a.headers.set.a: expected a string, not a whole number
line 3: service.web.mirror.a.headers.add: unknown key: the keys here are remove, set"#,
            ),
            (
                r#"mirror = { a = { to = "red" } }"#,
                r#"line 3: service.web.mirror.a.to: there is no target "red": declare it in [service.web.target.NAME] or use one of blue, green"#,
            ),
            (
                r#"mirror = { "a/b" = { to = "blue" } }"#,
                r#"line 3: service.web.mirror."a/b": a name must not contain '/': use letters, digits, '-', '_' and '.'"#,
            ),
        ],
    );
}

#[test]
fn endpoints_are_checked() {
    check(
        web,
        &[
            (
                r#"target.red = { endpoints = ["a"] }"#,
                r#"line 3: service.web.target.red.endpoints[0]: "a" is not an endpoint: the port is missing; write ip:port, host:port or unix:/path, with http://, https:// or h2c:// before it if needed"#,
            ),
            (
                r#"target.red = { endpoints = ["a:0"] }"#,
                r#"line 3: service.web.target.red.endpoints[0]: "a:0" is not an endpoint: the port is not 1 to 65535; write ip:port, host:port or unix:/path, with http://, https:// or h2c:// before it if needed"#,
            ),
            (
                r#"target.red = { endpoints = ["ftp://a:1"] }"#,
                r#"line 3: service.web.target.red.endpoints[0]: "ftp://a:1" is not an endpoint: the scheme is unknown; write ip:port, host:port or unix:/path, with http://, https:// or h2c:// before it if needed"#,
            ),
            (
                r#"target.red = { endpoints = ["a:1", "http://A:1"] }"#,
                "line 3: service.web.target.red.endpoints[1]: a:1 is in this target already: give it a weight instead",
            ),
            (
                "target.red = { endpoints = [{ weight = 1 }] }",
                r#"line 3: service.web.target.red.endpoints[0].address: missing: write one such as "127.0.0.1:3001""#,
            ),
            (
                "target.red = { endpoints = [3] }",
                r#"line 3: service.web.target.red.endpoints[0]: expected an address such as "127.0.0.1:3001", or { address = "..", weight = 2 }, not a whole number"#,
            ),
            (
                r#"target.red = { endpoints = "a:1" }"#,
                "line 3: service.web.target.red.endpoints: expected a list, not a string",
            ),
            (
                r#"target.red = { endpoints = ["http://u:hunter2@a:1"] }"#,
                "line 3: service.web.target.red.endpoints[0]: an endpoint has no user and password: leave everything up to '@' out",
            ),
            (
                r#"target.red = { endpoints = ["unix:run/x"] }"#,
                r#"line 3: service.web.target.red.endpoints[0]: "unix:run/x" is not an endpoint: a Unix socket needs an absolute path; write ip:port, host:port or unix:/path, with http://, https:// or h2c:// before it if needed"#,
            ),
        ],
    );
}
