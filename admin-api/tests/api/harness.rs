//! One way to call the API, and one to judge the answer: every status must be in the OpenAPI document.

use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use axum::{Router, body::Body};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use tidegate_admin::{Access, AccessToken, MetricsAccess, router};
use tidegate_config::{Role, Secret, server::AdminAddress};
use tower::ServiceExt as _;

use crate::fake::Fake;

/// The secrets of [`Api::with_tokens`].
pub(crate) const READ: &str = "secret-of-read";
pub(crate) const OPERATE: &str = "secret-of-operate";
pub(crate) const ADMIN: &str = "secret-of-admin";

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The paths of a problem's errors.
    pub(crate) fn paths(&self) -> Vec<String> {
        let errors = self.json()["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["path"].as_str().unwrap().to_owned()).collect()
    }
}

/// The API over a fake process.
pub(crate) struct Api {
    pub(crate) fake: Arc<Fake>,
    pub(crate) router: Router,
}

pub(crate) fn listen() -> AdminAddress {
    AdminAddress::Tcp("127.0.0.1:3091".parse().unwrap())
}

/// Access that nobody renews.
pub(crate) fn in_force(access: Access) -> Arc<ArcSwap<Access>> {
    Arc::new(ArcSwap::from_pointee(access))
}

impl Api {
    /// Without tokens.
    pub(crate) fn open() -> Self {
        Self::new(Access::new(Vec::new(), &listen(), Vec::new(), MetricsAccess::Open))
    }

    /// With a token for each role.
    pub(crate) fn with_tokens(metrics: MetricsAccess) -> Self {
        let token = |name: &str, role, secret: &str| AccessToken::new(name, role, &Secret::new(secret.to_owned()));
        let tokens = vec![
            token("reader", Role::Read, READ),
            token("operator", Role::Operate, OPERATE),
            token("chief", Role::Admin, ADMIN),
        ];
        Self::new(Access::new(tokens, &listen(), vec!["admin.example".into()], metrics))
    }

    /// Without tokens, on a process with this file.
    pub(crate) fn on(file: &str) -> Self {
        let fake = Fake::on(file);
        let access = Access::new(Vec::new(), &listen(), Vec::new(), MetricsAccess::Open);
        Self { router: router(fake.clone(), in_force(access)), fake }
    }

    fn new(access: Access) -> Self {
        let fake = Fake::start();
        Self { router: router(fake.clone(), in_force(access)), fake }
    }

    /// Calls the API as curl would.
    pub(crate) async fn call(&self, method: &str, path: &str, body: &str) -> Answer {
        self.call_with(method, path, body, &[]).await
    }

    /// Calls it with further headers; a `host` among them replaces the usual one.
    pub(crate) async fn call_with(&self, method: &str, path: &str, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", "localhost:3091");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.to_owned())).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().into()).unwrap();
        let answer = Answer { status: parts.status.as_u16(), headers: parts.headers, body };
        judge(method, path, &answer);
        answer
    }

    /// Calls it and expects success.
    pub(crate) async fn ok(&self, method: &str, path: &str, body: &str) -> Value {
        let answer = self.call(method, path, body).await;
        assert_eq!(answer.status, 200, "{method} {path} {body}: {answer:?}");
        answer.json()
    }
}

/// The OpenAPI document.
pub(crate) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    // A runtime must not be entered from within another.
    std::thread::spawn(move || {
        runtime.block_on(async {
            let router =
                router(Fake::start(), in_force(Access::new(Vec::new(), &listen(), Vec::new(), MetricsAccess::Open)));
            let request = Request::get("/api/openapi.json").header("host", "localhost").body(Body::empty()).unwrap();
            let body = router.oneshot(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
            serde_json::from_slice(&body).unwrap()
        })
    })
    .join()
    .unwrap()
});

/// The documented operation that a call is, if it is one.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap();
    let fits = |template: &str| {
        let (mut template, mut path) = (template.split('/'), path.split('/'));
        template.by_ref().all(|part| path.next().is_some_and(|given| part.starts_with('{') || part == given))
            && path.next().is_none()
    };
    let (_, item) = DOCUMENT["paths"].as_object().unwrap().iter().find(|(template, _)| fits(template))?;
    item.get(method.to_ascii_lowercase())
}

/// What holds of every answer.
fn judge(method: &str, path: &str, answer: &Answer) {
    if let Some(operation) = operation(method, path) {
        let documented = operation["responses"].as_object().unwrap();
        assert!(documented.contains_key(&answer.status.to_string()), "{method} {path}: undocumented: {answer:?}");
    }
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(!answer.header("cache-control").is_empty());
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{answer:?}");
    let of_ofrep = path.starts_with("/ofrep/") && answer.header("content-type") == "application/json";
    if answer.status >= 400 && of_ofrep {
        let failure = answer.json();
        assert!(failure["errorCode"].is_string() && failure["errorDetails"].is_string(), "{answer:?}");
    } else if answer.status >= 400 && !answer.body.is_empty() && path != "/readyz" {
        assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {path}: {answer:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], answer.status, "{answer:?}");
        for field in ["type", "title", "detail"] {
            assert!(problem[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {answer:?}");
        }
        let status = StatusCode::from_u16(answer.status).unwrap();
        assert_eq!(status == StatusCode::UNAUTHORIZED, answer.headers.contains_key("www-authenticate"));
    }
}
