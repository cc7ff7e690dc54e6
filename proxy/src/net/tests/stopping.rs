//! The end: of the process, and of a target.

use std::time::Instant;

use tidegate_config::{TargetId, TargetSpec};

use super::*;

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An endpoint that answers when the test says so.
struct Gated {
    address: EndpointAddress,
    asked: mpsc::UnboundedReceiver<()>,
    open: watch::Sender<bool>,
}

async fn gated() -> Gated {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let (ask, asked) = mpsc::unbounded_channel();
    let (open, opened) = watch::channel(false);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (ask, mut opened) = (ask.clone(), opened.clone());
            tokio::spawn(async move {
                let mut sink = [0; 4096];
                while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {
                    let _ = ask.send(());
                    tokio::select! {
                        _ = opened.wait_for(|open| *open) => {}
                        // The proxy has closed.
                        _ = stream.read_u8() => return,
                    }
                    let _ = stream.write_all(&answer(200, "", "late")).await;
                }
            });
        }
    });
    Gated { address, asked, open }
}

#[tokio::test]
async fn an_idle_data_plane_stops_at_once() {
    let blue = named("blue").await;
    let mut proxy = Proxy::run(&file("grace = \"30s\"", &[&blue.address], ""));
    let mut idle = proxy.client().await;
    idle.write(GET).await;
    idle.answer().await;
    let began = Instant::now();
    proxy.enter(Phase::Stopping);
    proxy.ended().await;
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(idle.rest().await, Some(Vec::new()), "an idle connection is closed");
    assert!(TcpStream::connect(proxy.address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn a_newcomer_that_says_nothing_is_not_waited_for_until_its_heads_deadline() {
    let blue = named("blue").await;
    let served = file("grace = \"5m\"\n[server.limits]\nheader_timeout = \"5m\"", &[&blue.address], "");
    for listener in ["", "h2c = true"] {
        let mut proxy = Proxy::run(&with_listener(&served, listener));
        let mut silent = proxy.client().await;
        let mut later = proxy.client().await;
        later.write(GET).await;
        later.answer().await;
        proxy.enter(Phase::Stopping);
        proxy.ended().await;
        assert_eq!(silent.rest().await, Some(Vec::new()));
    }
}

#[tokio::test]
async fn a_request_that_runs_is_finished_before_the_end() {
    let mut slow = gated().await;
    let mut proxy = Proxy::run(&file("grace = \"30s\"", &[&slow.address], ""));
    let mut client = proxy.client().await;
    client.write(GET).await;
    slow.asked.recv().await.unwrap();
    proxy.enter(Phase::Stopping);
    while TcpStream::connect(proxy.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    slow.open.send_replace(true);
    let answer = client.answer().await;
    assert_eq!((answer.text(), answer.header("connection")), ("late", vec!["close"]));
    proxy.ended().await;
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_is_cut() {
    let mut slow = gated().await;
    let mut proxy = Proxy::run(&file("grace = \"200ms\"", &[&slow.address], ""));
    let mut client = proxy.client().await;
    client.write(GET).await;
    slow.asked.recv().await.unwrap();
    proxy.enter(Phase::Stopping);
    proxy.ended().await;
    assert!(client.try_answer().await.is_none());
    assert_eq!(proxy.snapshot().services[0].stats.active_now(), 0);
}

#[tokio::test]
async fn a_cut_ends_everything_at_once() {
    let mut slow = gated().await;
    let mut proxy = Proxy::run(&file("grace = \"30s\"", &[&slow.address], ""));
    let mut client = proxy.client().await;
    client.write(GET).await;
    slow.asked.recv().await.unwrap();
    proxy.enter(Phase::Cut);
    proxy.ended().await;
    assert!(client.try_answer().await.is_none());
}

/// Two targets, each with a request that runs.
async fn drained(change: impl FnOnce(&Proxy, TargetId)) -> (bool, bool) {
    let (mut blue, mut green) = (gated().await, gated().await);
    let more = format!(
        "drain = \"200ms\"\nsplit = {{ green = 100 }}\n[service.web.target.green]\nendpoints = [{:?}]",
        green.address.to_string()
    );
    let proxy = Proxy::of(&[&blue.address], &more);
    let mut on_green = proxy.client().await;
    on_green.write(GET).await;
    green.asked.recv().await.unwrap();
    let service = ServiceId::parse("web").unwrap();
    proxy.change(&Change::Switch { service, to: TargetId::parse("blue").unwrap() });
    let mut on_blue = proxy.client().await;
    on_blue.write(GET).await;
    blue.asked.recv().await.unwrap();
    change(&proxy, TargetId::parse("green").unwrap());
    let green_cut = on_green.try_answer().await.is_none();
    blue.open.send_replace(true);
    (green_cut, on_blue.try_answer().await.is_none())
}

#[tokio::test]
async fn a_drained_target_is_cut_when_its_time_is_up_and_no_other_is() {
    let cut = drained(|proxy, target| {
        proxy.change(&Change::Drain { service: ServiceId::parse("web").unwrap(), target });
    });
    assert_eq!(cut.await, (true, false));
}

#[tokio::test]
async fn a_removed_target_is_cut_when_its_time_is_up_and_no_other_is() {
    let cut = drained(|proxy, target| {
        proxy.change(&Change::RemoveTarget { service: ServiceId::parse("web").unwrap(), target });
    });
    assert_eq!(cut.await, (true, false));
}

#[tokio::test]
async fn a_switch_touches_no_request_that_runs() {
    let mut blue = gated().await;
    let green = named("green").await;
    let proxy = Proxy::of(&[&blue.address], "drain = \"50ms\"");
    let service = || ServiceId::parse("web").unwrap();
    let to = TargetId::parse("green").unwrap();
    let endpoint = tidegate_config::EndpointSpec { address: green.address.clone(), weight: 1 };
    let spec = TargetSpec { endpoints: vec![endpoint] };
    proxy.change(&Change::PutTarget { service: service(), target: to.clone(), spec });
    let mut running = proxy.client().await;
    running.write(GET).await;
    blue.asked.recv().await.unwrap();
    proxy.change(&Change::Switch { service: service(), to });
    assert_eq!(proxy.ask(GET).await.text(), "green");
    tokio::time::sleep(Duration::from_millis(150)).await;
    blue.open.send_replace(true);
    assert_eq!(running.answer().await.text(), "late");
}
