//! What requests count for a deployment that watches their service.

use tidegate_config::TargetId;
use tidegate_core::deploy::{
    spec::Goal,
    step::Arms,
    watch::{GoalMatch, Lineup, Reading, Tally},
};

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Begins to watch green against blue.
fn watch(proxy: &Proxy) -> Arc<Tally> {
    let snapshot = proxy.snapshot();
    let id = |name: &str| TargetId::parse(name).unwrap();
    let lineup = Lineup::new(&Arms { candidates: vec![id("green")], baseline: id("blue") });
    let goal = Goal { name: "buy".to_owned(), method: None, path: None, status: None };
    let tally = Arc::new(Tally::new(lineup, Some(GoalMatch::new(&goal)), Some(&snapshot.services[0])));
    snapshot.services[0].stats.watch.begin(&tally);
    tally
}

/// All requests go to green; blue is the last resort.
fn greens(blue: &EndpointAddress, green: &EndpointAddress) -> Proxy {
    let lines = format!("split = {{ green = 100 }}\ntarget.green = {{ endpoints = [{:?}] }}", green.to_string());
    Proxy::of(&[blue], &lines)
}

async fn counted(proxy: &Proxy, tally: &Tally) -> [Reading; 2] {
    proxy.at_rest().await;
    tally.read().try_into().unwrap()
}

#[tokio::test]
async fn goal_that_an_answer_names_counts_and_is_not_told_to_the_client() {
    let blue = named("blue").await;
    let green = Scripted::start(Script::Answer(answer(200, "X-Tidegate-Goal: buy\r\n", "green"))).await;
    let proxy = greens(&blue.address, &green.address);
    // Nobody watches: it is withheld nevertheless.
    assert_eq!(proxy.ask(GET).await.header("x-tidegate-goal"), Vec::<&str>::new());
    let tally = watch(&proxy);
    let answer = proxy.ask(GET).await;
    assert_eq!((answer.text(), answer.header("x-tidegate-goal")), ("green", vec![]));
    let [green, blue] = counted(&proxy, &tally).await;
    assert_eq!((green.by_split.requests, green.by_split.errors, green.conversions), (1, 0, 1));
    assert_eq!(green.by_split.durations.total(), 1);
    assert_eq!(blue, Reading::default());
}

#[tokio::test]
async fn goal_of_another_name_counts_nothing() {
    let blue = named("blue").await;
    let green = Scripted::start(Script::Answer(answer(200, "x-tidegate-goal: sell\r\n", "green"))).await;
    let proxy = greens(&blue.address, &green.address);
    let tally = watch(&proxy);
    assert_eq!(proxy.ask(GET).await.header("x-tidegate-goal"), Vec::<&str>::new());
    let [green, _] = counted(&proxy, &tally).await;
    assert_eq!((green.by_split.requests, green.conversions), (1, 0));
}

#[tokio::test]
async fn errors_of_the_new_version_count_against_it_also_when_the_old_one_hides_them() {
    let blue = named("blue").await;
    let green = Scripted::start(Script::Answer(answer(503, "", "green"))).await;
    let proxy = greens(&blue.address, &green.address);
    let tally = watch(&proxy);
    assert_eq!(proxy.ask(GET).await.status, 503);
    let [green, _] = counted(&proxy, &tally).await;
    assert_eq!((green.by_split.requests, green.by_split.errors), (1, 1));

    let gone = Scripted::start(Script::Answer(Vec::new())).await.address.clone();
    let proxy = greens(&blue.address, &gone);
    let tally = watch(&proxy);
    assert_eq!(proxy.ask(GET).await.text(), "blue", "nobody answers there");
    let [green, blue] = counted(&proxy, &tally).await;
    assert_eq!((green.by_split.requests, green.by_split.errors), (1, 1));
    assert_eq!((green.by_split.durations.total(), blue), (0, Reading::default()));
}
