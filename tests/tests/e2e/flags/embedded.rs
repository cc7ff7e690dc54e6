//! Flags in the process: what endpoints are told, who falls into a share, and what a restart keeps.

use serde_json::json;
use tidegate_e2e::{Client, Origin, Sent, Tidegate, client::once, get, tidegate::run, until};

fn config(blue: &Origin, green: &Origin, shadow: &Origin) -> String {
    format!(
        r#"
[flags.flag.RECENT]
header = true
[flags.flag.color]
type = "string"
default = "plain"
header = "X-Color"
targets = ["blue"]
[flags.flag.beta]
[flags.flag.shadow]
[flags.values]
beta = "30%"

[service.web]
stable = "green"
health = false
sticky = {{ cookie = "who", header = "x-user" }}
[service.web.target.green]
endpoints = ["{}"]
[service.web.target.blue]
endpoints = ["{}"]
[service.web.target.shadow]
endpoints = ["{}"]
[[service.web.rule]]
to = "blue"
when = {{ flag = "beta" }}
[service.web.mirror.copy]
to = "shadow"
flag = "shadow"
"#,
        green.address(),
        blue.address(),
        shadow.address()
    )
}

async fn stage() -> (Tidegate, [Origin; 3]) {
    let origins = [Origin::start("blue").await, Origin::start("green").await, Origin::start("shadow").await];
    let [blue, green, shadow] = &origins;
    (Tidegate::start(&config(blue, green, shadow)).await, origins)
}

async fn set(proxy: &Tidegate, flag: &str, value: &str) {
    proxy.done("PUT", &format!("/api/flags/{flag}"), Some(json!({ "value": value }))).await;
}

#[tokio::test]
async fn endpoints_are_told_their_flags_and_clients_cannot_forge_them() {
    let (proxy, [blue, green, _shadow]) = stage().await;
    set(&proxy, "RECENT", "on").await;
    set(&proxy, "color", "teal").await;
    let forged = |user: &str| {
        Sent::new("GET", "/")
            .field("x-user", user)
            .field("X-Flag-Recent", "forged")
            .field("x_flag_recent", "forged")
            .field("X-COLOR", "forged")
    };
    let (mut to_blue, mut to_green) = (0, 0);
    for user in 0..40 {
        let answer = once(proxy.public(), &forged(&format!("user-{user}"))).await.unwrap();
        match answer.text().as_str() {
            "blue" => to_blue += 1,
            _ => to_green += 1,
        }
    }
    assert!(to_blue > 0 && to_green > 0, "{to_blue} {to_green}");
    for (origin, color) in [(&blue, Some("teal")), (&green, None)] {
        for seen in origin.seen() {
            assert_eq!(seen.head.field("x-flag-recent"), Some("on"), "{seen:?}");
            assert_eq!(seen.head.field("x-color"), color, "{seen:?}");
            assert_eq!(seen.head.field("x_flag_recent"), None, "{seen:?}");
        }
    }
}

#[tokio::test]
async fn a_share_is_sticky_and_growing_it_only_adds_visitors() {
    let (proxy, _origins) = stage().await;
    let mut before = Vec::new();
    for share in ["0%", "10%", "30%", "100%"] {
        set(&proxy, "beta", share).await;
        let mut client = Client::connect(proxy.public()).await.unwrap();
        let mut now = Vec::new();
        for user in 0..60 {
            let request = Sent::new("GET", "/").field("x-user", format!("user-{user}"));
            let [first, second] = [client.send(&request).await.unwrap(), client.send(&request).await.unwrap()];
            assert_eq!(first.text(), second.text(), "user-{user} at {share}");
            if first.text() == "blue" {
                now.push(user);
            }
        }
        assert!(before.iter().all(|user| now.contains(user)), "{share}: {before:?} -> {now:?}");
        before = now;
    }
    assert_eq!(before.len(), 60);
}

#[tokio::test]
async fn a_mirror_copies_only_while_its_flag_is_on() {
    let (proxy, [_blue, _green, shadow]) = stage().await;
    get(proxy.public(), "/").await.unwrap();
    set(&proxy, "shadow", "on").await;
    get(proxy.public(), "/copied").await.unwrap();
    until("the copy arrives", || async { (shadow.count() == 1).then_some(()) }).await;
    assert_eq!(shadow.seen()[0].target(), "/copied");
}

#[tokio::test]
async fn what_operators_set_outlives_a_restart_and_an_override_ends_by_itself() {
    let (mut proxy, _origins) = stage().await;
    let admin = format!("http://{}", proxy.admin());
    let done = |proxy: &Tidegate, arguments: &[&str]| {
        let all = [&["--server", &admin], arguments].concat();
        let (code, out, err) = run(proxy.dir(), &all);
        assert_eq!(code, 0, "{arguments:?}: {err}");
        out
    };
    done(&proxy, &["flag", "set", "beta", "off"]);
    done(&proxy, &["flag", "override", "RECENT", "on", "--ttl", "1h"]);
    let listed = done(&proxy, &["flag", "list"]);
    assert!(listed.starts_with("flag RECENT is OVERRIDDEN until "), "{listed}");
    proxy.kill_and_restart().await;
    let flag = async |proxy: &Tidegate, name: &str| proxy.done("GET", &format!("/api/flags/{name}"), None).await;
    assert_eq!(flag(&proxy, "beta").await["text"], "off");
    assert_eq!(flag(&proxy, "RECENT").await["origin"], "override");
    let over = json!({ "value": "on", "ttl": "1s" });
    proxy.done("PUT", "/api/flags/RECENT/override", Some(over)).await;
    until("the override ends", || async { (flag(&proxy, "RECENT").await["origin"] == "default").then_some(()) }).await;
    // Told with the next look at what only time changes.
    until("the end is told", || async {
        let events = proxy.done("GET", "/api/events", None).await.to_string();
        events.contains("flag.override_ended").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_application_evaluates_flags_by_ofrep() {
    let (proxy, _origins) = stage().await;
    let path = "/ofrep/v1/evaluate/flags";
    let context = json!({ "context": { "targetingKey": "user-1" } });
    let beta = proxy.done("POST", &format!("{path}/beta"), Some(context.clone())).await;
    let sent = Sent::new("GET", "/").field("x-user", "user-1");
    let routed = once(proxy.public(), &sent).await.unwrap().text();
    // The application and the proxy agree about a visitor.
    assert_eq!(beta["value"] == true, routed == "blue", "{beta} {routed}");
    let all = proxy.done("POST", path, Some(context)).await;
    assert_eq!(all["flags"].as_array().unwrap().len(), 4);
    assert_eq!(proxy.call("POST", &format!("{path}/nothing"), Some(json!({}))).await.status, 404);
}
