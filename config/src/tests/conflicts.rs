//! What only shows between two parts of a file.

use super::{accepted, refused};

const A: &str = "target.t.endpoints = [\"a:1\"]";

/// Two services with these lines.
fn two(one: &str, other: &str) -> String {
    let listeners = "[listener.x]\naddress = \"127.0.0.1:1\"\n[listener.y]\naddress = \"127.0.0.1:2\"\n";
    format!("[service.one]\n{one}\n{A}\n[service.other]\n{other}\n{A}\n{listeners}")
}

#[test]
fn two_services_cannot_have_the_same_route_on_one_listener() {
    let belongs = "belongs to service one already: change host or path, or give them different listeners";
    for (one, other, problem) in [
        ("", "", format!("line 4: service.other.routes: */ {belongs}")),
        ("routes = [{}]", "", format!("line 4: service.other.routes: */ {belongs}")),
        ("", "routes = [{ host = '*' }]", format!("line 5: service.other.routes[0]: */ {belongs}")),
        (
            "routes = [{ host = 'A.com', path = '/x' }]",
            "routes = [{ path = '/x' }, { host = 'a.com', path = '/x', strip = true }]",
            format!("line 5: service.other.routes[1]: a.com/x {belongs}"),
        ),
        (
            "routes = [{ path = '/~a%2F' }]",
            "routes = [{ path = '/%7ea%2f' }]",
            format!("line 5: service.other.routes[0]: */~a%2F {belongs}"),
        ),
        ("listeners = ['x']", "", format!("line 4: service.other.routes: */ {belongs}")),
        ("", "listeners = ['y']", format!("line 4: service.other.routes: */ {belongs}")),
        ("listeners = ['x']", "listeners = ['y', 'x']", format!("line 4: service.other.routes: */ {belongs}")),
        (
            "",
            "routes = [{ path = '/a' }, { path = '/a' }]",
            "line 5: service.other.routes[1]: */a is in this service already: remove one of the two".into(),
        ),
    ] {
        assert_eq!(refused(&two(one, other)), problem, "{one} and {other}");
    }
}

#[test]
fn routes_that_differ_in_host_path_or_listener_are_no_conflict() {
    for (one, other) in [
        ("listeners = ['x']", "listeners = ['y']"),
        ("", "routes = [{ path = '/a' }]"),
        ("", "routes = [{ host = 'a.com' }]"),
        ("routes = [{ host = '*.a.com' }]", "routes = [{ host = 'a.com' }]"),
    ] {
        accepted(&two(one, other));
    }
}

#[test]
fn the_first_in_the_file_keeps_a_route_whatever_the_names() {
    let text = format!("[service.z]\n{A}\n[service.a]\n{A}\n");
    assert!(refused(&text).starts_with("line 3: service.a.routes: */ belongs to service z already"));
}

#[test]
fn a_wrong_part_is_not_also_a_conflict() {
    let problem = "line 2: service.one.listeners[0]: there is no listener \"z\": declare it in [listener.NAME] or use one of x, y";
    assert_eq!(refused(&two("listeners = ['z']", "")), problem);
    let problem = "line 2: service.one.listeners: expected a list, not a string";
    assert_eq!(refused(&two("listeners = 'x'", "")), problem);
}

#[test]
fn a_wrong_declaration_is_not_also_unknown() {
    let text = "[listener.x]\naddress = 'x'\n[service.s]\nlisteners = ['x']\nstable = 't'\n[service.s.target.t]\nendpoints = ['a']";
    let problems = refused(text);
    assert_eq!(problems.lines().count(), 2, "{problems}");
}

#[test]
fn services_may_use_as_many_mirrors_as_a_request_can_note() {
    let mirrors = |n: usize| (0..n).map(|n| format!("[service.s.mirror.m{n}]\nto = 't'\n")).collect::<String>();
    let text = |n| format!("[service.s]\n{A}\n{}", mirrors(n));
    accepted(&text(32));
    assert!(refused(&text(33)).ends_with("service.s.mirror: 33 mirrors are more than 32: remove some"));
}

#[test]
fn addresses_that_take_a_free_port_never_meet() {
    let listeners = "[listener.x]\naddress = '127.0.0.1:0'\n[listener.y]\naddress = '127.0.0.1:0'\n";
    accepted(&format!("{listeners}[admin]\nlisten = '127.0.0.1:0'\n[service.s]\n{A}\n"));
}

#[test]
fn a_token_or_a_unix_socket_makes_any_admin_address_safe() {
    let tokens = "tokens = [{ name = 'ci', role = 'admin', env = 'CI' }]";
    accepted(&format!("[admin]\nlisten = '0.0.0.0:3091'\n{tokens}\n[service.s]\n{A}\n"));
    accepted(&format!("[admin]\nlisten = 'unix:/run/t.sock'\n[service.s]\n{A}\n"));
    accepted(&format!("[admin]\nlisten = '[::1]:3091'\n[service.s]\n{A}\n"));
}
