//! Commands, environments, stages, the watch and event sinks.

use super::{check, top, web};

#[test]
fn a_command_is_a_list_or_the_name_of_one() {
    check(
        web,
        &[
            (
                "start = 3",
                "line 3: service.web.start: expected a list of a program and its arguments, or the name of a [hook.NAME], not a whole number",
            ),
            ("start = []", "line 3: service.web.start: the list is empty: write the program and its arguments"),
            (r#"start = [""]"#, "line 3: service.web.start[0]: the program is empty"),
            (r#"start = ["a\u0000"]"#, "line 3: service.web.start[0]: an argument cannot hold a NUL"),
            (r#"start = ["a", 1]"#, "line 3: service.web.start[1]: expected a string, not a whole number"),
            (r#"stop = "stop""#, r#"line 3: service.web.stop: there is no hook "stop": declare it in [hook.NAME]"#),
            (
                "stop = \"stopp\"\n[hook.stop]\nargv = [\"x\"]",
                r#"line 3: service.web.stop: there is no hook "stopp": did you mean stop?"#,
            ),
            (
                "stop = \"stop\"\n[hook.stop]",
                r#"line 4: hook.stop.argv: missing: write the program and its arguments: argv = ["/usr/local/bin/start", "{slot}"]"#,
            ),
        ],
    );
}

#[test]
fn a_named_command_ends_within_a_day() {
    check(
        top,
        &[
            ("hook = 3", "line 1: hook: expected a table, not a whole number"),
            (
                "[hook.\"a b\"]\nargv = [\"x\"]",
                "line 1: hook.\"a b\": a name must not contain ' ': use letters, digits, '-', '_' and '.'",
            ),
            (
                "[hook.a]\nargv = [\"x\"]\ntimeout = \"25h\"",
                "line 3: hook.a.timeout: a command may run for a day at most: write \"24h\" or less",
            ),
            (
                "[hook.a]\nargv = [\"x\"]\ntimeout = \"0s\"",
                "line 3: hook.a.timeout: a duration of zero would never let anything pass: write a longer one",
            ),
            (
                "[hook.a]\nargv = [\"x\"]\nretries = 2",
                "line 3: hook.a.retries: unknown key: the keys here are argv, timeout, idempotent",
            ),
        ],
    );
}

#[test]
fn an_old_version_is_kept_for_a_time_or_not() {
    let wanted = r#"expected "until-next", a duration such as "10m", or false"#;
    check(
        web,
        &[
            (
                "keep_old = true",
                r#"line 3: service.web.keep_old: say how long: write "until-next" or a duration such as "10m""#,
            ),
            ("keep_old = 3", &format!("line 3: service.web.keep_old: {wanted}, not a whole number")),
            (
                r#"keep_old = "forever""#,
                r#"line 3: service.web.keep_old: "forever" is not a duration: it does not begin with a whole number; write a whole number and one of d, h, m, s, ms"#,
            ),
            ("mark_bad = 1", "line 3: service.web.mark_bad: expected true or false, not a whole number"),
        ],
    );
}

#[test]
fn a_failover_waits_only_for_a_command() {
    check(
        web,
        &[
            (
                r#"failover = { to = "blue", before_timeout = "5s", on_timeout = "hold" }"#,
                "line 3: service.web.failover.before_timeout: there is nothing to wait for: give before = [..] or leave this out
line 3: service.web.failover.on_timeout: there is nothing to wait for: give before = [..] or leave this out",
            ),
            (
                r#"failover = { to = "blue", before = ["x"], on_timeout = "wait" }"#,
                r#"line 3: service.web.failover.on_timeout: "wait" is none of "switch", "hold""#,
            ),
            (
                r#"failover = { to = "blue", after = "x" }"#,
                r#"line 3: service.web.failover.after: there is no hook "x": declare it in [hook.NAME]"#,
            ),
        ],
    );
}

#[test]
fn stages_are_tables_with_names() {
    check(
        top,
        &[
            ("stage.dev = 3", "line 1: stage.dev: expected a table, not a whole number"),
            ("stage.\"-\" = {}", "line 1: stage.-: a name must begin with a letter or digit, not with '-'"),
            ("stage.dev = { steps = [nan] }", "line 1: stage.dev: a stage holds no infinite and no undefined numbers"),
        ],
    );
}

#[test]
fn stack_folders_have_patterns() {
    let advice = r#"write a pattern of the folders: stacks = "/srv/repo/stacks/*""#;
    check(
        top,
        &[
            ("[watch]", &format!("line 1: watch.stacks: missing: {advice}")),
            ("watch.stacks = []", &format!("line 1: watch.stacks: the list is empty: {advice}")),
            ("watch.stacks = \"\"", "line 1: watch.stacks: the pattern is empty"),
            (
                "watch.stacks = [\"/a/**\"]",
                "line 1: watch.stacks[0]: \"**\" means nothing here: name each level of folders with one \"*\"",
            ),
            (
                "watch = { stacks = \"a\", interval = \"10ms\" }",
                "line 1: watch.interval: look once a second at most: write \"1s\" or more",
            ),
            (
                "watch = { stacks = \"a\", method = \"yolo\" }",
                r#"line 1: watch.method: "yolo" is none of "blind", "simple", "recreate", "canary", "blue-green""#,
            ),
            (
                "watch = { stacks = \"a\", fetch = \"pull\" }",
                r#"line 1: watch.fetch: there is no hook "pull": declare it in [hook.NAME]"#,
            ),
        ],
    );
}

#[test]
fn a_sink_is_one_of_three_and_never_shows_a_password() {
    let sink = "[[events.sink]]\nname = \"a\"\n";
    let kinds = r#"missing: write url = "http://..", command = [..] or file = "PATH""#;
    let address = r#"this is not an address: write one such as "http://127.0.0.1:8080/events""#;
    for (lines, problems) in [
        (sink.to_owned(), format!("line 1: events.sink[0]: {kinds}")),
        (
            "[[events.sink]]\nfile = \"x\"".to_owned(),
            "line 1: events.sink[0].name: missing: what it was told already is remembered under it".to_owned(),
        ),
        (
            format!("{sink}file = \"x\"\n{sink}file = \"y\""),
            "line 4: events.sink[1]: there is a sink named a already: each remembers under its name what it was told".to_owned(),
        ),
        (
            format!("{sink}file = \"x\"\nurl = \"http://a/\""),
            "line 3: events.sink[0].file: there is a url already: keep one, or write two sinks".to_owned(),
        ),
        (
            format!("{sink}file = \"x\"\ntoken = {{ env = \"A\" }}"),
            "line 4: events.sink[0].token: only a url gets a token: leave it out".to_owned(),
        ),
        (
            format!("{sink}url = \"http://me:hunter2@a/\""),
            "line 3: events.sink[0].url: an address holds no password: write token = { env = \"NAME\" } instead".to_owned(),
        ),
        (format!("{sink}url = \"ftp://a/\""), format!("line 3: events.sink[0].url: {address}")),
        (format!("{sink}url = \"/events\""), format!("line 3: events.sink[0].url: {address}")),
        (format!("{sink}file = \"x\"\nbacklog = 0"), "line 4: events.sink[0].backlog: 0 is not between 1 and 1000000".to_owned()),
        (
            format!("{sink}file = \"x\"\ntypes = [\"*.finished\"]"),
            r#"line 4: events.sink[0].types[0]: "*.finished" is not a type: write one such as "deployment.finished" or "version.*""#.to_owned(),
        ),
        (
            "events.prefix = \"a b\"".to_owned(),
            "line 1: events.prefix: a name must not contain ' ': use letters, digits, '-', '_' and '.'".to_owned(),
        ),
    ] {
        check(top, &[(&lines, &problems)]);
    }
}
