//! Deciding on a request allocates nothing.

use std::sync::Arc;

use tidegate_benches::{Layout, Request, draw, many, one, state, sticky, url_for, with_flags, with_rules};
use tidegate_config::ServiceSpec;
use tidegate_core::{Plan, compile, decide};

fn check(services: impl IntoIterator<Item = ServiceSpec>, requests: &[Request]) {
    let snapshot = compile(&Arc::new(state(services)), None, 2);
    for request in requests {
        let head = request.head();
        let mut plan = None;
        let counted = allocation_counter::measure(|| plan = Some(decide(&snapshot, &head, draw(1))));
        assert!(matches!(plan, Some(Plan::Forward(_))), "{plan:?} for {request:?}");
        assert_eq!(counted.count_total, 0, "{request:?}");
    }
}

fn requests() -> Vec<Request> {
    vec![
        Request::new("www.example.com", "/products/42"),
        Request::new("WWW.Example.COM.:8080", "/"),
        Request::new("[2001:db8::1]:80", "/caf%C3%A9/.well-known/x%20y"),
        Request::new("www.example.com", "/").with("x-tidegate-target", "blue"),
        Request::new("www.example.com", "/").with("x-beta", "1"),
    ]
}

#[test]
fn paths_that_name_a_service_or_look_like_it_allocate_nothing() {
    let mut state = state([one()]);
    state.offers = [tidegate_core::state::ListenerOffer { service_paths: true, preview: None }].into();
    let snapshot = compile(&Arc::new(state), None, 2);
    let paths = ["/services/service-0/x", "/services/service-0_green/x", "/services/nobody_x_y/", "/products/42"];
    for (path, strips) in paths.into_iter().zip([true, true, false, false]) {
        let request = Request::new("www.example.com", path);
        let head = request.head();
        let mut plan = None;
        let counted = allocation_counter::measure(|| plan = Some(decide(&snapshot, &head, draw(1))));
        let Some(Plan::Forward(forward)) = plan else { panic!("{plan:?} for {path}") };
        assert_eq!((forward.strip > 0, counted.count_total), (strips, 0), "{path}");
    }
}

#[test]
fn counter_counts() {
    assert_eq!(allocation_counter::measure(|| drop(std::hint::black_box(Box::new(1)))).count_total, 1);
}

#[test]
fn deciding_for_one_service_allocates_nothing() {
    check([one()], &requests());
}

#[test]
fn sticky_decisions_with_rules_allocate_nothing() {
    check([with_rules(sticky(one()))], &requests());
}

#[test]
fn a_thousand_rules_on_flags_allocate_nothing() {
    for value in ["on", "off", "50%"] {
        let snapshot = compile(&Arc::new(with_flags(state([sticky(one())]), value)), None, 2);
        let request = Request::new("www.example.com", "/products/42");
        let head = request.head();
        let counted = allocation_counter::measure(|| {
            std::hint::black_box(decide(&snapshot, &head, draw(1)));
        });
        assert_eq!(counted.count_total, 0, "{value}");
    }
}

#[test]
fn deciding_among_many_services_allocates_nothing() {
    for layout in [Layout::ManyHosts, Layout::OneHost] {
        check(
            many(layout),
            &[1, 4242, 9999].map(|n| url_for(layout, n)).map(|(host, path)| Request::new(&host, &path)),
        );
    }
}
