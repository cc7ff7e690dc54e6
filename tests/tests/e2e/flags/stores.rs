//! Ways to a store: socket files, databases, hashes, documents, the least rights.

use tidegate_e2e::{Program, Redis};

use super::{FLAG, Stage};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_is_followed_over_a_socket_file_and_in_another_database() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("store.sock").display().to_string();
    let store = Redis::start_with(Program::Redis, &["--unixsocket", &socket]).await;
    let stage = Stage::with_source(&format!("url = \"unix:{socket}\"\ndatabase = 3")).await;
    let mut operator = tidegate_e2e::redis::Resp::connect(store.address()).await.unwrap();
    operator.send(&["SELECT", "3"]).await.unwrap();
    operator.send(&["SET", FLAG, "ON"]).await.unwrap();
    stage.sees("blue").await;
    operator.send(&["DEL", FLAG]).await.unwrap();
    stage.sees("green").await;
    stage.end("over a socket file").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flag_is_followed_in_a_hash_and_in_a_document() {
    let store = Redis::start().await;
    let stage = Stage::with_source(&format!("url = \"{}\"\nhash = \"flags\"\ndocument = \"flagd\"", store.url())).await;
    store.done(&["HSET", "flags", FLAG, "ON"]).await;
    stage.sees("blue").await;
    store.done(&["HDEL", "flags", FLAG]).await;
    stage.sees("green").await;
    let document =
        r#"{"flags":{"RECENT":{"state":"ENABLED","variants":{"on":true,"off":false},"defaultVariant":"on"}}}"#;
    store.done(&["SET", "flagd", document]).await;
    stage.sees("blue").await;
    store.done(&["SET", "flagd", &document.replace("\"defaultVariant\":\"on\"", "\"defaultVariant\":\"off\"")]).await;
    stage.sees("green").await;
    stage.end("in a hash and in a document").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_in_a_file_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("flags.json");
    let write = |variant: &str| {
        let text = format!(
            r#"{{"flags":{{"RECENT":{{"state":"ENABLED","variants":{{"on":true,"off":false}},"defaultVariant":"{variant}"}}}}}}"#
        );
        std::fs::write(path.with_extension("next"), text).unwrap();
        std::fs::rename(path.with_extension("next"), &path).unwrap();
    };
    write("on");
    let stage = Stage::with_source(&format!("file = \"{}\"", path.display())).await;
    stage.sees("blue").await;
    std::fs::remove_file(&path).unwrap();
    stage.source_is_up(false).await;
    assert_eq!(stage.now(), "blue");
    write("off");
    stage.sees("green").await;
    stage.end("a document in a file").await;
}
