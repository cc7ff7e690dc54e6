use super::*;

fn read(json: &str) -> Result<DeploymentSpec, Vec<String>> {
    let document: Value = serde_json::from_str(json).unwrap();
    parse(&document).map_err(|problems| problems.iter().map(SpecProblem::to_string).collect())
}

fn weights(percents: &[f64]) -> Vec<Weight> {
    percents.iter().map(|percent| Weight::from_percent(*percent).unwrap()).collect()
}

#[test]
fn toml_and_json_are_one_schema() {
    let toml = r#"
        strategy = "canary"
        service = "web"
        to = "v2"
        percentage = 5
        steps = [20, 50, 100]
        interval = "5m"
        analyse = { min_requests = 200, max_odds = 1.5, alpha = 0.01, on_inconclusive = "pause" }
    "#;
    let document: Value = toml::from_str(toml).unwrap();
    let json = r#"{"strategy": "canary", "app-name": "web", "target": "v2", "percentage": 5, "steps": "20,50,100",
        "interval": 300, "analyse": {"min_requests": 200}}"#;
    let spec = parse(&document).unwrap();
    assert_eq!(Ok(&spec), read(json).as_ref());
    let steps = weights(&[5.0, 20.0, 50.0, 100.0]);
    assert_eq!(spec.strategy, Strategy::Canary { steps, interval: Duration::from_secs(300) });
    assert_eq!(spec.analyse.min_requests, 200);
}

#[test]
fn the_first_share_is_put_before_the_steps_only_if_it_is_another() {
    for (json, steps) in [
        (r#"{"strategy":"canary","service":"web","percentage":20,"steps":[20,50,100]}"#, &[20.0, 50.0, 100.0][..]),
        (r#"{"strategy":"canary","service":"web","steps":[20,50]}"#, &[20.0, 50.0, 100.0]),
        (r#"{"strategy":"canary","service":"web","percentage":1.5}"#, &[1.5, 100.0]),
        (r#"{"strategy":"canary","service":"web"}"#, &[10.0, 100.0]),
    ] {
        let Strategy::Canary { steps: found, .. } = read(json).unwrap().strategy else { panic!("{json}") };
        assert_eq!(found, weights(steps), "{json}");
    }
}

#[test]
fn every_strategy_has_its_name() {
    let more = |name: &str| match name {
        "ab-testing" => r#","variant":["name=v1,image=a:1,percentage=50",{"name":"v2","percentage":50}]"#,
        "custom" => {
            r#","step":[{"set":10},{"analyse":"10m"},{"pause":"manual","deadline":"24h"},{"hook":"smoke"},
            {"gate":["ask","me"]},{"mirror":5},{"verify":true},{"pause":"1s"},{"set":100}]"#
        }
        _ => "",
    };
    for name in Strategy::NAMES {
        let spec = read(&format!(r#"{{"strategy":"{name}","service":"web"{}}}"#, more(name))).unwrap();
        assert_eq!(spec.strategy.name(), name);
        assert_eq!(spec.auto_rollback, name != "blind");
        let written = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<DeploymentSpec>(&written).unwrap(), spec, "{name}");
    }
    assert_eq!(read(r#"{"service":"web","strategy":"direct"}"#).unwrap().strategy, Strategy::Recreate);
}

#[test]
fn the_options_of_the_commands_are_keys() {
    let spec = read(
        r#"{"name":"web-deployment","app-name":"web","image":"nginx:latest","replicas":3,"strategy":"zero-downtime",
        "batch-size":2,"batch-delay":30,"health-check-path":"/health","health-check-port":8080,
        "health-check-timeout":60,"drain-timeout":"30s","cpu":0.5,"memory":"512M","env":["KEY1=value1"],
        "volume":"data:/data","pre-hook":"run-tests.sh","post-hook":["notify","team"],"rollback-hook":"cleanup.sh",
        "traffic-router":"service-mesh","cloud-provider":"aws","metrics-endpoint":"/metrics"}"#,
    )
    .unwrap();
    let Strategy::ZeroDowntime(rolling) = spec.strategy else { panic!() };
    assert_eq!((rolling.replicas, rolling.max_surge, rolling.max_unavailable), (Some(3), 2, 0));
    assert_eq!(rolling.batch_delay, Duration::from_secs(30));
    assert_eq!(spec.health.port, Some(8080));
    assert_eq!(spec.drain, Some(Duration::from_secs(30)));
    assert_eq!(spec.metadata.labels["cpu"], "0.5");
    assert_eq!(spec.metadata.env["KEY1"], "value1");
    assert_eq!(spec.hooks.post, Some(HookRun::Argv(vec!["notify".into(), "team".into()])));
}

#[test]
fn replicas_are_told_to_commands_where_the_strategy_does_not_count_them() {
    for strategy in ["blue-green", "canary", "simple", "rolling-update", "zero-downtime"] {
        let json = format!(r#"{{"strategy":"{strategy}","service":"web","replicas":3}}"#);
        let spec = read(&json).unwrap();
        let counted = match spec.strategy {
            Strategy::RollingUpdate(rolling) | Strategy::ZeroDowntime(rolling) => rolling.replicas.unwrap().to_string(),
            _ => spec.metadata.labels["replicas"].clone(),
        };
        assert_eq!(counted, "3", "{strategy}");
        let wrong = read(&json.replace('3', "0")).unwrap_err();
        assert_eq!(wrong, ["replicas: 0 is not from 1 to 1000"], "{strategy}");
    }
}

#[test]
fn all_problems_are_told_at_once_with_their_paths() {
    let found = read(
        r#"{"strategy":"canary","service":"we b","percentage":120,"steps":[50,20,100],"interval":"5 minutes",
        "colour":"red","max_surge":1,"pre_hook":"run tests","force":true,"analyse":{"alpha":7,"on_fail":"cry"},
        "member":1}"#,
    )
    .unwrap_err();
    let beginnings = [
        "percentage: 120 %",
        "interval: \"5 minutes\" is not a duration",
        "steps: shares must rise, and step 1 (20 %) follows 50 %",
        "service: the services are given as members",
        "member: expected a list",
        "pre_hook: a command with arguments is a list",
        "force: say why",
        "analyse.alpha: 7 is not from",
        "analyse.on_fail: \"cry\" is unknown",
        "colour: unknown key",
        "max_surge: strategy canary has no use for it",
    ];
    assert_eq!(found.len(), beginnings.len(), "{found:#?}");
    for beginning in beginnings {
        assert!(found.iter().any(|problem| problem.starts_with(beginning)), "{beginning}: {found:#?}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for (json, message) in [
        (r#"{"strategy":"teleport","service":"web","steps":[1]}"#, "strategy: there is no strategy \"teleport\""),
        (r#"{"strategy":"simple"}"#, "service: missing"),
        (r#"{"strategy":"rolling-update","service":"web","max_surge":0}"#, "max_surge: max_surge and max_unavailable"),
        (r#"{"strategy":"ab-testing","service":"web"}"#, "variant: missing"),
        (
            r#"{"strategy":"ab-testing","service":"web","variant":["name=a,percentage=50","name=b,percentage=49.5"]}"#,
            "variant: the percentages sum to 99.5 %",
        ),
        (
            r#"{"strategy":"ab-testing","service":"web","variant":["name=a,percentage=50","name=a,percentage=50"]}"#,
            "variant: a is named twice",
        ),
        (r#"{"strategy":"custom","service":"web","step":[{"set":1,"hook":"x"}]}"#, "step[0]: a step is exactly one of"),
        (r#"{"strategy":"custom","service":"web","step":[{"set":1,"deadline":"1s"}]}"#, "step[0].deadline: only"),
        (r#"{"service":"web","app-name":"web"}"#, "app-name: the same as service"),
        (r#"{"member":[{"service":"a"},{"service":"a"}]}"#, "member: service a is named twice"),
        (r#"{"service":"web","env":["9A=1"]}"#, "env: \"9A\" is not the name"),
        (r#"{"service":"web","drain_timeout":"99999999d"}"#, "drain_timeout: the duration is too long"),
        (r#"{"service":"web","health_check_timeout":-1}"#, "health_check_timeout: -1 is not from 0"),
        (r#"{"service":"web","patience":60}"#, "patience: 60 has no unit"),
        ("[]", "expected a table, found a list"),
    ] {
        let found = read(json).unwrap_err();
        assert!(found.iter().any(|problem| problem.starts_with(message)), "{json}: {found:?}");
        assert_eq!(found.len(), 1, "{json}: {found:?}");
    }
}

#[test]
fn load_is_a_command_of_strategies_that_judge() {
    for (strategy, more) in [("canary", ""), ("blue-green", ""), ("custom", r#","step":[{"set":100}]"#)] {
        let json = format!(r#"{{"strategy":"{strategy}","service":"web","load":["hey","-z","1h"]{more}}}"#);
        let argv = ["hey", "-z", "1h"].map(str::to_owned).to_vec();
        assert_eq!(read(&json).unwrap().hooks.load, Some(HookRun::Argv(argv)), "{strategy}");
    }
    for strategy in ["rolling-update", "recreate", "shadow"] {
        let json = format!(r#"{{"strategy":"{strategy}","service":"web","load":"hey"}}"#);
        let expected = format!("load: strategy {strategy} has no use for it: leave it out");
        assert_eq!(read(&json), Err(vec![expected]), "{strategy}");
    }
}
