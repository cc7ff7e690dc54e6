//! What a decision costs, and what a change costs.

use std::{cell::LazyCell, hint::black_box, sync::Arc};

use criterion::{BatchSize, Bencher, Criterion, criterion_group, criterion_main};
use tidegate_benches::{Layout, Request, change_one, draw, many, one, state, sticky, url_for, with_rules};
use tidegate_config::{ServiceSpec, Weight};
use tidegate_core::{Snapshot, TargetIdx, compile, decide, sequence::SplitTable};

/// The allocator of the product: it decides how far apart the parts of a snapshot lie.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Requests that a bench of the large scene takes in turn: to every service, or to a busy hundred of them.
const REQUESTS: [(&str, usize); 2] = [("all busy", 10_000), ("100 busy", 100)];

fn snapshot(services: impl IntoIterator<Item = ServiceSpec>) -> Snapshot {
    compile(&Arc::new(state(services)), None, 2)
}

fn decisions(criterion: &mut Criterion) {
    let small = [
        ("one service", one()),
        ("one service, sticky", sticky(one())),
        ("one service, five rules", with_rules(one())),
        ("one service, sticky, five rules", with_rules(sticky(one()))),
    ];
    for (name, service) in small {
        let snapshot = snapshot([service]);
        let request = Request::new("www.example.com", "/products/42");
        let head = request.head();
        let mut n = 0;
        criterion.bench_function(&format!("decide: {name}"), |bencher| {
            bencher.iter(|| {
                n += 1;
                decide(black_box(&snapshot), black_box(&head), draw(n))
            });
        });
    }
    for (name, layout) in [("each on its host", Layout::ManyHosts), ("all on one host", Layout::OneHost)] {
        let snapshot = LazyCell::new(|| snapshot(many(layout)));
        for (busy, requests) in REQUESTS {
            let name = format!("decide: 10,000 services, 100,000 routes, {name}, {busy}");
            criterion.bench_function(&name, |bencher| large(bencher, &snapshot, layout, requests));
        }
    }
}

/// Decides on requests to this many services in turn. The requests lie side by side, so that they are at hand as a
/// request is that was just parsed: the caches miss on the snapshot only.
fn large(bencher: &mut Bencher<'_>, snapshot: &Snapshot, layout: Layout, requests: usize) {
    // 7,919 is coprime to the number of services: neighbours in time are far apart in memory.
    let urls: Vec<_> = (0..requests).map(|n| url_for(layout, n * 7919)).collect();
    let text: String = urls.iter().flat_map(|(host, path)| [host.as_str(), path]).collect();
    let mut rest = text.as_str();
    let mut take = |length| {
        let (first, after) = rest.split_at(length);
        rest = after;
        first
    };
    let urls: Vec<_> = urls.iter().map(|(host, path)| (take(host.len()), take(path.len()))).collect();
    let request = Request::new("", "");
    let mut turns = urls.iter().cycle();
    let mut n = 0;
    bencher.iter(|| {
        n += 1;
        turns.next().map(|(host, path)| decide(black_box(snapshot), &request.head_to(host, path), draw(n)))
    });
}

fn splits(criterion: &mut Criterion) {
    let weights = [(0, 1000), (1, 2000), (2, 7000)];
    let weights = weights.map(|(target, points)| (TargetIdx(target), Weight::from_points(points).unwrap_or_default()));
    let table = SplitTable::new(weights, TargetIdx(2));
    let mut number = 0;
    criterion.bench_function("split: pick of three", |bencher| {
        bencher.iter(|| {
            number = (number + 3801) % 10_000;
            black_box(&table).pick(number)
        });
    });
}

fn compiles(criterion: &mut Criterion) {
    let before = LazyCell::new(|| Arc::new(state(many(Layout::ManyHosts))));
    let mut group = criterion.benchmark_group("compile: 10,000 services, 100,000 routes");
    group.sample_size(10);
    group.bench_function("everything", |bencher| {
        let before = &*before;
        bencher.iter_batched(|| (), |()| compile(black_box(before), None, 2), BatchSize::PerIteration);
    });
    let change = LazyCell::new(|| (compile(&before, None, 2), Arc::new(change_one(&before))));
    group.bench_function("one service changed", |bencher| {
        let (previous, after) = &*change;
        bencher.iter_batched(|| (), |()| compile(black_box(after), Some(previous), 2), BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, decisions, splits, compiles);
criterion_main!(benches);
