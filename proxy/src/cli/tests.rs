use clap::Parser;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("tidegate").chain(line.split_whitespace()))
}

#[test]
fn the_arguments_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_verb_is_understood() {
    for line in [
        "serve -c a.toml --log-format json",
        "check -c a.toml",
        "init",
        "init a.toml --force",
        "demo --port 1 --admin-port 2 --control-port 3",
        "status",
        "status web --watch",
        "switch web green --force --yes",
        "split web green=95 blue=5",
        "failover web blue -y",
        "restore web --dry-run",
        "hold web",
        "release web --dry-run",
        "deployment events dep-1 --follow --after 3",
        "target add web v2 127.0.0.1:1 https://h:443,weight=3",
        "target remove web v2 --if-match 7",
        "target drain web v2 --wait",
        "mirror set web audit --to v3 --percent 0.5 --methods GET,POST --compare",
        "mirror remove web audit",
        "mirror show web audit",
        "deployment create --strategy canary --app-name web --image web:v2 --percentage 5 --steps 20,50,100 --interval 300",
        "deployment create -f canary.toml --wait --wait-timeout 2h",
        "deployment create -f - --pending --dry-run",
        "deployment plan dep-1",
        "deployment list --service web",
        "deployment get --id dep-1",
        "deployment execute --id dep-1 --wait --wait-timeout 90",
        "deployment rollback --id dep-1 --yes",
        "deployment status --id dep-1",
        "deployment status dep-1 --wait",
        "deployment promote dep-1 --full -w",
        "deployment pause dep-1",
        "deployment resume dep-1",
        "deployment skip dep-1",
        "deployment retry dep-1",
        "deployment cancel dep-1",
        "deployment select-winner --id deployment-abcde --variant new-feature",
        "deployment diagnose --id dep-1 --verbose",
        "deployment events dep-1",
        "deployment convert dep-1 --visitor anna --goal buy",
        "app deploy --image nginx:latest --name web-app --strategy simple",
        "app deployment-status --id dep-1",
        "app rollback-deployment --id dep-1",
        "metrics get --deployment-id deployment-abcde --variant original",
        "bracket create spring --strategy blue-green --app-name web --image web:2",
        "bracket create spring --stage hardening",
        "bracket create -f spring.toml",
        "bracket add spring web --image web:v2 --to blue --version 2 --endpoint 127.0.0.1:1",
        "bracket release spring --wait --wait-timeout 2h",
        "bracket abort spring --reason why -y",
        "bracket list",
        "cicd configure-deployment --pipeline my-pipeline --strategy blue-green --verification-timeout 60",
        "deployment create --pipeline my-pipeline --app-name web",
        "app deploy --pipeline my-pipeline --name web",
        "bracket get spring",
        "trigger configuration-change --project=foo --service=foobar-backend --artifact foobar-backend:0.22.3.rc",
        "trigger configuration-change --project=foo --stage=hardening --service=a --artifact a:1 --service=b --artifact b:1",
        "trigger configuration-change --artifact a:1 --bracket spring",
        "deploy hello 1.0.0 ./hello",
        "deploy hello 1.0.0 ./hello --to v1 --endpoint 127.0.0.1:1 --detach",
        "ls",
        "ls hello",
        "assign hello 2.0.0 --yes",
        "kill hello",
        "kill hello 1.0.0 -y",
        "bad web 2.0.0 --reason why",
        "unbad web 2.0.0",
        "history web",
        "flag list",
        "flag get RECENT",
        "flag set RECENT 25% --if-match 7",
        "flag set page -5",
        "flag unset RECENT -y",
        "flag override RECENT off --ttl 10m",
        "flag override RECENT off",
        "flag clear RECENT --dry-run",
        "flag sources",
        "flag accept main",
        "flag restore main --yes",
        "explain http://h/p -H x-beta:1 -X POST",
        "events --follow --after 7",
        "history -n 5",
        "reload",
        "config",
        "completions bash",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        parse(&format!("--json --server unix:/a.sock {line}")).unwrap_or_else(|error| panic!("{line}: {error}"));
        parse(&format!("{line} --json --token t")).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn bad_usage_ends_with_two() {
    for line in [
        "",
        "steer",
        "switch web",
        "switch web/.. green",
        "switch web -green",
        "split web",
        "split web green",
        "split web green=101",
        "split web green=0.001",
        "split web green=1e1",
        "split web green=-5",
        "target add web v2",
        "target add web v2 127.0.0.1",
        "target add web v2 127.0.0.1:1,weight=0",
        "target drain web v2 --wait --dry-run",
        "mirror set web audit",
        "deployment create --wait-timeout 2h",
        "deployment create --wait --wait-timeout 5min",
        "deployment status",
        "deployment status dep-1 --id dep-1",
        "deployment status ../services",
        "deployment select-winner dep-1",
        "metrics get",
        "bracket create",
        "bracket create spring -f spring.toml",
        "cicd configure-deployment --pipeline ../x",
        "deployment create --pipeline main -f a.toml",
        "bracket create spring --name summer",
        "bracket add spring",
        "trigger configuration-change --service a",
        "deploy hello 1.0.0",
        "assign hello",
        "bad web",
        "flag set RECENT",
        "flag set a/b on",
        "flag override RECENT off --ttl 10",
        "explain http://h -H nocolon",
        "serve --log-format xml",
        "completions tcsh",
        "status --if-match 7",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for line in ["--help", "-h", "--version", "switch --help", "target add -h"] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 0, "{line}");
    }
}

#[test]
fn help_shows_no_secret_and_no_line_is_too_long() {
    let mut command = Cli::command();
    command.build();
    let mut pending = vec![command];
    while let Some(mut command) = pending.pop() {
        let help = command.render_long_help().to_string();
        for line in help.lines() {
            assert!(line.chars().count() <= 120, "{}: {line}", command.get_name());
        }
        pending.extend(command.get_subcommands().cloned());
    }
    let token = Cli::command().get_arguments().find(|arg| arg.get_id() == "token").cloned().expect("a token argument");
    assert!(token.is_hide_env_values_set());
}

#[test]
fn endpoints_may_carry_a_weight() {
    let endpoint: args::EndpointArg = "https://h:443,weight=3".parse().unwrap();
    assert_eq!((endpoint.address.to_string().as_str(), endpoint.weight), ("https://h:443", Some(3)));
    let endpoint: args::EndpointArg = "unix:/a=b.sock".parse().unwrap();
    assert_eq!((endpoint.address.to_string().as_str(), endpoint.weight), ("unix:/a=b.sock", None));
}

#[test]
fn a_token_on_the_command_line_is_known_as_such() {
    let source = |line: &str| {
        let words = std::iter::once("tidegate").chain(line.split_whitespace());
        token_source(&Cli::command().try_get_matches_from(words).unwrap())
    };
    assert_eq!(source("status --token t"), Some(ValueSource::CommandLine));
    assert_eq!(source("--token t status"), Some(ValueSource::CommandLine));
    assert_eq!(source("--token t target drain web v2"), Some(ValueSource::CommandLine));
    assert_ne!(source("status"), Some(ValueSource::CommandLine));
}

#[test]
fn every_shell_gets_its_completions() {
    use clap::ValueEnum;
    for shell in clap_complete::Shell::value_variants() {
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Cli::command(), "tidegate", &mut script);
        assert!(String::from_utf8(script).unwrap().contains("failover"), "{shell}");
    }
}
