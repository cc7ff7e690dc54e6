//! Answers that Tidegate gives itself, and the one place that knows their status.

use http::StatusCode;

/// Why a request is answered by the proxy and not by a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// The host is missing or malformed.
    BadHost,
    /// The path cannot be routed safely: dot segments, or broken percent-encoding.
    BadPath,
    /// No service has a route for it.
    NoRoute,
    /// No endpoint is available, and there is nowhere else to go.
    NoTarget,
    /// Every attempt to reach an endpoint failed.
    Unreachable,
    /// The endpoint broke off or answered nonsense.
    BadAnswer,
    /// The endpoint was too slow.
    TooSlow,
    /// The request's body is longer than the service allows.
    BodyTooLarge,
    /// The request's head is longer than the limit, or has too many fields.
    HeadTooLarge,
    /// The client was too slow.
    ClientTooSlow,
    /// The request's body is not framed as HTTP wants it.
    Malformed,
    /// A bound of the proxy is reached.
    Overloaded,
    /// A fault of the proxy itself.
    Internal,
}

impl Reject {
    /// The status of the answer.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadHost | Self::BadPath | Self::Malformed => StatusCode::BAD_REQUEST,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::NoTarget | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable | Self::BadAnswer => StatusCode::BAD_GATEWAY,
            Self::TooSlow => StatusCode::GATEWAY_TIMEOUT,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::ClientTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The body of the answer: one short line, nothing about the inside.
    pub fn text(self) -> &'static str {
        match self {
            Self::BadHost => "the Host header is missing or malformed",
            Self::BadPath => "the path has dot segments or broken percent-encoding",
            Self::NoRoute => "no service is configured for this host and path",
            Self::NoTarget => "no version of this service is available",
            Self::Unreachable => "the service could not be reached",
            Self::BadAnswer => "the service broke off its answer",
            Self::TooSlow => "the service did not answer in time",
            Self::BodyTooLarge => "the request body is too large",
            Self::HeadTooLarge => "the request head is too large",
            Self::ClientTooSlow => "the request did not arrive in time",
            Self::Malformed => "the request is malformed",
            Self::Overloaded => "the proxy is at a limit, try again",
            Self::Internal => "internal error",
        }
    }

    /// Its name in metrics and logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::BadHost => "bad_host",
            Self::BadPath => "bad_path",
            Self::NoRoute => "no_route",
            Self::NoTarget => "no_target",
            Self::Unreachable => "unreachable",
            Self::BadAnswer => "bad_answer",
            Self::TooSlow => "too_slow",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadTooLarge => "head_too_large",
            Self::ClientTooSlow => "client_too_slow",
            Self::Malformed => "malformed",
            Self::Overloaded => "overloaded",
            Self::Internal => "internal",
        }
    }
}
