//! A version under test is reached by its preview, and by nobody else before its release.

use std::{collections::BTreeMap, path::Path};

use serde_json::json;
use tidegate_e2e::{Answer, Origin, Sent, Tidegate, client::once, get, until};

/// A listener for previews, and a test that goes on until there is a file `go`. It leaves what it was told.
const PREVIEWS: &str = r#"
[listener.preview]
address = "127.0.0.1:0"
preview = "preview.localhost"
[hook.smoke]
argv = ["sh", "-c", "env | grep '^TIDEGATE_' > told.next; mv told.next told; until [ -e go ]; do sleep 0.05; done"]
"#;

/// A service with a stable version, and a target `next` for the new one, to which everything could lead.
fn service(name: &str, path: &str, stable: &Origin, next: &Origin) -> String {
    format!(
        r#"
[service.{name}]
routes = [{{ path = "{path}" }}]
stable = "stable"
health = {{ path = "/health", interval = "200ms", timeout = "5s", fall = 1, rise = 1 }}
failover = {{ to = "next", failback = "auto" }}
[[service.{name}.rule]]
when = {{ header = {{ x-beta = "1" }} }}
to = "next"
[service.{name}.target.stable]
endpoints = ["{}"]
[service.{name}.target.next]
endpoints = ["{}"]
"#,
        stable.address(),
        next.address()
    )
}

/// What the test was told, once it runs.
async fn told(dir: &Path) -> BTreeMap<String, String> {
    let text = until("the test runs", || async { std::fs::read_to_string(dir.join("told")).ok() }).await;
    text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.into(), value.into())).collect()
}

async fn preview(proxy: &Tidegate, host: &str) -> Answer {
    once(proxy.listener("preview"), &Sent::new("GET", "/x?y").field("host", host)).await.unwrap()
}

/// A request of nobody in particular; one that a rule would send to the new version.
async fn ordinary(proxy: &Tidegate) -> Answer {
    once(proxy.public(), &Sent::new("GET", "/").field("x-beta", "1")).await.unwrap()
}

/// Waits until nothing ordinary is answered any more, and asks on: it never is by the new version.
async fn nobody_answers(proxy: &Tidegate) {
    until("the end of the stable version is known", || async {
        let answer = ordinary(proxy).await;
        assert!([502, 503].contains(&answer.status), "{} by {}", answer.status, answer.text());
        (answer.status == 503).then_some(())
    })
    .await;
    for _ in 0..50 {
        let answers = [ordinary(proxy).await, get(proxy.public(), "/").await.unwrap()];
        assert!(answers.iter().all(|answer| answer.status == 503), "answered by {}", answers[0].text());
    }
}

#[tokio::test]
async fn a_new_version_is_reached_by_its_preview_alone_until_it_is_released() {
    let (mut stable, mut next) = (Origin::start("old").await, Origin::start("new").await);
    let mut proxy = Tidegate::start(&format!("{PREVIEWS}{}", service("web", "/", &stable, &next))).await;
    assert_eq!(ordinary(&proxy).await.text(), "new", "the rule holds while nothing is deployed");

    let document = json!({ "strategy": "blue-green", "service": "web", "version": "2", "functional_tests": ["smoke"],
        "health_successes": 1, "watch": "100ms" });
    let id = proxy.deploy(document).await;
    let host = format!("web.{}.preview.localhost", id.to_lowercase());
    let told_first = told(proxy.dir()).await;
    let url = format!("http://{host}:{}", proxy.listener("preview").port());
    assert_eq!((told_first.get("TIDEGATE_PREVIEW_URL"), told_first.get("TIDEGATE_URL_WEB")), (Some(&url), Some(&url)));

    assert_eq!(ordinary(&proxy).await.text(), "old");
    let answer = preview(&proxy, &host).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "new"));
    let seen = next.seen().pop().unwrap();
    assert_eq!(seen.target(), "/x?y");
    assert_eq!(seen.head.field("x-tidegate-bracket"), Some(id.to_lowercase().as_str()), "so that it is passed on");
    assert_eq!(preview(&proxy, "web.dep-0.preview.localhost").await.status, 404);
    let request = Sent::new("GET", "/").field("host", &host).field("x-tidegate-bracket", &id);
    let elsewhere = once(proxy.public(), &request).await;
    assert_eq!(elsewhere.unwrap().text(), "old", "a listener without previews knows none");

    // The failover's target is what is tested: nothing moves there.
    stable.stop().await;
    nobody_answers(&proxy).await;
    assert_eq!(preview(&proxy, &host).await.text(), "new");

    // Nor in another life of the process, from its first request on.
    std::fs::remove_file(proxy.dir().join("told")).unwrap();
    proxy.kill_and_restart().await;
    nobody_answers(&proxy).await;
    assert_eq!(preview(&proxy, &host).await.text(), "new");
    let port = proxy.listener("preview").port().to_string();
    assert!(told(proxy.dir()).await["TIDEGATE_PREVIEW_URL"].ends_with(&port), "the test runs again, and is told anew");

    // And the old one does not stand in for the new one.
    stable.revive().await;
    until("the old version is back", || async { (ordinary(&proxy).await.text() == "old").then_some(()) }).await;
    next.stop().await;
    until("the end of the new version is known", || async {
        let answer = preview(&proxy, &host).await;
        assert!([502, 503].contains(&answer.status), "{} by {}", answer.status, answer.text());
        (answer.status == 503).then_some(())
    })
    .await;
    next.revive().await;
    until("the new version is back", || async { (preview(&proxy, &host).await.text() == "new").then_some(()) }).await;

    std::fs::write(proxy.dir().join("go"), "").unwrap();
    proxy.reaches(&id, "succeeded").await;
    assert_eq!(get(proxy.public(), "/").await.unwrap().text(), "new");
    // Whoever was started with the name of the preview goes on to reach the service.
    assert_eq!(preview(&proxy, &host).await.text(), "new");
    proxy.done("POST", "/api/services/web/switch", Some(json!({ "to": "stable" }))).await;
    assert_eq!(preview(&proxy, &host).await.text(), "old");
}

#[tokio::test]
async fn services_of_a_bracket_find_each_others_new_versions_and_every_other_as_usual() {
    let (web, new_web) = (Origin::start("web").await, Origin::start("new web").await);
    let (api, new_api) = (Origin::start("api").await, Origin::start("new api").await);
    let (mail, other_mail) = (Origin::start("mail").await, Origin::start("other mail").await);
    let services = [
        service("web", "/", &web, &new_web),
        service("my-api", "/api", &api, &new_api),
        service("mail", "/mail", &mail, &other_mail),
    ];
    let proxy = Tidegate::start(&format!("{PREVIEWS}{}", services.concat())).await;
    let bracket = json!({ "name": "Spring_1", "strategy": "blue-green", "functional_tests": ["smoke"],
        "health_successes": 1, "members": [{ "service": "web", "version": "2" }, { "service": "my-api", "version": "7" }] });
    proxy.done("POST", "/api/brackets", Some(bracket)).await;
    let released = proxy.done("POST", "/api/brackets/Spring_1/release", None).await;
    let id = released["deployment"].as_str().unwrap().to_owned();

    let told = told(proxy.dir()).await;
    let port = proxy.listener("preview").port();
    let url = |service: &str| format!("http://{service}.spring_1.preview.localhost:{port}");
    assert_eq!(told["TIDEGATE_URL_WEB"], url("web"));
    assert_eq!(told["TIDEGATE_URL_MY_API"], url("my-api"));
    assert!(!told.contains_key("TIDEGATE_URL_MAIL"));

    for (service, expected) in [("web", "new web"), ("my-api", "new api"), ("mail", "mail")] {
        for label in ["spring_1".to_owned(), id.to_lowercase()] {
            let answer = preview(&proxy, &format!("{service}.{label}.preview.localhost")).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{service} of {label}");
        }
    }
    // By the header, what is asked for is found by its route.
    for (path, expected) in [("/", "new web"), ("/api/x", "new api"), ("/mail", "mail")] {
        let request = Sent::new("GET", path).field("host", "any.example").field("x-tidegate-bracket", "Spring_1");
        let answer = once(proxy.listener("preview"), &request).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{path}");
        assert_eq!(once(proxy.public(), &request).await.unwrap().text(), expected.trim_start_matches("new "));
    }

    proxy.order(&id, "rollback").await;
    proxy.reaches(&id, "rolled-back").await;
    assert_eq!(preview(&proxy, "web.spring_1.preview.localhost").await.status, 404);
    assert_eq!(ordinary(&proxy).await.text(), "new web", "the rule holds again: nothing is sealed");
}

#[tokio::test]
async fn a_shadow_that_is_still_judged_gets_its_copies_and_answers_by_its_path_alone() {
    let (mut stable, next) = (Origin::start("old").await, Origin::start("new").await);
    let proxy = Tidegate::start_with_listener("service_paths = true", &service("web", "/", &stable, &next)).await;
    let document = json!({ "strategy": "custom", "service": "web", "version": "2", "health_successes": 1,
        "step": [{ "mirror": 100 }, { "pause": "manual" }] });
    let id = proxy.deploy(document).await;
    proxy.becomes(&id, "paused", |deployment| deployment["state"] == "paused").await;
    assert_eq!(ordinary(&proxy).await.text(), "old", "the rule sends nobody there");
    until("the copy arrived", || async { (next.count() == 1).then_some(()) }).await;
    assert_eq!(next.seen()[0].head.field("x-tidegate-shadow"), Some("next"));
    assert_eq!(get(proxy.public(), "/services/web_next/").await.unwrap().text(), "new");
    stable.stop().await;
    nobody_answers(&proxy).await;
    assert_eq!(get(proxy.public(), "/services/web_next/").await.unwrap().text(), "new");
}
