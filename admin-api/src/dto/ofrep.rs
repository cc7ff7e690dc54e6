//! The shapes of the OpenFeature Remote Evaluation Protocol 0.3.0, its errors included.

use std::collections::BTreeMap;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tidegate_config::{FlagName, Flags};
use tidegate_core::{
    FlagTable, Moment, Subject,
    flags::{EvaluationError, Flag},
};
use utoipa::ToSchema;

use crate::{dto::flag::age, problem::Problem};

/// Body of an evaluation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({ "context": { "targetingKey": "visitor-7", "plan": "gold" } }))]
pub struct EvaluationInput {
    /// Who the flag is evaluated for: `targetingKey` and whatever targeting asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub context: Option<serde_json::Map<String, Value>>,
}

/// What a flag is for a context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "key": "RECENT", "value": true, "reason": "STATIC", "variant": "on",
    "metadata": { "source": "main", "stale": false, "age_seconds": 0.4 }
}))]
pub struct EvaluationSuccess {
    /// The flag.
    pub key: String,
    /// Its value; absent: the application's own default counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// Why: `STATIC`, `DEFAULT`, `SPLIT`, `TARGETING_MATCH` or `DISABLED`.
    pub reason: String,
    /// The name of the value.
    pub variant: String,
    /// Where the value was read, whether it may be out of date, how old it is, and whether it is overridden.
    pub metadata: BTreeMap<String, Value>,
}

/// Why a flag could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "key": "RECENT", "errorCode": "FLAG_NOT_FOUND", "errorDetails": "there is no flag RECENT"
}))]
#[serde(rename_all = "camelCase")]
pub struct EvaluationFailure {
    /// The flag, if one was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The kind of error.
    pub error_code: ErrorCode,
    /// What is wrong.
    pub error_details: String,
}

/// The kinds of errors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorCode {
    /// There is no such flag.
    FlagNotFound,
    /// The body, or the flag's own rule, cannot be understood.
    ParseError,
    /// The flag needs a `targetingKey`.
    TargetingKeyMissing,
    /// The context is not one.
    InvalidContext,
    /// Anything else.
    General,
}

/// What all flags are for a context.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BulkEvaluation {
    /// Each flag.
    pub flags: Vec<Evaluated>,
    /// Whether any value may be out of date.
    pub metadata: BTreeMap<String, Value>,
}

/// What a flag is, or why that cannot be said.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Evaluated {
    /// It could not be evaluated.
    Failure(EvaluationFailure),
    /// What it is.
    Success(EvaluationSuccess),
}

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) StatusCode, pub(crate) EvaluationFailure);

impl Failed {
    /// An error, with the status that the protocol has for it.
    pub(crate) fn because(key: Option<&str>, error_code: ErrorCode, details: impl Into<String>) -> Self {
        let status = match error_code {
            ErrorCode::FlagNotFound => StatusCode::NOT_FOUND,
            ErrorCode::ParseError | ErrorCode::TargetingKeyMissing | ErrorCode::InvalidContext | ErrorCode::General => {
                StatusCode::BAD_REQUEST
            }
        };
        let failure = EvaluationFailure { key: key.map(str::to_owned), error_code, error_details: details.into() };
        Self(status, failure)
    }

    /// A problem with the body, in the protocol's shape.
    pub(crate) fn of_body(key: Option<&str>, problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::BAD_REQUEST);
        let error_code = if status == StatusCode::BAD_REQUEST { ErrorCode::ParseError } else { ErrorCode::General };
        let Self(_, failure) = Self::because(key, error_code, problem.detail);
        Self(status, failure)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl EvaluationInput {
    /// Reads a body: absent means no context.
    pub(crate) fn read(key: Option<&str>, body: &[u8]) -> Result<serde_json::Map<String, Value>, Failed> {
        if body.is_empty() {
            return Ok(serde_json::Map::new());
        }
        let parsed: Value = serde_json::from_slice(body)
            .map_err(|error| Failed::because(key, ErrorCode::ParseError, format!("the body is not JSON: {error}")))?;
        let Value::Object(mut body) = parsed else {
            return Err(Failed::because(key, ErrorCode::ParseError, "the body is not an object"));
        };
        let invalid = |why: &str| Err(Failed::because(key, ErrorCode::InvalidContext, why));
        match body.remove("context") {
            None => Ok(serde_json::Map::new()),
            Some(Value::Object(context)) => match context.get("targetingKey") {
                None | Some(Value::String(_)) => Ok(context),
                Some(_) => invalid("the targetingKey of the context is not a string"),
            },
            Some(_) => invalid("the context is not an object"),
        }
    }
}

/// Evaluates a flag. Without the age of its value: that is added to an answer, and is no part of what its `ETag` is of.
pub(crate) fn evaluate(
    flag: &Flag,
    table: &FlagTable,
    flags: &Flags,
    subject: &Subject<'_>,
    now: Moment,
) -> Result<EvaluationSuccess, EvaluationFailure> {
    let found = flag.evaluate(subject);
    if let Some(error) = found.error {
        let code = match error {
            EvaluationError::TargetingKeyMissing => ErrorCode::TargetingKeyMissing,
            EvaluationError::RuleFailed | EvaluationError::UnknownVariant => ErrorCode::ParseError,
        };
        let Failed(_, failure) = Failed::because(Some(flag.name.as_str()), code, error.to_string());
        return Err(failure);
    }
    let mut metadata = BTreeMap::from([("source".to_owned(), Value::from(flag.source.to_string()))]);
    let stale = flag.source.named().and_then(|id| table.source(id)).map(|source| source.is_stale(now.mono, flags.poll));
    metadata.insert("stale".to_owned(), stale.unwrap_or(false).into());
    if flag.overridden_until_unix_ms.is_some() {
        metadata.insert("override".to_owned(), true.into());
    }
    // A flag that is switched off has no value for an application, whatever this process takes for its default.
    let variant = found.variant.filter(|_| found.reason != tidegate_core::flags::FlagReason::Disabled);
    Ok(EvaluationSuccess {
        key: flag.name.to_string(),
        value: variant.map(|variant| variant.value.to_json()),
        reason: found.reason.as_str().to_owned(),
        // Clients read this field without asking whether it is there.
        variant: variant.map_or("", |variant| variant.name.as_deref().unwrap_or("default")).to_owned(),
        metadata,
    })
}

/// Adds how long ago the source of a flag was read.
pub(crate) fn add_age(evaluated: &mut EvaluationSuccess, table: &FlagTable, now: Moment) {
    let source = FlagName::parse(&evaluated.key).ok().and_then(|name| table.get(&name)).map(|flag| &flag.source);
    let source = source.and_then(|source| source.named()).and_then(|id| table.source(id));
    if let Some(age) = source.and_then(|source| age(source, now)) {
        evaluated.metadata.insert("age_seconds".to_owned(), age.into());
    }
}
