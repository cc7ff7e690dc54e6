use clap::Parser;
use serde_json::json;
use tidegate_core::deploy::spec;

use super::*;
use crate::cli::args::{AppCommand, Cli, Command, DeploymentCommand};

/// The words of a command line; double quotes keep words together.
fn words(line: &str) -> Vec<String> {
    line.split('"')
        .enumerate()
        .flat_map(|(n, part)| match n % 2 {
            1 => vec![part.to_owned()],
            _ => part.split_whitespace().map(str::to_owned).collect(),
        })
        .collect()
}

fn options(line: &str) -> (DocumentArgs, Name) {
    let cli = Cli::try_parse_from(std::iter::once("tidegate".to_owned()).chain(words(line)));
    match cli.unwrap_or_else(|error| panic!("{line}: {error}")).command {
        Command::Deployment(DeploymentCommand::Create(args)) => (args.document, Name::OfDeployment),
        Command::App(AppCommand::Deploy(args) | AppCommand::ZeroDowntimeDeploy(args)) => {
            (args.document, Name::OfService)
        }
        other => panic!("{line}: {other:?}"),
    }
}

fn check(line: &str, expected: Value) {
    let (args, name) = options(line);
    assert_eq!(document(&args, name), Ok(expected), "{line}");
}

#[test]
fn the_commands_of_hivemind_are_documents() {
    check(
        "app deploy --image nginx:latest --name web-app --strategy simple",
        json!({"service": "web-app", "image": "nginx:latest", "strategy": "simple"}),
    );
    check(
        "app deploy --image nginx:latest --name web-app --strategy rolling-update --max-unavailable 1 --max-surge 1",
        json!({"service": "web-app", "image": "nginx:latest", "strategy": "rolling-update", "max_unavailable": 1,
            "max_surge": 1}),
    );
    check(
        "app zero-downtime-deploy --image nginx:latest --name web-app --service web-service --batch-size 2 \
         --batch-delay 30 --health-check-path /health --health-check-port 8080 --health-check-timeout 60 \
         --drain-timeout 30",
        json!({"name": "web-app", "service": "web-service", "image": "nginx:latest", "batch_size": 2, "batch_delay": 30,
            "health_check_path": "/health", "health_check_port": 8080, "health_check_timeout": 60,
            "drain_timeout": 30}),
    );
    check(
        "app deploy --image nginx:latest --name web-app --strategy blue-green --verification-timeout 60",
        json!({"service": "web-app", "image": "nginx:latest", "strategy": "blue-green", "verification_timeout": 60}),
    );
    check(
        "app deploy --image nginx:latest --name web-app --strategy canary --percentage 20 --steps 20,50,100 \
         --interval 300",
        json!({"service": "web-app", "image": "nginx:latest", "strategy": "canary", "percentage": 20,
            "steps": "20,50,100", "interval": 300}),
    );
    let variants = ["name=v1,image=myapp:v1,percentage=50", "name=v2,image=myapp:v2,percentage=50"];
    check(
        &format!(
            "app deploy --name web-app --strategy ab-testing --variant \"{}\" --variant \"{}\" --duration 86400",
            variants[0], variants[1]
        ),
        json!({"service": "web-app", "strategy": "ab-testing", "variant": variants, "duration": 86400}),
    );
}

#[test]
fn the_deployments_of_hivemind_are_documents() {
    let base = "deployment create --name web-deployment --app-name web-app --image nginx:latest";
    let with = |more: Value| {
        let mut document = json!({"name": "web-deployment", "app_name": "web-app", "image": "nginx:latest"});
        let (Value::Object(document_), Value::Object(more)) = (&mut document, more) else { panic!() };
        document_.extend(more);
        document
    };
    for (options, more) in [
        ("--replicas 3 --strategy blue-green", json!({"replicas": 3, "strategy": "blue-green"})),
        ("--pre-hook \"run-tests.sh\"", json!({"pre_hook": "run-tests.sh"})),
        ("--post-hook \"notify-team.sh\"", json!({"post_hook": "notify-team.sh"})),
        ("--rollback-hook \"cleanup.sh\"", json!({"rollback_hook": "cleanup.sh"})),
        (
            "--health-check-path /health --health-check-port 8080",
            json!({"health_check_path": "/health", "health_check_port": 8080}),
        ),
        (
            "--strategy canary --traffic-router service-mesh",
            json!({"strategy": "canary", "traffic_router": "service-mesh"}),
        ),
        ("--cpu 0.5 --memory 512M", json!({"cpu": "0.5", "memory": "512M"})),
        ("--env \"KEY1=value1\" --env \"KEY2=value2\"", json!({"env": ["KEY1=value1", "KEY2=value2"]})),
        ("--volume data-volume:/data", json!({"volume": ["data-volume:/data"]})),
        ("--strategy blue-green --cloud-provider aws", json!({"strategy": "blue-green", "cloud_provider": "aws"})),
        (
            "--strategy canary --metrics-endpoint /metrics",
            json!({"strategy": "canary", "metrics_endpoint": "/metrics"}),
        ),
    ] {
        check(&format!("{base} {options}"), with(more));
    }
    check(
        "deployment create --name api-deployment --app-name api-service --image api:v2 --replicas 5 --strategy canary \
         --percentage 20 --steps 20,50,100 --interval 300",
        json!({"name": "api-deployment", "app_name": "api-service", "image": "api:v2", "replicas": 5,
            "strategy": "canary", "percentage": 20, "steps": "20,50,100", "interval": 300}),
    );
    check(
        "deployment create --strategy canary --app-name web --image web:v2 --percentage 5 --steps 20,50,100 \
         --interval 300",
        json!({"strategy": "canary", "app_name": "web", "image": "web:v2", "percentage": 5, "steps": "20,50,100",
            "interval": 300}),
    );
}

/// Every option at once, so that none is forgotten in the schema.
const ALL: &str = "--name n --app-name web --to v2 --version 2.0 --image a:2 --endpoint 127.0.0.1:1 \
    --strategy S --drain-timeout 30s --keep-old 10m --auto-rollback true --mark-bad false --force why --supersede \
    --patience 1h --health-check-path /h --health-check-port 80 --health-check-timeout 60 --min-requests 10 \
    --max-odds 1.5 --alpha 0.01 --on-fail pause --on-inconclusive extend --pre-hook a --post-hook b --rollback-hook c \
    --test-hook d --fingerprint * --project p --stage s --label k=v --commit c --cpu 1 --memory 1G --env K=v \
    --volume v:/v --cloud-provider aws --traffic-router mesh --metrics-endpoint /m";

#[test]
fn the_engine_understands_every_option() {
    for (strategy, more) in [
        ("simple", "--replicas 3"),
        ("rolling-update", "--replicas 3 --max-surge 1 --max-unavailable 1 --batch-delay 5s"),
        ("zero-downtime", "--replicas 3 --batch-size 2 --batch-delay 5"),
        ("blue-green", "--watch 30s"),
        ("canary", "--percentage 5% --steps 20,50,100 --interval 5m"),
        ("shadow", "--mirror-percent 50 --mirror-methods GET,POST"),
    ] {
        let line =
            format!("deployment create {} {more}", ALL.replace("--strategy S", &format!("--strategy {strategy}")));
        let (args, name) = options(&line);
        let text = document(&args, name).unwrap().to_string();
        let spec = spec::parse(&serde_json::from_str(&text).unwrap());
        assert_eq!(spec.as_ref().map(|spec| spec.strategy.name()), Ok(strategy), "{line}");
        let spec = spec.unwrap();
        assert_eq!(spec.metadata.labels["k"], "v");
        assert_eq!(spec.hooks.tests.len(), 1);
    }
    let line = "deployment create --service web --strategy ab-testing --variant name=a,percentage=50 --variant \
                name=b,percentage=50 --duration 1h --goal name=buy,method=POST,path=/checkout,status=2xx";
    let (args, name) = options(line);
    let text = document(&args, name).unwrap().to_string();
    assert_eq!(spec::parse(&serde_json::from_str(&text).unwrap()).unwrap().strategy.name(), "ab-testing");
}

#[test]
fn every_option_is_known_to_be_given() {
    let (args, _) = options(&format!("deployment create {ALL}"));
    let given = given(&args);
    let written: Vec<_> = ALL.split_whitespace().filter(|word| word.starts_with("--")).collect();
    assert!(written.iter().all(|option| given.contains(option)), "{given:?}");
    assert_eq!(given.len(), written.len());
    assert!(super::given(&DocumentArgs::default()).is_empty());
}

#[test]
fn a_command_with_arguments_is_a_list() {
    let args = DocumentArgs { pre_hook: Some(r#"["run-tests", "--fast"]"#.into()), ..DocumentArgs::default() };
    assert_eq!(document(&args, Name::OfDeployment), Ok(json!({"pre_hook": ["run-tests", "--fast"]})));
}

#[test]
fn what_is_no_document_is_told_all_at_once() {
    let args = DocumentArgs {
        pre_hook: Some("[run".into()),
        goal: Some("buy".into()),
        labels: vec!["a".into()],
        test_hooks: vec!["x".into(), "[1]".into()],
        ..DocumentArgs::default()
    };
    let problems = document(&args, Name::OfDeployment).unwrap_err();
    let options: Vec<_> = problems.iter().map(|problem| problem.split(':').next().unwrap()).collect();
    assert_eq!(options, ["--goal", "--pre-hook", "--test-hook", "--label"], "{problems:?}");
}

#[test]
fn texts_that_are_no_numbers_are_left_for_the_engine_to_refuse() {
    for (text, expected) in [
        ("300", json!(300)),
        ("5m", json!("5m")),
        ("-1", json!(-1)),
        ("0.5", json!(0.5)),
        ("inf", json!("inf")),
        ("1e3", json!("1e3")),
        ("", json!("")),
        ("99999999999999999999", json!(1e20)),
    ] {
        assert_eq!(number(text), expected, "{text:?}");
    }
}

#[test]
fn places_of_the_document_are_told_as_options() {
    let of_deployment = DocumentArgs::default();
    let with_service = DocumentArgs { service: Some("web".into()), ..DocumentArgs::default() };
    for (path, args, name, option) in [
        ("interval", &of_deployment, Name::OfDeployment, Some("--interval")),
        ("health-check-port", &of_deployment, Name::OfDeployment, Some("--health-check-port")),
        ("steps[1]", &of_deployment, Name::OfDeployment, Some("--steps (2)")),
        ("variant[1]", &of_deployment, Name::OfDeployment, Some("--variant (2)")),
        ("analyse.alpha", &of_deployment, Name::OfDeployment, Some("--alpha")),
        ("mirror.percent", &of_deployment, Name::OfDeployment, Some("--mirror-percent")),
        ("goal.status", &of_deployment, Name::OfDeployment, Some("--goal (status)")),
        ("labels.a", &of_deployment, Name::OfDeployment, Some("--label (a)")),
        ("service", &of_deployment, Name::OfDeployment, Some("--app-name")),
        ("service", &with_service, Name::OfDeployment, Some("--service")),
        ("service", &of_deployment, Name::OfService, Some("--name")),
        ("service", &with_service, Name::OfService, Some("--service")),
        ("step[0]", &of_deployment, Name::OfDeployment, None),
        ("", &of_deployment, Name::OfDeployment, None),
    ] {
        assert_eq!(option_of(path, args, name).as_deref(), option, "{path} {name:?}");
    }
}
