use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed};

use tidegate_config::{FlagCondition, Match};

use super::*;
use crate::{
    Health::{Healthy, Suspect, Unhealthy, Unknown},
    Plan, ServiceIdx,
    flags::FlagState,
    pool::choose,
    stats::Worker,
    testing::{Request, Scene, at, flag_values, id, split, web},
};

/// Two services, `api` and `web`, and the snapshot of them.
fn two() -> (State, Snapshot) {
    let mut state = Scene::new(&[("green", 2), ("blue", 1)]).mirror("audit", "blue", 100).state;
    let web = Arc::clone(&state.services["web"]);
    let mut api = (*web).clone();
    Arc::make_mut(&mut api.spec).routes[0].path = "/api".into();
    state.services.insert(id("api"), Arc::new(api));
    let snapshot = compile(&Arc::new(state.clone()), None, 2);
    (state, snapshot)
}

fn change(state: &State, service: &str, change: impl FnOnce(&mut ServiceState)) -> State {
    let mut state = state.clone();
    change(Arc::make_mut(state.services.get_mut(service).unwrap()));
    state
}

fn next(state: State, previous: &Snapshot) -> Snapshot {
    compile(&Arc::new(state), Some(previous), 2)
}

fn route_of(snapshot: &Snapshot, path: &str) -> String {
    match Request::get(path).decide(snapshot, 0) {
        Plan::Forward(forward) => snapshot.service(forward.service).unwrap().id.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn services_are_in_the_order_of_their_names_and_found_by_them() {
    let (_, snapshot) = two();
    let names: Vec<_> = snapshot.services.iter().map(|service| service.id.as_str()).collect();
    assert_eq!(names, ["api", "web"]);
    assert_eq!(web(&snapshot).id, id("web"));
    assert!(snapshot.service(ServiceIdx(2)).is_none());
}

#[test]
fn unchanged_service_and_router_are_shared() {
    let (state, before) = two();
    let after = next(change(&state, "web", |web| web.wanted.split = split(&[("blue", 100), ("green", 9900)])), &before);
    assert!(Arc::ptr_eq(&before.services[0], &after.services[0]));
    assert!(!Arc::ptr_eq(&before.services[1], &after.services[1]));
    assert!(Arc::ptr_eq(&before.router, &after.router));
    assert_eq!(web(&before).split.range_of(at(&before, "blue")), None);
    assert_eq!(web(&after).split.range_of(at(&after, "blue")), Some((0, 100)));
}

#[test]
fn counters_survive_every_change_of_their_owner() {
    let (state, before) = two();
    let changed = change(&state, "web", |web| {
        web.wanted.split = split(&[("blue", 100), ("green", 9900)]);
        let green = &mut web.wanted.targets.get_mut("green").unwrap().endpoints;
        green[1].weight = 7;
        green.swap(0, 1);
        green.push(EndpointSpec { address: id("127.0.0.1:9"), weight: 1 });
        web.wanted.targets.insert(id("a"), TargetSpec { endpoints: Vec::new() });
        web.wanted.mirrors.get_mut("audit").unwrap().compare = true;
        web.health.clear();
    });
    let after = next(changed, &before);
    let (before, after) = (web(&before), web(&after));
    assert!(Arc::ptr_eq(&before.stats, &after.stats));
    assert!(Arc::ptr_eq(&before.mirrors[0].stats, &after.mirrors[0].stats));
    let target =
        |service: &Service, name: &str| service.target(service.target_named(name).unwrap()).unwrap().stats.clone();
    assert!(Arc::ptr_eq(&target(before, "green"), &target(after, "green")));
    let endpoints = |service: &Service| {
        let green = service.target(service.target_named("green").unwrap()).unwrap();
        green.endpoints.iter().map(|endpoint| Arc::clone(&endpoint.stats)).collect::<Vec<_>>()
    };
    let (before, after) = (endpoints(before), endpoints(after));
    assert!(Arc::ptr_eq(&before[0], &after[1]) && Arc::ptr_eq(&before[1], &after[0]));
    assert!(before.iter().all(|stats| !Arc::ptr_eq(stats, &after[2])));
}

#[test]
fn service_that_comes_goes_or_moves_changes_the_router() {
    let (state, before) = two();
    assert_eq!((route_of(&before, "/api"), route_of(&before, "/new")), ("api".into(), "web".into()));

    let mut more = state.clone();
    let mut new = (*state.services["web"]).clone();
    Arc::make_mut(&mut new.spec).routes[0].path = "/new".into();
    more.services.insert(id("new"), Arc::new(new));
    let with_new = next(more, &before);
    assert_eq!(["/api", "/new", "/"].map(|path| route_of(&with_new, path)), ["api", "new", "web"]);
    assert!(Arc::ptr_eq(&before.services[1], &with_new.services[2]), "only its position changed");

    let mut less = state.clone();
    less.services.remove("api");
    assert_eq!(["/api", "/"].map(|path| route_of(&next(less.clone(), &with_new), path)), ["web", "web"]);

    let moved = change(&state, "api", |api| Arc::make_mut(&mut api.spec).routes[0].path = "/v2".into());
    assert_eq!(["/api", "/v2"].map(|path| route_of(&next(moved.clone(), &before), path)), ["web", "api"]);

    // As many services as before, but not the same.
    let mut swapped = less;
    let mut web = (*state.services["web"]).clone();
    Arc::make_mut(&mut web.spec).routes[0].path = "/z".into();
    swapped.services.insert(id("z"), Arc::new(web));
    assert_eq!(["/api", "/z"].map(|path| route_of(&next(swapped.clone(), &before), path)), ["web", "z"]);
}

#[test]
fn counters_of_a_service_do_not_go_to_another_of_its_position() {
    let (state, before) = two();
    let mut swapped = state;
    let api = swapped.services.remove("api").unwrap();
    swapped.services.insert(id("apj"), api);
    let after = next(swapped, &before);
    assert!(!Arc::ptr_eq(&before.services[0].stats, &after.services[0].stats));
    assert!(Arc::ptr_eq(&before.services[1], &after.services[1]));
}

#[test]
fn new_flag_value_reaches_services_whose_rules_ask_for_it() {
    let flag = FlagCondition { name: id("beta"), is: None };
    let scene = Scene::new(&[("green", 1), ("blue", 1)]).rule(Match { flag: Some(flag), ..Match::default() }, "blue");
    let before = scene.snapshot();
    let target = |snapshot: &Snapshot| match Request::get("/").decide(snapshot, 0) {
        Plan::Forward(forward) => web(snapshot).target(forward.target).unwrap().id.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(target(&before), "green");
    let on = State { flags: Arc::new(FlagState::declared(&flag_values(&[("beta", "on")]))), ..scene.state.clone() };
    let after = next(on.clone(), &before);
    assert_eq!(target(&after), "blue");
    let plain = Scene::new(&[("green", 1)]);
    let before = plain.snapshot();
    let after = next(State { flags: on.flags, ..plain.state }, &before);
    assert!(Arc::ptr_eq(&before.services[0], &after.services[0]), "no rule of it asks for a flag");
}

#[test]
fn target_is_available_while_an_endpoint_may_be_chosen() {
    let cases = [
        ([Healthy, Unhealthy], true, false),
        ([Suspect, Unhealthy], true, false),
        ([Unhealthy, Unhealthy], false, false),
        ([Unknown, Unhealthy], false, true),
        ([Unknown, Healthy], true, true),
    ];
    for (health, available, pending) in cases {
        let scene = Scene::new(&[("green", 2)]).health("green", &health);
        let snapshot = scene.snapshot();
        let green = &web(&snapshot).targets[0];
        assert_eq!((green.available, green.pending), (available, pending), "{health:?}");
        let snapshot = scene.drained("green").snapshot();
        let green = &web(&snapshot).targets[0];
        assert_eq!((green.open, green.available, green.pending), (false, false, false));
    }
}

#[test]
fn endpoint_that_is_never_probed_is_in_use_at_once() {
    let scene = Scene::new(&[("green", 1)]).spec(|spec| spec.health = HealthPolicy::Passive);
    for (health, expected) in [(Unknown, Healthy), (Suspect, Suspect), (Unhealthy, Unhealthy)] {
        let snapshot = scene.clone().health("green", &[health]).snapshot();
        assert_eq!(web(&snapshot).targets[0].endpoints[0].health, expected);
    }
}

#[test]
fn name_is_used_when_it_has_addresses() {
    let address: EndpointAddress = id("origin.internal:80");
    let scene = Scene::new(&[("green", 1)]).spec(|spec| spec.health = HealthPolicy::Passive).web(|web| {
        web.wanted.targets.get_mut("green").unwrap().endpoints[0].address = address.clone();
    });
    let sockets: Vec<SocketAddr> = vec!["127.0.0.1:80".parse().unwrap()];
    for (resolved, available, pending) in
        [(None, false, true), (Some(Vec::new()), false, false), (Some(sockets), true, false)]
    {
        let snapshot =
            scene.clone().web(|web| web.resolved.extend(resolved.map(|sockets| (address.clone(), sockets)))).snapshot();
        let green = &web(&snapshot).targets[0];
        assert_eq!((green.available, green.pending), (available, pending));
    }
    let unix = scene.web(|web| {
        web.wanted.targets.get_mut("green").unwrap().endpoints[0].address = id("unix:/run/origin.sock");
    });
    assert!(web(&unix.snapshot()).targets[0].available);
}

#[test]
fn active_requests_are_summed_over_workers() {
    let (_, snapshot) = two();
    let stats = &web(&snapshot).stats;
    stats.active.of(Worker(0)).fetch_add(5, Relaxed);
    stats.active.of(Worker(1)).fetch_sub(2, Relaxed);
    assert_eq!(stats.active_now(), 3);
}

#[test]
fn sole_endpoint_is_the_one_that_its_target_always_chooses() {
    let all = [Healthy, Suspect, Unhealthy, Unknown];
    let pairs = all.into_iter().flat_map(|first| all.map(|second| [first, second]));
    for health in pairs {
        let scene = Scene::new(&[("a", 1), ("b", 2), ("c", 1), ("d", 1)]).health("b", &health);
        for scene in [scene.clone(), scene.drained("b")] {
            let snapshot = scene.snapshot();
            let service = web(&snapshot);
            for (target, idx) in service.targets.iter().zip((0..).map(TargetIdx)) {
                let chosen =
                    |random: u64| choose(target, std::iter::empty(), random.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let first = chosen(0);
                let always = target.available && (1..100).all(|random| chosen(random) == first);
                // Only the first three are at hand.
                let expected = first.filter(|_| always && idx.get() < 3);
                assert_eq!(service.sole.of(idx), expected, "{} with {health:?}", target.id);
            }
            assert_eq!(service.sole.of(TargetIdx(u32::MAX)), None);
        }
    }
}
