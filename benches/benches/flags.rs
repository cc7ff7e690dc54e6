//! What a rule on a flag adds to a decision, and what a change of a flag costs.

use std::{cell::LazyCell, hint::black_box, sync::Arc, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use tidegate_benches::{FLAG_RULES, Request, TARGETED, draw, one, read_again, state, sticky, with_flags};
use tidegate_core::{Moment, apply, compile, decide};

/// The allocator of the product.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Decisions among 10,000 flags with 1,000 rules, none of which matches. A decision without rules is to be taken off.
fn rules(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("decide: 10,000 flags, {FLAG_RULES} flag rules"));
    group.measurement_time(Duration::from_secs(3));
    for (name, value) in [("on or off", "off"), ("a share", "0.01%"), ("targeting", TARGETED)] {
        let snapshot = compile(&Arc::new(with_flags(state([sticky(one())]), value)), None, 2);
        let request = Request::new("www.example.com", "/products/42").with("x-plan", "lead");
        let head = request.head();
        let mut n = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                n += 1;
                decide(black_box(&snapshot), black_box(&head), draw(n))
            });
        });
    }
    group.finish();
}

/// One of 10,000 flags has another value: what the one writer does until the next snapshot.
fn changes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("change: one of 10,000 flags, 1,000 flag rules");
    group.sample_size(10);
    let scene = LazyCell::new(|| {
        let now = Moment { mono: Duration::ZERO, unix_ms: 1 };
        let state = with_flags(state([one()]), "off");
        let read = apply(&state, &read_again("off"), now).map_or(state, |applied| applied.state);
        let state = Arc::new(read);
        (compile(&state, None, 2), state, now)
    });
    for (name, value) in [("another value", "on"), ("the same again", "off")] {
        let change = read_again(value);
        group.bench_function(name, |bencher| {
            let (before, state, now) = &*scene;
            bencher.iter(|| {
                let applied = apply(black_box(state), &change, *now).ok()?;
                Some(compile(&Arc::new(applied.state), Some(before), 2))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, rules, changes);
criterion_main!(benches);
