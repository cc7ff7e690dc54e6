//! The verbs about deployments, as people type them: the real binary against a real proxy.

mod brackets;
mod deployments;
mod steering;
mod versions;

use std::{path::Path, process::Stdio, time::Duration};

use serde_json::Value;
use tokio::process::Command;

/// How a verb ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) out: String,
    pub(super) err: String,
}

impl Ended {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(super) fn id(&self) -> String {
        self.json()["id"].as_str().unwrap().to_owned()
    }
}

/// A verb. Double quotes keep words together, as a shell does.
pub(super) fn command(dir: &Path, server: &str, line: &str) -> Command {
    let words = line.split('"').enumerate().flat_map(|(n, part)| match n % 2 {
        1 => vec![part.to_owned()],
        _ => part.split_whitespace().map(str::to_owned).collect(),
    });
    let mut command = Command::new(tidegate_e2e::tidegate::binary());
    command.args(words).current_dir(dir).env("TIDEGATE_ADMIN", server).env_remove("TIDEGATE_TOKEN");
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

pub(super) async fn tidegate(dir: &Path, server: &str, line: &str) -> Ended {
    let output = command(dir, server, line).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    let output = output.unwrap_or_else(|_| panic!("tidegate {line} does not end")).unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}
