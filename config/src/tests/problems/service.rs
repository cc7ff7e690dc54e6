//! A service, its routes, targets and split.

use super::{bare, check, web};

#[test]
fn unknown_keys_of_a_service_are_refused() {
    check(
        web,
        &[
            (
                r#"strategy = "canary""#,
                "line 3: service.web.strategy: unknown key: the keys here are target, stable, split, listeners, routes, sticky, health, failover, drain, timeouts, retry, rule, mirror, pin, expose, max_body, start, stop, save, install, pre_hook, post_hook, rollback_hook, keep_old, mark_bad",
            ),
            ("splitt = { green = 100 }", "line 3: service.web.splitt: unknown key: did you mean split?"),
            (
                r#"failover = { to = "blue", speed = "x" }"#,
                "line 3: service.web.failover.speed: unknown key: the keys here are to, failback, before, after, before_timeout, on_timeout",
            ),
        ],
    );
}

#[test]
fn a_split_is_percentages_of_declared_targets_that_sum_to_100() {
    check(
        web,
        &[
            ("split = 3", "line 3: service.web.split: expected a table, not a whole number"),
            ("split = { green = 50 }", "line 3: service.web.split: weights sum to 50 %, not to 100 %: name every target that has a weight"),
            ("split = { green = 50, blue = 49.5 }", "line 3: service.web.split: weights sum to 99.5 %, not to 100 %: name every target that has a weight"),
            ("split = { green = 120 }", "line 3: service.web.split.green: 120 % is more than 100 %"),
            ("split = { green = 120, blue = 130.5 }", "line 3: service.web.split.green: 120 % is more than 100 %
line 3: service.web.split.blue: 130.5 % is more than 100 %"),
            ("split = { green = 100, red = 0 }", r#"line 3: service.web.split.red: there is no target "red": declare it in [service.web.target.NAME] or use one of blue, green"#),
            ("split = { grean = 100 }", r#"line 3: service.web.split.grean: there is no target "grean": did you mean green?"#),
            ("split = { green = 50.005, blue = 49.995 }", "line 3: service.web.split.green: 50.005 %: a weight has at most two decimals (0.01 % is the finest share)
line 3: service.web.split.blue: 49.995 %: a weight has at most two decimals (0.01 % is the finest share)"),
            ("split = { green = -1 }", "line 3: service.web.split.green: -1 %: a weight is a percentage from 0 to 100"),
            ("split = { green = nan }", "line 3: service.web.split.green: NaN %: a weight is a percentage from 0 to 100"),
            ("split = { green = inf }", "line 3: service.web.split.green: inf % is more than 100 %"),
            (r#"split = { green = "100" }"#, "line 3: service.web.split.green: expected a decimal number, not a string"),
            ("split = {}", "line 3: service.web.split: weights sum to 0 %, not to 100 %: name every target that has a weight"),
            ("split = { green = 0x64 }", "line 3: service.web.split.green: expected a decimal number, not a whole number"),
        ],
    );
}

#[test]
fn stable_is_a_declared_target() {
    check(
        bare,
        &[
            ("stable = 3", "line 2: service.web.stable: expected a string, not a whole number"),
            (
                r#"stable = "red""#,
                r#"line 2: service.web.stable: there is no target "red": declare it in [service.web.target.NAME] or use one of blue, green"#,
            ),
            (r#"stable = "gren""#, r#"line 2: service.web.stable: there is no target "gren": did you mean green?"#),
            (
                r#"stabel = "green""#,
                "line 1: service.web.stable: missing: say which target carries the service (blue, green)\nline 2: service.web.stabel: unknown key: did you mean stable?",
            ),
            ("", "line 1: service.web.stable: missing: say which target carries the service (blue, green)"),
        ],
    );
}

#[test]
fn a_failover_goes_to_another_declared_target() {
    check(
        web,
        &[
            ("failover = {}", "line 3: service.web.failover.to: missing: say which target takes over"),
            (
                r#"failover = { to = "green" }"#,
                "line 3: service.web.failover.to: green is the stable target itself: name another one",
            ),
            (
                r#"failover = { to = "red" }"#,
                r#"line 3: service.web.failover.to: there is no target "red": declare it in [service.web.target.NAME] or use one of blue, green"#,
            ),
            (
                r#"failover = { to = "blue", failback = "never" }"#,
                r#"line 3: service.web.failover.failback: "never" is none of "manual", "auto", "restart""#,
            ),
        ],
    );
}

#[test]
fn listeners_of_a_service_exist_and_are_named_once() {
    check(
        web,
        &[
            (
                "listeners = []",
                "line 3: service.web.listeners: the list is empty: name a listener, or leave the key out for all",
            ),
            (r#"listeners = ["public", "public"]"#, "line 3: service.web.listeners[1]: public is in the list already"),
            (
                r#"listeners = ["publik"]"#,
                r#"line 3: service.web.listeners[0]: there is no listener "publik": did you mean public?"#,
            ),
            (
                "listeners = [\"x\"]\n[listener]",
                r#"line 3: service.web.listeners[0]: there is no listener "x": declare it in [listener.NAME] or use one of public"#,
            ),
            (r#"listeners = "public""#, "line 3: service.web.listeners: expected a list, not a string"),
        ],
    );
}

#[test]
fn hosts_of_routes_are_checked() {
    check(
        web,
        &[
            (
                "routes = []",
                "line 3: service.web.routes: the list is empty: write a route, or leave the key out for every request",
            ),
            ("routes = {}", "line 3: service.web.routes: expected a list, not a table"),
            (r#"routes = [{ hots = "a" }]"#, "line 3: service.web.routes[0].hots: unknown key: did you mean host?"),
            (
                r#"routes = [{ host = "a b" }]"#,
                r#"line 3: service.web.routes[0].host: "a b" is not a host: write labels of letters, digits and '-' with a dot between them"#,
            ),
            (
                r#"routes = [{ host = "a.example:80" }]"#,
                r#"line 3: service.web.routes[0].host: "a.example:80" is not a host: leave the port out, and write an IPv6 address in brackets"#,
            ),
            (
                r#"routes = [{ host = "https://a" }]"#,
                r#"line 3: service.web.routes[0].host: "https://a" is not a host: write only the name, without scheme and path"#,
            ),
            (
                r#"routes = [{ host = "a.*" }]"#,
                r#"line 3: service.web.routes[0].host: "a.*" is not a host: write labels of letters, digits and '-' with a dot between them"#,
            ),
            (
                r#"routes = [{ host = "*a.com" }]"#,
                r#"line 3: service.web.routes[0].host: "*a.com" has its '*' in the wrong place: write *.example.com or *"#,
            ),
            (
                r#"routes = [{ host = "a." }]"#,
                r#"line 3: service.web.routes[0].host: "a." is not a host: leave the trailing dot out"#,
            ),
            (
                r#"routes = [{ host = "é.com" }]"#,
                r#"line 3: service.web.routes[0].host: "é.com" is not a host: write its ASCII form (xn--...)"#,
            ),
            (
                r#"routes = [{ host = "[::x]" }]"#,
                r#"line 3: service.web.routes[0].host: "[::x]" is not a host: there is no IPv6 address between the brackets"#,
            ),
            (
                r#"routes = [{ host = "" }]"#,
                r#"line 3: service.web.routes[0].host: "" is not a host: write labels of letters, digits and '-' with a dot between them"#,
            ),
            (
                r#"routes = [{ host = "*." }]"#,
                r#"line 3: service.web.routes[0].host: "" is not a host: write labels of letters, digits and '-' with a dot between them"#,
            ),
            (
                r#"routes = [{ host = "a..b" }]"#,
                r#"line 3: service.web.routes[0].host: "a..b" is not a host: write labels of letters, digits and '-' with a dot between them"#,
            ),
        ],
    );
}

#[test]
fn paths_of_routes_are_checked() {
    check(
        web,
        &[
            (
                r#"routes = [{ path = "/a/..;x/b" }]"#,
                r#"line 3: service.web.routes[0].path: "/a/..;x/b" is not a path prefix: no request ever has '.' or '..' as a segment"#,
            ),
            (
                r#"routes = [{ path = "/a%2f..%5Cb" }]"#,
                r#"line 3: service.web.routes[0].path: "/a%2f..%5Cb" is not a path prefix: no request ever has '.' or '..' as a segment"#,
            ),
            (
                r#"routes = [{ path = "/%2e" }]"#,
                r#"line 3: service.web.routes[0].path: "/%2e" is not a path prefix: no request ever has '.' or '..' as a segment"#,
            ),
            (
                r#"routes = [{ path = "/a%00" }]"#,
                r#"line 3: service.web.routes[0].path: "/a%00" is not a path prefix: a '%' is followed by two hexadecimal digits, not by 00"#,
            ),
            (
                r#"routes = [{ path = "/a%" }]"#,
                r#"line 3: service.web.routes[0].path: "/a%" is not a path prefix: a '%' is followed by two hexadecimal digits, not by 00"#,
            ),
            (
                r#"routes = [{ path = "" }]"#,
                r#"line 3: service.web.routes[0].path: "" is not a path prefix: begin it with '/'"#,
            ),
            (
                r#"routes = [{ path = "api" }]"#,
                r#"line 3: service.web.routes[0].path: "api" is not a path prefix: begin it with '/'"#,
            ),
            (
                r#"routes = [{ path = "/api/" }]"#,
                r#"line 3: service.web.routes[0].path: "/api/" is not a path prefix: leave the trailing '/' out, it matches everything below it anyway"#,
            ),
            (
                r#"routes = [{ path = "/a/../b" }]"#,
                r#"line 3: service.web.routes[0].path: "/a/../b" is not a path prefix: no request ever has '.' or '..' as a segment"#,
            ),
            (
                r#"routes = [{ path = "/./a" }]"#,
                r#"line 3: service.web.routes[0].path: "/./a" is not a path prefix: no request ever has '.' or '..' as a segment"#,
            ),
            (
                r#"routes = [{ path = "/a/%2E%2e/b" }]"#,
                r#"line 3: service.web.routes[0].path: "/a/%2E%2e/b" is not a path prefix: no request ever has '.' or '..' as a segment"#,
            ),
            (
                r#"routes = [{ path = "/a//b" }]"#,
                r#"line 3: service.web.routes[0].path: "/a//b" is not a path prefix: it has an empty segment ('//')"#,
            ),
            (
                r#"routes = [{ path = "/a?x" }]"#,
                r#"line 3: service.web.routes[0].path: "/a?x" is not a path prefix: leave query and fragment out"#,
            ),
            (
                r#"routes = [{ path = "/a#x" }]"#,
                r#"line 3: service.web.routes[0].path: "/a#x" is not a path prefix: leave query and fragment out"#,
            ),
            (
                r#"routes = [{ path = "/a b" }]"#,
                r#"line 3: service.web.routes[0].path: "/a b" is not a path prefix: write other than plain characters as %XX"#,
            ),
            (
                r#"routes = [{ path = "/a%2" }]"#,
                r#"line 3: service.web.routes[0].path: "/a%2" is not a path prefix: a '%' is followed by two hexadecimal digits, not by 00"#,
            ),
            (
                r#"routes = [{ path = "/a%zz" }]"#,
                r#"line 3: service.web.routes[0].path: "/a%zz" is not a path prefix: a '%' is followed by two hexadecimal digits, not by 00"#,
            ),
            (
                r#"routes = [{ path = "/ü" }]"#,
                r#"line 3: service.web.routes[0].path: "/ü" is not a path prefix: write other than plain characters as %XX"#,
            ),
        ],
    );
}
