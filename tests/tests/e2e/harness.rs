//! The scripted origins do what they say: a test that trusts them must be able to.

use tidegate_e2e::{Behaviour, Client, Origin, Sent, get};

#[tokio::test]
async fn an_origin_answers_with_its_name_and_keeps_the_connection() {
    let origin = Origin::start("green").await;
    let mut client = Client::connect(origin.address()).await.unwrap();
    for _ in 0..3 {
        let answer = client.get("/x").await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "green"));
    }
    assert_eq!(origin.count(), 3);
    assert_eq!(origin.seen()[0].target(), "/x");
}

#[tokio::test]
async fn a_stopped_origin_refuses_and_comes_back_on_its_port() {
    let mut origin = Origin::start("green").await;
    origin.stop().await;
    let error = get(origin.address(), "/").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    origin.revive().await;
    assert_eq!(get(origin.address(), "/").await.unwrap().status, 200);
}

#[tokio::test]
async fn bodies_arrive_whole_in_both_framings() {
    let origin = Origin::start("green").await;
    origin.set(Behaviour::Echo);
    let body: Vec<u8> = (0..100_000_u32).map(|n| (n % 251) as u8).collect();
    let mut client = Client::connect(origin.address()).await.unwrap();
    let plain = client.send(&Sent::new("POST", "/").body(body.clone())).await.unwrap();
    let chunked = client.send(&Sent::new("POST", "/").body(body.clone()).chunked()).await.unwrap();
    assert!(plain.body == body && chunked.body == body);
}

#[tokio::test]
async fn faults_look_like_faults() {
    let origin = Origin::start("green").await;
    for behaviour in [Behaviour::Reset, Behaviour::Truncate, Behaviour::Garbage] {
        origin.set(behaviour.clone());
        assert!(get(origin.address(), "/").await.is_err(), "{behaviour:?}");
    }
    origin.set(Behaviour::Status(503));
    assert_eq!(get(origin.address(), "/").await.unwrap().status, 503);
}
