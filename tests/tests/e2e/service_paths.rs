//! `/services/<name>/` is the service, copies included; `/services/<name>_<version>/` is one version and nothing else.

use serde_json::json;
use tidegate_e2e::{Client, Origin, Sent, Tidegate, until};

/// Service `my_app` on a host of its own, whose main version is `v_1` and whose shadows are `v_2` and `v_2.0-rc`; and
/// service `rest` for every other request.
struct Fleet {
    proxy: Tidegate,
    main: Origin,
    shadows: [Origin; 2],
    rest: Origin,
}

async fn fleet() -> Fleet {
    let (main, rest) = (Origin::start("main").await, Origin::start("rest").await);
    let shadows = [Origin::start("second").await, Origin::start("third").await];
    let services = format!(
        r#"
[service.my_app]
routes = [{{ host = "app.example" }}]
stable = "v_1"
failover = {{ to = "v_2" }}
[service.my_app.target.v_1]
endpoints = ["{}"]
[service.my_app.target.v_2]
endpoints = ["{}"]
[service.my_app.target."v_2.0-rc"]
endpoints = ["{}"]
[service.my_app.mirror.one]
to = "v_2"
methods = ["*"]
[service.my_app.mirror.two]
to = "v_2.0-rc"
methods = ["*"]
[service.rest.target.only]
endpoints = ["{}"]
"#,
        main.address(),
        shadows[0].address(),
        shadows[1].address(),
        rest.address()
    );
    let health = "health = { path = \"/health\", interval = \"1s\", timeout = \"500ms\", fall = 2, rise = 1 }\n";
    let services = services.replace("stable =", &format!("{health}stable ="));
    let services = services.replace("[service.rest.target", &format!("[service.rest]\n{health}[service.rest.target"));
    let proxy = Tidegate::start_with_listener("service_paths = true", &services).await;
    Fleet { proxy, main, shadows, rest }
}

#[tokio::test]
async fn every_running_version_sees_what_the_main_one_answers() {
    let fleet = fleet().await;
    let mut client = Client::connect(fleet.proxy.public()).await.unwrap();
    let body: Vec<u8> = (0..40_000_u32).map(|n| (n % 251) as u8).collect();
    let target = "/services/my_app/a%2Fb/%7Ec//d;x=1?q=%20&r";
    let request = Sent::new("POST", target).field("host", "any.example").body(body.clone());
    let answer = client.send(&request).await.unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "main"));
    for origin in [&fleet.main, &fleet.shadows[0], &fleet.shadows[1]] {
        let seen = until("the request arrived", || async { origin.seen().into_iter().next() }).await;
        assert_eq!((seen.method(), seen.target()), ("POST", "/a%2Fb/%7Ec//d;x=1?q=%20&r"));
        assert!(seen.body == body, "another body arrived: {} bytes", seen.body.len());
        assert_eq!(seen.head.field("host"), Some("any.example"));
        assert_eq!(seen.head.field("x-forwarded-prefix"), Some("/services/my_app"));
    }
    assert_eq!(fleet.rest.count(), 0);
}

#[tokio::test]
async fn a_version_is_reached_alone_and_nobody_gets_a_copy() {
    let fleet = fleet().await;
    let mut client = Client::connect(fleet.proxy.public()).await.unwrap();
    let [second, third] = &fleet.shadows;
    let paths = [("v_1", "main", &fleet.main), ("v_2", "second", second), ("v_2.0-rc", "third", third)];
    for (version, name, origin) in paths {
        let answer =
            client.send(&Sent::new("POST", &format!("/services/my_app_{version}/x?y")).body("b")).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, name));
        assert_eq!(origin.seen().last().unwrap().target(), "/x?y");
    }
    // A copy would have begun before the next request of the same connection; one that is made on purpose ends the wait.
    assert_eq!(client.get("/services/my_app/last").await.unwrap().text(), "main");
    for (origin, own) in [(&fleet.main, "main"), (second, "second"), (third, "third")] {
        until("the last request arrived", || async {
            origin.seen().iter().any(|seen| seen.target() == "/last").then_some(())
        })
        .await;
        assert_eq!(origin.count(), 2, "{own} saw what was meant for another version");
    }
}

#[tokio::test]
async fn a_name_without_a_slash_is_the_root_and_unknown_names_are_ordinary_paths() {
    let fleet = fleet().await;
    let mut client = Client::connect(fleet.proxy.public()).await.unwrap();
    for (path, name, seen) in [
        ("/services/my_app", "main", "/"),
        ("/services/my_app?x=1", "main", "/?x=1"),
        ("/services/my_app_v_2?x", "second", "/?x"),
        ("/services/my_app_v_9/x", "rest", "/services/my_app_v_9/x"),
        ("/services/my/x", "rest", "/services/my/x"),
        ("/services/", "rest", "/services/"),
    ] {
        let answer = client.get(path).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, name), "{path}");
        let origin = [&fleet.main, &fleet.shadows[0], &fleet.rest].into_iter().find(|origin| {
            origin
                .seen()
                .iter()
                .any(|request| request.target() == seen && request.head.field("x-tidegate-shadow").is_none())
        });
        assert!(origin.is_some(), "nobody saw {seen}");
    }
}

#[tokio::test]
async fn a_dead_version_is_503_by_its_path_while_the_service_fails_over() {
    let mut fleet = fleet().await;
    fleet.main.stop().await;
    let proxy = &fleet.proxy;
    until("the failover", || async {
        let answer = tidegate_e2e::get(proxy.public(), "/services/my_app/").await.unwrap();
        (answer.text() == "second").then_some(())
    })
    .await;
    until("the death is known", || async {
        let answer = tidegate_e2e::get(proxy.public(), "/services/my_app_v_1/").await.unwrap();
        assert!([502, 503].contains(&answer.status), "{}", answer.text());
        (answer.status == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn explain_says_that_the_path_names_the_target() {
    let fleet = fleet().await;
    let body = json!({ "url": "http://any.example/services/my_app_v_2/x" });
    let reply = fleet.proxy.done("POST", "/api/explain", Some(body)).await;
    assert_eq!((&reply["service"], &reply["target"]), (&json!("my_app"), &json!("v_2")));
    assert_eq!(reply["reasons"], json!(["the path names target v_2 of service my_app"]));
    assert_eq!((&reply["route"], &reply["mirrors"]), (&json!(null), &json!([])));
}
