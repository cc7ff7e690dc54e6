//! The official OpenFeature provider evaluates flags of a running proxy.

use std::{path::Path, process::Command};

use serde_json::json;
use tidegate_e2e::{Origin, Redis, Tidegate, until};

const TOKEN: &str = "an-application";

/// The flags that `tests/openfeature/evaluate.py` asks for, as a flagd document.
fn document() -> String {
    let names = |names: &[&str]| -> serde_json::Value {
        names.iter().map(|name| ((*name).to_owned(), json!(name))).collect::<serde_json::Map<_, _>>().into()
    };
    let suits = ["clubs", "diamonds", "hearts", "spades"];
    let mut draw = vec![json!({ "cat": [{ "var": "$flagd.flagKey" }, { "var": "user.name" }] })];
    draw.extend(suits.map(|suit| json!([suit, 25])));
    let hit = json!({ "==": [{ "var": "targetingKey" }, "5c3d8535-f81a-4478-a6d3-afaa4d51199e"] });
    json!({ "flags": {
        "new-shop": { "variants": { "on": true, "off": false }, "defaultVariant": "on" },
        "color": { "variants": { "ocean": "blue", "forest": "green" }, "defaultVariant": "ocean" },
        "limit": { "variants": { "high": 2_147_483_647 }, "defaultVariant": "high" },
        "huge": { "variants": { "all": 9_007_199_254_740_991_u64 }, "defaultVariant": "all" },
        "ratio": { "variants": { "quarter": 0.25 }, "defaultVariant": "quarter" },
        "round": { "variants": { "ten": 10.0 }, "defaultVariant": "ten" },
        "layout": {
            "variants": { "grid": { "columns": 3, "wide": true, "names": ["a", "b"], "inner": { "gap": 0.5 } } },
            "defaultVariant": "grid"
        },
        "downloads": {
            "variants": { "few": 5, "many": 100 }, "defaultVariant": "few",
            "targeting": { "if": [{ "==": [{ "var": "plan" }, "gold"] }, "many", null] }
        },
        "by-key": {
            "variants": names(&["hit", "miss"]), "defaultVariant": "miss", "targeting": { "if": [hit, "hit", null] }
        },
        "fractional-flag": {
            "variants": names(&suits), "defaultVariant": "clubs", "targeting": { "fractional": draw }
        },
        "fractional-flag-shorthand": {
            "variants": names(&["heads", "tails", "draw"]), "defaultVariant": "draw",
            "targeting": { "fractional": [["heads"], ["tails", 1]] }
        },
        "astray": {
            "variants": { "a": "x" }, "defaultVariant": "a", "targeting": { "if": [true, "nowhere"] }
        },
        "retired": { "state": "DISABLED", "variants": { "a": "x" }, "defaultVariant": "a" }
    }})
    .to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_provider_evaluates_flags_of_every_type() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let store = Redis::start().await;
    store.done(&["SET", "flagd", &document()]).await;
    store.done(&["MSET", "RECENT", "ON", "ramp", "25%", "greeting", "hello there"]).await;
    let origin = Origin::start("green").await;
    let config = format!(
        r#"
[flags.source.main]
url = "{}"
document = "flagd"
[flags.flag.RECENT]
[flags.flag.ramp]
[flags.flag.untouched]
[flags.flag.greeting]
type = "string"
[service.web]
health = false
[service.web.target.green]
endpoints = ["{}"]
"#,
        store.url(),
        origin.address()
    );
    let tokens = r#"tokens = [{ name = "application", role = "read", env = "APPLICATION_TOKEN" }]"#;
    let mut proxy = Tidegate::start_with_admin(tokens, &config, &[("APPLICATION_TOKEN", TOKEN)]).await;
    proxy.use_token(TOKEN);
    until("the store is read", || async {
        (proxy.metric("tidegate_flags_source_up{source=\"main\"}").await == 1.0).then_some(())
    })
    .await;
    let output = Command::new(root.join("target/venv/bin/python"))
        .arg(root.join("tests/openfeature/evaluate.py"))
        .arg(format!("http://{}", proxy.admin()))
        .env("TIDEGATE_TOKEN", TOKEN)
        .output()
        .expect("run `.ci/setup test`");
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(output.status.success(), "{said}\n{}\n{}", String::from_utf8_lossy(&output.stderr), proxy.log());
    assert!(said.contains(" evaluations, 0 wrong"), "{said}");
}
