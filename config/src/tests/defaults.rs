//! What a file means that says nothing.

use std::time::Duration;

use super::{WEB, accepted};
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_target_is_all_that_a_file_needs() {
    let config = accepted(WEB);
    let web = config.services.get("web").unwrap();
    assert_eq!(web.stable.as_str(), "green");
    assert_eq!(web.split, Split::all(web.stable.clone()));
    assert_eq!(web.routes, [RouteSpec { host: RouteHost::Any, path: "/".into(), strip: false }]);
    assert!(web.listeners.is_none() && web.sticky.is_none() && web.failover.is_none() && web.pin.is_none());
    assert!(web.rules.is_empty() && web.mirrors.is_empty() && !web.expose && web.max_body.is_none());
    assert_eq!(web.drain, 30 * SECOND);
    assert_eq!(web.timeouts, Timeouts { connect: 2 * SECOND, response: 60 * SECOND, idle: 60 * SECOND });
    assert_eq!(web.retry, Retry { attempts: 2, budget: 20 });
    let HealthPolicy::Active(check) = &web.health else { panic!("{:?}", web.health) };
    assert_eq!((check.interval, check.timeout, check.fall, check.rise), (5 * SECOND, 2 * SECOND, 2, 2));
    let Probe::Http { method, path, host: None, headers, expect } = &check.probe else { panic!("{:?}", check.probe) };
    assert_eq!((method.as_str(), path.as_str(), headers.len()), ("GET", "/", 0));
    assert_eq!(expect.status, [200..=399]);
    assert!(expect.body.is_none());
}

#[test]
fn the_process_has_defaults() {
    let config = accepted(WEB);
    let Server { threads, state_dir, grace, trusted_proxies, limits, access_log, forwarded } = config.server;
    assert_eq!((threads, state_dir.to_str(), grace), (None, Some("./state"), 30 * SECOND));
    assert_eq!((trusted_proxies.len(), forwarded, access_log.sample), (0, false, 0.0));
    let expected = Limits {
        header_bytes: 64 * 1024,
        header_fields: 100,
        header_timeout: 10 * SECOND,
        body_min_rate: 500,
        connections: 10_000,
        connections_per_client: 1000,
    };
    assert_eq!(limits, expected);
    let Admin { listen, tokens, hosts, metrics_auth } = config.admin;
    assert_eq!(listen, AdminAddress::Tcp("127.0.0.1:3091".parse().unwrap()));
    assert!(tokens.is_empty() && hosts.is_empty() && !metrics_auth);
    let listeners: Vec<_> = config.listeners.iter().collect();
    let expected = Listener {
        address: "0.0.0.0:3090".parse().unwrap(),
        tls: None,
        h2c: false,
        service_paths: false,
        preview: None,
    };
    assert_eq!(listeners, [(&ListenerId::parse("public").unwrap(), &expected)]);
    assert_eq!(config.flags, Flags::default());
    assert!(config.hooks.is_empty() && config.stages.is_empty() && config.watch.is_none());
    let Events { prefix, node, sinks } = config.events;
    assert_eq!((prefix.as_str(), node.as_str(), sinks.len()), ("dev.tidegate", "tidegate", 0));
}

#[test]
fn a_sticky_table_without_keys_is_a_cookie_for_thirty_days() {
    let config = accepted(&format!("[service.web]\nsticky = {{}}\n{WEB}"));
    let sticky = config.services.get("web").unwrap().sticky.clone();
    let expected = Sticky { cookie: "tidegate".into(), header: None, max_age: 30 * 86_400 * SECOND };
    assert_eq!(sticky, Some(expected));
}

#[test]
fn a_mirror_copies_all_reads_of_up_to_64_kib() {
    let config = accepted(&format!("{WEB}[service.web.mirror.m]\nto = \"green\"\n"));
    let mirror = config.services.get("web").unwrap().mirrors.get("m").unwrap();
    assert_eq!((mirror.percent, mirror.max_body, mirror.compare), (Weight::FULL, 65_536, false));
    assert_eq!(mirror.methods, ["GET", "HEAD"]);
}

#[test]
fn a_failover_is_ended_by_hand() {
    let blue = "[service.web.target.blue]\nendpoints = [\"127.0.0.1:3002\"]\n";
    let config = accepted(&format!("[service.web]\nstable = \"green\"\nfailover = {{ to = \"blue\" }}\n{WEB}{blue}"));
    let failover = config.services.get("web").unwrap().failover.clone().unwrap();
    assert_eq!(failover.failback, FailbackMode::Manual);
    let FailoverHooks { before, after, before_timeout, on_timeout } = failover.hooks;
    assert_eq!((before, after, before_timeout, on_timeout), (None, None, 20 * SECOND, OnTimeout::Switch));
}

#[test]
fn an_old_version_stays_until_the_next_one_and_failures_are_remembered() {
    let web = accepted(WEB).services.get("web").unwrap().clone();
    let EnvironmentSpec { start, stop, save, install, pre_hook, post_hook, rollback_hook, keep_old, mark_bad } =
        web.environment;
    for command in [start, stop, save, install, pre_hook, post_hook, rollback_hook] {
        assert_eq!(command, None);
    }
    assert_eq!((keep_old, mark_bad), (KeepOld::UntilNext, true));
}

#[test]
fn a_command_runs_for_five_minutes_at_most() {
    let config = accepted(&format!("[hook.x]\nargv = [\"true\"]\n{WEB}"));
    let expected = HookSpec { argv: vec!["true".into()], timeout: 300 * SECOND, idempotent: None };
    assert_eq!(config.hooks.get("x"), Some(&expected));
}

#[test]
fn stack_folders_are_looked_at_every_minute_and_deployed_simply() {
    let watch = accepted(&format!("[watch]\nstacks = \"stacks/*\"\n{WEB}")).watch.unwrap();
    let expected = Watch {
        interval: 60 * SECOND,
        fetch: None,
        commit: None,
        stacks: vec!["stacks/*".into()],
        deploy: true,
        method: StackMethod::Simple,
    };
    assert_eq!(watch, expected);
}

#[test]
fn a_sink_is_told_everything_and_may_fall_ten_thousand_events_behind() {
    let config = accepted(&format!("[[events.sink]]\nname = \"log\"\nfile = \"e.jsonl\"\n{WEB}"));
    let expected = SinkSpec {
        name: "log".parse().unwrap(),
        to: SinkTarget::File("e.jsonl".into()),
        types: Vec::new(),
        backlog: 10_000,
        timeout: 10 * SECOND,
    };
    assert_eq!(config.events.sinks, [expected]);
}
