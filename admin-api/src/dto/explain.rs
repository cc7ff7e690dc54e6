//! A request that is only imagined, and the decision on it.

use std::{collections::BTreeMap, net::IpAddr};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Serialize};
use tidegate_config::ListenerId;
use tidegate_core::{Plan, Snapshot, explain::Explanation};
use utoipa::ToSchema;

use crate::{dto::service::RouteView, problem::ProblemPart};

/// Most headers of an imagined request: as many as a real one may have.
const MAX_HEADERS: usize = 100;

/// Body of an explanation: the request to decide on. Nothing is sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "method": "GET", "url": "http://localhost:3090/", "headers": { "x-beta": "1" } }))]
pub struct ExplainInput {
    /// The URL as a client asks for it; or only its path, with a `host` header.
    pub url: String,
    /// The method.
    #[serde(default = "get")]
    #[schema(default = "GET")]
    pub method: String,
    /// Headers by name. A pin counts if the caller may move traffic.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "192.0.2.7")]
    pub client: Option<IpAddr>,
    /// The listener that it comes in by; absent: the first on which a route is found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<String>,
}

fn get() -> String {
    "GET".into()
}

/// A request that is only imagined.
#[derive(Debug)]
pub(crate) struct ImaginedRequest {
    pub(crate) method: Method,
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) client: Option<IpAddr>,
    pub(crate) listener: Option<ListenerId>,
}

impl TryFrom<ExplainInput> for ImaginedRequest {
    type Error = Vec<ProblemPart>;

    fn try_from(input: ExplainInput) -> Result<Self, Self::Error> {
        let mut errors = Vec::new();
        let headers = headers(&input.headers, &mut errors);
        let method = Method::from_bytes(input.method.as_bytes())
            .map_err(|_| errors.push(ProblemPart::new("method", "this is not a method")))
            .unwrap_or_default();
        let listener = input.listener.and_then(|name| {
            ListenerId::parse(&name).map_err(|error| errors.push(ProblemPart::new("listener", error.to_string()))).ok()
        });
        let (host, path, query) = url(&input.url, &headers, &mut errors);
        if errors.is_empty() {
            Ok(Self { method, host, path, query, headers, client: input.client, listener })
        } else {
            Err(errors)
        }
    }
}

/// Host, path and query.
fn url(text: &str, headers: &HeaderMap, errors: &mut Vec<ProblemPart>) -> (String, String, Option<String>) {
    let mut refuse = |message: &str| {
        errors.push(ProblemPart::new("url", message));
        (String::new(), String::new(), None)
    };
    let Ok(uri) = text.parse::<Uri>() else {
        return refuse("this is not a URL: write http://host/path, or /path with a host header");
    };
    if !matches!(uri.scheme_str(), None | Some("http" | "https")) {
        return refuse("the scheme is not http or https");
    }
    let named = uri.authority().map(|authority| authority.as_str().rsplit('@').next().unwrap_or_default());
    let sent = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
    let Some(host) = named.or(sent) else {
        return refuse("the host is missing: write http://host/path, or add a host header");
    };
    let path = match uri.path() {
        "" => "/",
        path => path,
    };
    (host.to_owned(), path.to_owned(), uri.query().map(str::to_owned))
}

fn headers(input: &BTreeMap<String, String>, errors: &mut Vec<ProblemPart>) -> HeaderMap {
    if input.len() > MAX_HEADERS {
        errors.push(ProblemPart::new("headers", format!("at most {MAX_HEADERS} headers")));
        return HeaderMap::new();
    }
    let mut headers = HeaderMap::new();
    for (name, value) in input {
        match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            (Ok(name), Ok(value)) => {
                headers.append(name, value);
            }
            (Err(_), _) => errors.push(ProblemPart::new(format!("headers.{name}"), "this is not a header's name")),
            (Ok(_), Err(_)) => errors.push(ProblemPart::new(
                format!("headers.{name}"),
                "a header's value is one line of visible characters",
            )),
        }
    }
    headers
}

/// The decision on a request, and every reason for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "generation": 7, "outcome": "forward", "service": "web", "route": { "host": "*", "path": "/", "strip": false },
    "chosen": "green", "target": "green", "endpoint": "127.0.0.1:3002", "mirrors": ["audit"],
    "reasons": ["route 0 of service web matches", "the split chooses target green"], "status": null, "error": null
}))]
pub struct ExplainReply {
    /// The generation that decided.
    pub generation: u64,
    /// What would be done.
    pub outcome: OutcomeView,
    /// The service, if a route was found.
    pub service: Option<String>,
    /// The route.
    pub route: Option<RouteView>,
    /// The target that was chosen by pin, rule, split or failover.
    pub chosen: Option<String>,
    /// The target that it would be sent to: another one when the chosen one is not available.
    pub target: Option<String>,
    /// The endpoint.
    pub endpoint: Option<String>,
    /// The mirrors that would copy it.
    pub mirrors: Vec<String>,
    /// Every reason, in the order in which it counted.
    pub reasons: Vec<String>,
    /// The status that the proxy itself would answer.
    pub status: Option<u16>,
    /// What the proxy itself would say.
    pub error: Option<String>,
}

/// What would be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutcomeView {
    /// It would be forwarded.
    Forward,
    /// It would wait for the first verdict on an endpoint.
    Wait,
    /// The proxy would answer it itself.
    Reject,
}

impl ExplainReply {
    /// What is said of a decision on this snapshot.
    pub(crate) fn new(snapshot: &Snapshot, explanation: &Explanation) -> Self {
        let (outcome, reject) = match &explanation.plan {
            Plan::Forward(_) => (OutcomeView::Forward, None),
            Plan::Wait { .. } => (OutcomeView::Wait, None),
            Plan::Reject(reject) => (OutcomeView::Reject, Some(*reject)),
        };
        let chosen = match &explanation.plan {
            Plan::Forward(forward) => snapshot
                .service(forward.service)
                .and_then(|service| service.target(forward.chosen))
                .map(|target| target.id.to_string()),
            Plan::Wait { .. } | Plan::Reject(_) => None,
        };
        Self {
            generation: snapshot.generation.0,
            outcome,
            service: explanation.service.as_ref().map(ToString::to_string),
            route: explanation.route.as_ref().map(RouteView::from),
            chosen,
            target: explanation.target.as_ref().map(ToString::to_string),
            endpoint: explanation.endpoint.as_ref().map(ToString::to_string),
            mirrors: explanation.mirrors.iter().map(ToString::to_string).collect(),
            reasons: explanation.steps.clone(),
            status: reject.map(|reject| reject.status().as_u16()),
            error: reject.map(|reject| reject.text().to_owned()),
        }
    }
}
