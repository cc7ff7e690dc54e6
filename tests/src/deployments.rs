//! Deployments over the admin API, as a client of it would see them.

use std::time::Duration;

use serde_json::Value;

use crate::{Tidegate, until_within};

/// How long a deployment of a test may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Tidegate {
    /// Creates a deployment and begins it; its id.
    pub async fn deploy(&self, document: Value) -> String {
        let answer = self.done("POST", "/api/deployments?execute=true", Some(document)).await;
        answer["id"].as_str().unwrap().to_owned()
    }

    /// A deployment.
    pub async fn deployment(&self, id: &str) -> Value {
        self.done("GET", &format!("/api/deployments/{id}"), None).await
    }

    /// What happened in a deployment.
    pub async fn happened(&self, id: &str) -> Vec<Value> {
        let events = self.done("GET", &format!("/api/deployments/{id}/events"), None).await;
        events.as_array().unwrap().clone()
    }

    /// An order about a deployment that must be taken.
    pub async fn order(&self, id: &str, verb: &str) -> Value {
        self.done("POST", &format!("/api/deployments/{id}/{verb}"), None).await
    }

    /// Waits until a deployment is in a state. One that can never get there any more ends the test.
    pub async fn reaches(&self, id: &str, state: &str) -> Value {
        self.becomes(id, state, |deployment| deployment["state"] == state).await
    }

    /// Waits until a deployment does a step of this name.
    pub async fn does(&self, id: &str, step: &str) -> Value {
        self.becomes(id, step, |deployment| deployment["state"] == "running" && deployment["step"]["name"] == step)
            .await
    }

    /// Waits until something holds of a deployment. One that is over before ends the test.
    pub async fn becomes(&self, id: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let what = format!("deployment {id} becomes {what}");
        until_within(PATIENCE, &what, || async {
            let deployment = self.deployment(id).await;
            if holds(&deployment) {
                return Some(deployment);
            }
            assert!(deployment["completed"] == false, "{what}, but is over: {deployment:#}");
            None
        })
        .await
    }
}
