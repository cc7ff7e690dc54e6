use std::{collections::BTreeMap, time::Duration};

use tidegate_config::ServiceId;

use super::*;
use crate::{
    change::fixtures,
    deploy::{
        machine::{HookEnd, HookReport, Outcome, Verdict},
        memory::Bad,
        spec::Value,
        stage::{BracketState, Stage, check, parse_stage, trigger},
        step::Version,
        testing::{environment, id, judged, service, spec_of, world},
    },
    health::Health,
    preview::Place,
};

/// An engine whose every act succeeds at once, unless a test says otherwise.
struct Bench {
    world: fixtures::World,
    environments: BTreeMap<ServiceId, Environment>,
    stages: Stages,
    engine: Engine,
    journal: Vec<String>,
    verdict: Verdict,
    /// Whether commands are left running.
    hang: bool,
}

impl Bench {
    fn new() -> Self {
        Self::of(world())
    }

    fn of(world: fixtures::World) -> Self {
        let environments = world.state.services.keys().map(|id| (id.clone(), environment())).collect();
        Self {
            world,
            environments,
            stages: Stages::new(),
            engine: Engine::default(),
            journal: Vec::new(),
            verdict: Verdict::Pass,
            hang: false,
        }
    }

    fn ask<T>(&self, what: impl FnOnce(&Engine, World<'_>, Moment) -> T) -> T {
        let services = &self.world.state.services;
        let world = World { services, environments: &self.environments, stages: &self.stages };
        what(&self.engine, world, self.world.now)
    }

    fn take(&mut self, decision: Decision) {
        if decision.write != Write::No {
            self.journal.extend(decision.records.iter().map(|record| serde_json::to_string(record).unwrap()));
        } else {
            assert_eq!(decision.records, [], "nothing is lost");
        }
        self.engine = decision.engine;
        let mut effects = std::collections::VecDeque::from(decision.effects);
        while let Some((id, effect)) = effects.pop_front() {
            for input in self.perform(effect) {
                let next = self.ask(|engine, world, now| engine.input(&id, input, world, now));
                let more = next.effects.clone();
                self.take(Decision { effects: Vec::new(), ..next });
                effects.extend(more);
            }
        }
    }

    fn perform(&mut self, effect: Effect) -> Vec<Input> {
        let done = |op, outcome| vec![Input::Done { op, outcome }];
        match effect {
            Effect::Release { op, services, cause } => {
                let change = crate::Change::Release { deployment: id(1), services, cause };
                self.world.apply(&change);
                done(op, Outcome::Done)
            }
            Effect::Verify { op, .. } | Effect::Drain { op, .. } => done(op, Outcome::Done),
            Effect::Hook { .. } if self.hang => Vec::new(),
            Effect::Hook { op, .. } => {
                done(op, Outcome::Hook(HookReport { end: HookEnd::Exit(0), output: String::new() }))
            }
            Effect::Window { .. } => {
                let active: Vec<_> = self.engine.iter().filter(|d| d.is_active()).collect();
                let services = active.iter().flat_map(|d| d.plan.watch.iter().flat_map(|w| w.arms.keys().cloned()));
                services.map(|service| Input::Judged { service, judged: judged(self.verdict, Some("blue")) }).collect()
            }
            Effect::KillHook { .. } | Effect::Watch(_) | Effect::StopWatch | Effect::Tell(_) => Vec::new(),
        }
    }

    fn try_create(&mut self, n: u32, json: &str) -> Result<(), EngineError> {
        let create = Create { id: id(n), spec: spec_of(json), retry_of: None };
        let decision = self.ask(|engine, world, now| engine.create(create, world, now))?;
        self.take(decision);
        Ok(())
    }

    fn try_execute(&mut self, n: u32) -> Result<(), EngineError> {
        let decision = self.ask(|engine, world, now| engine.execute(&id(n), world, now))?;
        self.take(decision);
        Ok(())
    }

    fn deploy(&mut self, n: u32, json: &str) {
        self.try_create(n, json).unwrap();
        self.try_execute(n).unwrap();
    }

    fn command(&mut self, n: u32, command: Command) -> Result<(), EngineError> {
        let decision = self.ask(|engine, world, now| engine.command(&id(n), command, world, now))?;
        self.take(decision);
        Ok(())
    }

    fn state(&self, n: u32) -> &'static str {
        crate::deploy::view::state_name(&self.engine.get(&id(n)).unwrap().state)
    }

    fn restart(&mut self) {
        let records = self.journal.iter().map(|line| serde_json::from_str(line).unwrap());
        self.engine = Engine::load(records);
        for id in self.engine.iter().map(|d| d.id.clone()).collect::<Vec<_>>() {
            let decision = self.ask(|engine, world, now| engine.recover(&id, world, now));
            self.take(decision);
        }
        let decision = self.ask(|engine, world, now| engine.begin_queued(world, now));
        self.take(decision);
    }

    fn split(&self, name: &str) -> String {
        let split = &self.world.state.services[name].wanted.split;
        split.iter().map(|(target, weight)| format!("{target} {weight}")).collect::<Vec<_>>().join(" ")
    }
}

const TO_BLUE: &str = r#"{"strategy":"blue-green","service":"web","to":"blue","version":"2"}"#;
const CANARY: &str = r#"{"strategy":"canary","service":"web","to":"blue","version":"2"}"#;

fn conflict(result: Result<(), EngineError>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.status(), http::StatusCode::CONFLICT, "{error}");
    error.to_string()
}

#[test]
fn one_deployment_of_a_service_is_active() {
    let mut bench = Bench::new();
    bench.hang = true;
    bench.deploy(1, TO_BLUE);
    bench.try_create(2, CANARY).unwrap();
    let before = bench.engine.clone();
    assert!(conflict(bench.try_execute(2)).contains("dep-1 of service web is active"));
    assert_eq!(bench.engine, before, "nothing changed");
    assert!(conflict(bench.try_execute(1)).contains("runs already"));
    bench.deploy(3, r#"{"strategy":"canary","service":"shop","to":"blue"}"#);
    assert_eq!(bench.engine.active(&service("shop")).map(|d| d.id.clone()), Some(id(3)));
}

#[test]
fn a_deployment_that_supersedes_waits_until_the_other_was_taken_back() {
    let mut bench = Bench::new();
    bench.verdict = Verdict::Running;
    bench.deploy(1, CANARY);
    assert_eq!((bench.state(1), bench.split("web").as_str()), ("running", "blue 10 % green 90 %"));
    bench.hang = true;
    bench.try_create(2, r#"{"strategy":"canary","service":"web","to":"v3","supersede":true}"#).unwrap();
    bench.try_execute(2).unwrap();
    assert_eq!((bench.state(1), bench.state(2)), ("rolling-back", "pending"));
    assert_eq!(bench.split("web"), "green 100 %", "traffic is back before anything else");
    bench.hang = false;
    bench.restart();
    assert_eq!((bench.state(1), bench.state(2)), ("rolled-back", "running"));
    assert_eq!(bench.split("web"), "green 90 % v3 10 %");
}

#[test]
fn a_success_can_be_taken_back_until_the_next_deployment_begins() {
    let mut bench = Bench::new();
    bench.deploy(1, TO_BLUE);
    assert_eq!((bench.state(1), bench.split("web").as_str()), ("succeeded", "blue 100 %"));
    bench.command(1, Command::Rollback).unwrap();
    assert_eq!((bench.state(1), bench.split("web").as_str()), ("rolled-back", "green 100 %"));
    assert!(conflict(bench.command(1, Command::Rollback)).contains("was rolled back already"));

    bench.deploy(2, TO_BLUE);
    bench.deploy(3, r#"{"strategy":"blue-green","service":"web","to":"green","version":"3"}"#);
    assert!(conflict(bench.command(2, Command::Rollback)).contains("another deployment"));
    bench.command(3, Command::Rollback).unwrap();
    assert_eq!(bench.split("web"), "blue 100 %");
}

#[test]
fn what_is_kept_for_a_while_is_stopped_then_and_started_again_for_a_rollback() {
    let mut bench = Bench::new();
    bench.deploy(1, &TO_BLUE.replace('}', r#","keep_old":"10m"}"#));
    let running = |bench: &Bench, target: &str| {
        bench.engine.memory(&service("web")).and_then(|memory| memory.running.get(target).map(|r| r.kept))
    };
    assert_eq!((running(&bench, "green"), running(&bench, "blue")), (Some(true), Some(false)));
    let at = bench.engine.wakes_at().unwrap();
    assert_eq!(at, bench.world.now.mono + Duration::from_secs(600));
    bench.world.wait(600);
    let decision = bench.ask(|engine, world, now| engine.tick(world, now));
    bench.take(decision);
    assert_eq!(running(&bench, "green"), None);
    assert_eq!(bench.engine.wakes_at(), None);
    bench.command(1, Command::Rollback).unwrap();
    assert_eq!((bench.state(1), bench.split("web").as_str()), ("rolled-back", "green 100 %"));
    assert_eq!(running(&bench, "green"), Some(false));
}

#[test]
fn a_bad_version_is_refused_until_it_is_unmarked_or_forced() {
    let mut bench = Bench::new();
    bench.verdict = Verdict::Fail;
    bench.deploy(1, CANARY);
    assert_eq!(bench.state(1), "rolled-back");
    bench.verdict = Verdict::Pass;
    assert!(
        conflict(bench.try_create(2, CANARY)).contains("version 2 of service web is marked as bad: a test says so")
    );
    bench.restart();
    assert!(conflict(bench.try_create(2, CANARY)).contains("marked as bad"), "also after a restart");
    bench.try_create(2, &CANARY.replace('}', r#","force":"the test was wrong"}"#)).unwrap();
    bench.try_create(3, &CANARY.replace('}', r#","mark_bad":false}"#)).unwrap();
    let mark = |bench: &mut Bench, mark| {
        let decision = bench.ask(|engine, world, now| engine.mark(&service("web"), mark, world, now))?;
        bench.take(decision);
        Ok(())
    };
    mark(&mut bench, Mark::Unbad("2".into())).unwrap();
    assert!(conflict(mark(&mut bench, Mark::Unbad("2".into()))).contains("not marked"));
    bench.deploy(4, CANARY);
    assert_eq!(bench.state(4), "succeeded");
    let note = Note::Bad {
        version: Version { name: "9".into(), image: None, fingerprint: None },
        why: "someone says so".into(),
        labels: BTreeMap::new(),
    };
    mark(&mut bench, Mark::Bad(note)).unwrap();
    let nine = CANARY.replace("blue", "v3").replace(r#""2""#, r#""9""#);
    assert!(conflict(bench.try_create(5, &nine)).contains("someone says so"));
}

#[test]
fn the_same_files_are_the_same_version_whatever_it_is_called() {
    let version = |name: &str, fingerprint: Option<&str>| Version {
        name: name.into(),
        image: None,
        fingerprint: fingerprint.map(str::to_owned),
    };
    let mut memory = ServiceMemory::default();
    let bad = |version| Note::Bad { version, why: "ill".into(), labels: [("commit".into(), "abc".into())].into() };
    memory.note(bad(version("1", Some("f00"))), 5);
    let expected = Bad { why: "ill".into(), at_unix_ms: 5, labels: [("commit".into(), "abc".into())].into() };
    assert_eq!(memory.bad(&version("2", Some("f00"))), Some(&expected));
    assert_eq!(memory.bad(&version("1", Some("ba2"))), None);
    assert_eq!(memory.bad(&version("1", None)), None);
    memory.note(Note::Good(version("2", Some("f00"))), 6);
    assert_eq!(memory.bad(&version("2", Some("f00"))), None);
}

#[test]
fn a_new_version_that_goes_down_is_taken_back_at_once() {
    let mut bench = Bench::new();
    bench.verdict = Verdict::Running;
    bench.deploy(1, TO_BLUE);
    assert_eq!((bench.state(1), bench.split("web").as_str()), ("running", "blue 100 %"));
    let reports = ["10.0.1.1:80", "10.0.1.2:80", "10.0.1.3:80"].map(|address| HealthReport {
        service: service("web"),
        target: fixtures::target("blue"),
        endpoint: fixtures::endpoint(address),
        health: Health::Unhealthy,
        reason: "it was killed".into(),
    });
    for (at, report) in reports.into_iter().enumerate() {
        let reports = vec![report];
        bench.world.apply(&crate::Change::Health { reports: reports.clone() });
        let decision = bench.ask(|engine, world, now| engine.health(&reports, world, now));
        bench.take(decision);
        assert_eq!(bench.state(1), if at < 2 { "running" } else { "rolled-back" });
    }
    assert_eq!(bench.split("web"), "green 100 %");
    let memory = bench.engine.memory(&service("web")).unwrap();
    assert_eq!(memory.health.len(), 3);
    assert!(memory.versions["2"].bad.is_some());
}

#[test]
fn a_journal_gives_the_engine_back_and_so_does_a_shorter_one() {
    let mut bench = Bench::new();
    bench.deploy(1, TO_BLUE);
    bench.verdict = Verdict::Running;
    bench.deploy(2, r#"{"strategy":"canary","service":"shop","to":"v3"}"#);
    let journal = bench.journal.iter().map(|line| serde_json::from_str(line).unwrap());
    let loaded = Engine::load(journal);
    let again = Engine::load(loaded.records());
    assert_eq!(again, loaded);
    let states = |engine: &Engine| engine.iter().map(|d| (d.id.clone(), d.undo.clone())).collect::<Vec<_>>();
    assert_eq!(states(&loaded), states(&bench.engine));
}

#[test]
fn only_what_is_over_is_retried_and_the_copy_says_of_what() {
    let mut bench = Bench::new();
    bench.try_create(1, TO_BLUE).unwrap();
    let retry = |bench: &mut Bench, old: u32, new: u32| {
        let decision = bench.ask(|engine, world, now| engine.retry(&id(old), id(new), world, now))?;
        bench.take(decision);
        Ok::<_, EngineError>(())
    };
    assert!(conflict(retry(&mut bench, 1, 2)).contains("not over"));
    bench.try_execute(1).unwrap();
    bench.command(1, Command::Rollback).unwrap();
    retry(&mut bench, 1, 2).unwrap();
    assert_eq!(bench.engine.get(&id(2)).unwrap().retry_of, Some(id(1)));
    assert_eq!(retry(&mut bench, 77, 3).unwrap_err().status(), http::StatusCode::NOT_FOUND);
}

#[test]
fn a_bracket_collects_services_and_releases_all_or_none() {
    let mut bench = Bench::new();
    let template =
        crate::deploy::spec::parse_template(&serde_json::from_str::<Value>(r#"{"strategy":"blue-green"}"#).unwrap())
            .unwrap();
    let decision = bench.ask(|engine, world, now| engine.open_bracket("spring".into(), template, world, now)).unwrap();
    bench.take(decision);
    for (name, version) in [("web", "1"), ("shop", "2"), ("web", "2")] {
        let json = format!(r#"{{"service":"{name}","to":"blue","version":"{version}"}}"#);
        let member = spec_of(&json).members[0].clone();
        let decision =
            bench.ask(|engine, world, now| engine.add_to_bracket("spring", vec![member], world, now)).unwrap();
        bench.take(decision);
    }
    bench.verdict = Verdict::Running;
    let decision = bench.ask(|engine, world, now| engine.release_bracket("spring", id(1), world, now)).unwrap();
    bench.take(decision);
    assert_eq!((bench.split("web"), bench.split("shop")), ("blue 100 %".into(), "blue 100 %".into()));
    assert_eq!(bench.engine.bracket("spring").unwrap().state, BracketState::Releasing { deployment: id(1) });
    assert_eq!(bench.engine.get(&id(1)).unwrap().plan.members[0].version.name, "2", "the newer one");
    assert_eq!(previews(&bench), ["dep-1: shop=blue web=blue", "spring: shop=blue web=blue"]);
    let label = bench.engine.preview_label(bench.engine.get(&id(1)).unwrap()).unwrap();
    assert_eq!(label.as_str(), "spring");
    let decision = bench.ask(|engine, world, now| engine.abort_bracket("spring", "no", world, now)).unwrap();
    bench.take(decision);
    assert_eq!((bench.split("web"), bench.split("shop")), ("green 100 %".into(), "green 100 %".into()));
    bench.restart();
    assert!(matches!(bench.engine.bracket("spring").unwrap().state, BracketState::Aborted { .. }));
    let again = bench.ask(|engine, world, now| engine.abort_bracket("spring", "no", world, now).map(|_| ()));
    assert!(conflict(again).contains("was aborted"));
}

/// Each label and what it leads to: `label: service=target/..`.
fn previews(bench: &Bench) -> Vec<String> {
    let part = |(service, part): (&ServiceId, &crate::preview::UnderTest)| {
        let targets: Vec<_> = part.targets.iter().map(ToString::to_string).collect();
        format!("{service}={}{}", targets.join("/"), if part.place == Place::InPlace { " in place" } else { "" })
    };
    let all = bench.engine.previews();
    let lines = all.iter().map(|(label, preview)| {
        let members: Vec<_> = preview.members.iter().map(part).collect();
        format!("{label}: {}", members.join(" "))
    });
    lines.collect()
}

#[test]
fn what_is_active_is_under_test_and_what_succeeded_is_as_usual() {
    let mut bench = Bench::new();
    bench.try_create(1, TO_BLUE).unwrap();
    assert_eq!(previews(&bench), Vec::<String>::new(), "nothing has begun");
    bench.hang = true;
    bench.try_execute(1).unwrap();
    assert_eq!(previews(&bench), ["dep-1: web=blue"]);
    let begun = bench.engine.clone();
    bench.restart();
    assert_eq!(bench.engine.previews(), begun.previews(), "a restart finds the same");

    let mut bench = Bench::new();
    bench.deploy(1, TO_BLUE);
    assert_eq!((bench.state(1), previews(&bench)), ("succeeded", vec!["dep-1: ".to_owned()]));
    bench.hang = true;
    bench.deploy(2, r#"{"strategy":"recreate","service":"web","version":"3"}"#);
    assert_eq!(previews(&bench), ["dep-1: ", "dep-2: web=blue in place"]);
}

#[test]
fn only_the_latest_successes_of_a_service_keep_their_names() {
    let mut bench = Bench::new();
    for (n, to) in [(1, "blue"), (2, "green"), (3, "blue")] {
        let json = format!(r#"{{"strategy":"blue-green","service":"web","to":"{to}","version":"{n}"}}"#);
        bench.deploy(n, &json);
        assert_eq!(bench.state(n), "succeeded");
    }
    bench.deploy(4, r#"{"strategy":"blue-green","service":"shop","to":"blue","version":"1"}"#);
    assert_eq!(previews(&bench), ["dep-2: ", "dep-3: ", "dep-4: "]);
    bench.command(3, Command::Rollback).unwrap();
    assert_eq!(bench.state(3), "rolled-back");
    assert_eq!(previews(&bench), ["dep-1: ", "dep-2: ", "dep-4: "], "who runs by the older name is found by it again");
}

/// Services dev.web, hardening.web and production.web, and stages of these names.
fn staged() -> Bench {
    let names = ["dev.web", "hardening.web", "production.web"];
    let services = names.map(|name| {
        let mut spec = fixtures::spec(tidegate_config::FailbackMode::Manual);
        spec.routes[0].path = format!("/{name}");
        spec.targets.remove("v3");
        (service(name), spec)
    });
    let mut bench = Bench::of(fixtures::World::fresh(services));
    for (name, json) in [
        ("dev", r#"{"strategy":"recreate"}"#),
        ("hardening", r#"{"strategy":"blue-green","next":"production","auto_promote":true,"tests":["performance"]}"#),
        ("production", r#"{"strategy":"canary","interval":"1m"}"#),
    ] {
        bench.stages.insert(name.into(), stage(name, json).unwrap());
    }
    assert_eq!(check(&bench.stages), []);
    bench
}

fn stage(name: &str, json: &str) -> Result<Stage, Vec<String>> {
    let document: Value = serde_json::from_str(json).unwrap();
    parse_stage(name, &document).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

#[test]
fn what_succeeds_in_a_stage_goes_to_the_next() {
    let mut bench = staged();
    let artifacts = [("web".to_owned(), "web:0.22.3".to_owned())];
    let spec = trigger(&bench.stages, Some("foo"), Some("hardening"), &artifacts).unwrap();
    let create = Create { id: id(1), spec, retry_of: None };
    let decision = bench.ask(|engine, world, now| engine.create(create, world, now)).unwrap();
    bench.take(decision);
    bench.try_execute(1).unwrap();
    assert_eq!(bench.state(1), "succeeded");
    assert_eq!(bench.engine.get(&id(1)).unwrap().plan.members[0].version.name, "0.22.3", "the tag is the version");
    let next = bench.engine.get(&DeploymentId::parse("dep-1n").unwrap()).unwrap();
    assert_eq!(next.spec.members[0].service, service("production.web"));
    assert_eq!(next.spec.members[0].image.as_deref(), Some("web:0.22.3"));
    assert_eq!((next.spec.project.as_deref(), next.spec.stage.as_deref()), (Some("foo"), Some("production")));
    assert_eq!(bench.split("production.web"), "blue 100 %");
    assert_eq!(bench.split("dev.web"), "green 100 %", "dev is not touched");
    assert_eq!(bench.engine.iter().count(), 2, "and production is the last");
}

#[test]
fn stages_that_make_no_sense_are_refused() {
    let bench = staged();
    let artifacts = [("web".to_owned(), "web:1".to_owned())];
    let refused = |stage: Option<&str>, artifacts: &[(String, String)]| {
        trigger(&bench.stages, None, stage, artifacts).unwrap_err()[0].to_string()
    };
    assert_eq!(refused(Some("moon"), &artifacts), "stage: there is no stage moon; there is dev, hardening, production");
    assert_eq!(refused(None, &artifacts), "stage: say which stage: dev, hardening, production");
    assert_eq!(refused(Some("dev"), &[]), "service: name at least one service and its artifact");
    let twice = [artifacts[0].clone(), artifacts[0].clone()];
    assert_eq!(refused(Some("dev"), &twice), "services[1]: web is named twice");

    let none = trigger(&Stages::new(), None, None, &artifacts).unwrap_err()[0].to_string();
    assert!(none.ends_with("the configuration has no stages, add some as [stage.NAME]"), "{none}");

    let problems = stage("a", r#"{"auto_promote":true,"stage":"b","service":"web","strategy":"no"}"#).unwrap_err();
    let begins = [
        "auto_promote: there is no next",
        "stage: the stage has its name",
        "strategy: there is no strategy",
        "service: unknown key",
    ];
    assert_eq!(problems.len(), begins.len(), "{problems:?}");
    for begin in begins {
        assert!(problems.iter().any(|problem| problem.starts_with(begin)), "{begin}: {problems:?}");
    }
    let mut circle = Stages::new();
    circle.insert("a".into(), stage("a", r#"{"next":"b"}"#).unwrap());
    circle.insert("b".into(), stage("b", r#"{"next":"a"}"#).unwrap());
    circle.insert("c".into(), stage("c", r#"{"next":"d"}"#).unwrap());
    let problems: Vec<_> = check(&circle).iter().map(ToString::to_string).collect();
    assert_eq!(
        problems,
        [
            "stage.a.next: the stages lead in a circle",
            "stage.b.next: the stages lead in a circle",
            "stage.c.next: there is no stage d",
        ]
    );
}

#[test]
fn only_the_latest_deployments_are_kept() {
    let mut bench = Bench::new();
    for n in 1..=130 {
        bench.try_create(n, TO_BLUE).unwrap();
        bench.command(n, Command::Cancel).unwrap();
    }
    assert_eq!(bench.engine.iter().count(), 100);
    assert!(bench.engine.get(&id(30)).is_none() && bench.engine.get(&id(31)).is_some());
    bench.restart();
    assert_eq!(bench.engine.iter().count(), 100);
}
