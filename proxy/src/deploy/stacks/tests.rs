//! What the watch makes of what it finds; the whole of it runs in the end-to-end tests.

use std::time::Duration;

use tidegate_config::StackMethod;

use super::*;

fn service(name: &str) -> ServiceId {
    ServiceId::parse(name).unwrap()
}

fn report(end: HookEnd, output: &str) -> HookReport {
    HookReport { end, output: output.into() }
}

#[test]
fn a_stack_is_the_service_that_is_called_the_same() {
    let known = |id: &ServiceId| id.as_str() == "web";
    assert_eq!(service_of("web", known), Ok(service("web")));
    assert!(service_of("api", known).unwrap_err().contains("there is no [service.api]"));
    assert!(service_of("my stack!", known).unwrap_err().contains("rename the folder"));
}

#[test]
fn the_commit_is_the_last_line_of_its_command() {
    assert_eq!(commit_of(&report(HookEnd::Exit(0), "a warning\nabc123\n\n")), Ok("abc123".into()));
    for (end, output) in [
        (HookEnd::Exit(128), "not a repository"),
        (HookEnd::Exit(0), "\n"),
        (HookEnd::Exit(0), "a\u{1b}[31mred"),
        (HookEnd::Exit(0), &"x".repeat(101)),
    ] {
        assert!(commit_of(&report(end, output)).unwrap_err().contains("commit command"), "{output:?}");
    }
}

#[test]
fn a_deployment_of_a_stack_says_what_it_is_and_where_its_files_are() {
    let watched = Watch {
        interval: Duration::from_secs(60),
        fetch: None,
        commit: None,
        stacks: vec!["stacks/*".into()],
        deploy: true,
        method: StackMethod::Simple,
    };
    let settings = settings::Settings::parse(Some("test: { option1: value }"), &watched).unwrap();
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let stack = Stack { settings, digest: digest.clone() };
    let spec = spec("web", Path::new("/srv/stacks/web"), service("web"), stack, Some("abc123"));
    let labels: Vec<_> = spec.metadata.labels.iter().map(|(label, value)| format!("{label}={value}")).collect();
    let expected =
        ["commit=abc123", "folder=/srv/stacks/web", "stack=web", "stack_version=0123456789ab", "test_option1=value"];
    assert_eq!(labels, expected);
    let [member] = spec.members.as_slice() else { panic!("{spec:?}") };
    assert_eq!((member.version.as_deref(), member.digest.as_deref()), (Some("0123456789ab"), Some(digest.as_str())));
}

#[test]
fn what_runs_is_not_deployed_again() {
    let engine = Engine::default();
    let running = |fingerprint: &str| Version { name: "v".into(), image: None, fingerprint: Some(fingerprint.into()) };
    let verdict = |running: Option<&Version>| verdict(&engine, &service("web"), running, "sha256:1");
    assert_eq!(verdict(None), Verdict::Changed);
    assert_eq!(verdict(Some(&running("sha256:1"))), Verdict::Unchanged);
    assert_eq!(verdict(Some(&running("sha256:2"))), Verdict::Changed);
}
