//! What went wrong, as `application/problem+json` (RFC 9457): the one ladder from our errors to a status.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{
    HeaderValue, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER},
};
use serde::{Deserialize, Serialize};
use tidegate_core::{
    ChangeError,
    deploy::{engine::EngineError, machine::Refusal},
};
use utoipa::ToSchema;

use crate::{
    deployments::OrderError,
    process::{ReloadError, SubmitError, UpgradeError},
};

/// Longest message in characters: messages repeat what clients sent.
const MAX_MESSAGE: usize = 300;

/// A problem, RFC 9457.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "type": "urn:tidegate:problem:invalid",
    "title": "The input is well-formed but invalid",
    "status": 422,
    "detail": "green: a weight must not be more than 100 %",
    "errors": [{ "path": "green", "message": "a weight must not be more than 100 %" }]
}))]
pub struct Problem {
    /// What kind of problem it is: `urn:tidegate:problem:` and a word that stays the same.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The status of the answer.
    pub status: u16,
    /// What is wrong here, and what to do.
    pub detail: String,
    /// Each part that is wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<ProblemPart>,
}

/// A part that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemPart {
    /// Where, such as `endpoints[1].weight`; empty: the whole input.
    pub path: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl ProblemPart {
    /// A part that is wrong.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: shortened(path.into()), message: shortened(message.into()) }
    }
}

/// The kinds of problems: each has one status and one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Malformed,
    Unauthenticated,
    Forbidden,
    Foreign,
    NotFound,
    Method,
    SlowBody,
    Conflict,
    ProbeFailed,
    Stale,
    TooLarge,
    MediaType,
    Invalid,
    Internal,
    Unavailable,
    Store,
}

impl Kind {
    pub(crate) fn status(self) -> StatusCode {
        match self {
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden | Self::Foreign => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict | Self::ProbeFailed => StatusCode::CONFLICT,
            Self::Stale => StatusCode::PRECONDITION_FAILED,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable | Self::Store => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Foreign => "foreign",
            Self::NotFound => "not-found",
            Self::Method => "method",
            Self::SlowBody => "slow-body",
            Self::Conflict => "conflict",
            Self::ProbeFailed => "probe-failed",
            Self::Stale => "stale",
            Self::TooLarge => "too-large",
            Self::MediaType => "media-type",
            Self::Invalid => "invalid",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Store => "store",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Malformed => "The request is malformed",
            Self::Unauthenticated => "A token is needed",
            Self::Forbidden => "The token's role does not allow this",
            Self::Foreign => "The request is not meant for this API",
            Self::NotFound => "There is no such thing",
            Self::Method => "The path does not take this method",
            Self::SlowBody => "The body did not arrive in time",
            Self::Conflict => "The change does not fit the present state",
            Self::ProbeFailed => "The new target did not pass its probes",
            Self::Stale => "The state has changed since it was read",
            Self::TooLarge => "The body is too large",
            Self::MediaType => "The body is not JSON",
            Self::Invalid => "The input is well-formed but invalid",
            Self::Internal => "A fault of the proxy",
            Self::Unavailable => "The process cannot do this now",
            Self::Store => "The change could not be saved",
        }
    }

    /// A problem of this kind.
    pub(crate) fn because(self, detail: impl Into<String>) -> Problem {
        Problem {
            kind: format!("urn:tidegate:problem:{}", self.word()),
            title: self.title().into(),
            status: self.status().as_u16(),
            detail: shortened(detail.into()),
            errors: Vec::new(),
        }
    }
}

impl Problem {
    /// Input that is malformed at these places.
    pub(crate) fn malformed(errors: Vec<ProblemPart>) -> Self {
        Self { errors, ..Kind::Malformed.because("") }.with_detail_of_errors()
    }

    /// Input that is invalid at these places.
    pub(crate) fn invalid(errors: Vec<ProblemPart>) -> Self {
        Self { errors, ..Kind::Invalid.because("") }.with_detail_of_errors()
    }

    fn with_detail_of_errors(mut self) -> Self {
        let line = |part: &ProblemPart| match part.path.as_str() {
            "" => part.message.clone(),
            path => format!("{path}: {}", part.message),
        };
        self.detail = match self.errors.as_slice() {
            [only] => line(only),
            [first, rest @ ..] => format!("{} (and {} more)", line(first), rest.len()),
            [] => self.detail,
        };
        self
    }
}

/// Cuts a text that repeats what a client sent.
fn shortened(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_MESSAGE) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::UnknownService(_) | ChangeError::UnknownFlag(_) | ChangeError::Unknown { .. } => {
                Kind::NotFound.because(error.to_string())
            }
            ChangeError::Invalid { path, message } => Self::invalid(vec![ProblemPart::new(path, message)]),
            ChangeError::Conflict(why) => Kind::Conflict.because(why),
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refused) => refused.into(),
            SubmitError::Stale { .. } => Kind::Stale.because(error.to_string()),
            SubmitError::Store(_) => Kind::Store.because(error.to_string()),
            SubmitError::Busy(_) => Kind::Unavailable.because(error.to_string()),
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Engine(EngineError::Refused(refusal)) => match refusal {
                Refusal::Conflict(why) => Kind::Conflict.because(why),
                Refusal::Invalid(why) => Self::invalid(vec![ProblemPart::new("", why)]),
                Refusal::Unknown(_) => Kind::NotFound.because(refusal.to_string()),
            },
            OrderError::Engine(EngineError::Invalid(problems)) => {
                Self::invalid(problems.into_iter().map(|p| ProblemPart::new(p.path, p.message)).collect())
            }
            OrderError::Submit(error) => error.into(),
            OrderError::Store(_) => Kind::Store.because(error.to_string()),
            OrderError::Busy(_) => Kind::Unavailable.because(error.to_string()),
        }
    }
}

impl From<UpgradeError> for Problem {
    fn from(error: UpgradeError) -> Self {
        Kind::Conflict.because(error.to_string())
    }
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Invalid(problems) => {
                Self::invalid(problems.into_iter().map(|(path, message)| ProblemPart::new(path, message)).collect())
            }
            ReloadError::Submit(error) => error.into(),
            ReloadError::NoFile => {
                Kind::Conflict.because("this process runs without a configuration file: there is nothing to load again")
            }
        }
    }
}
