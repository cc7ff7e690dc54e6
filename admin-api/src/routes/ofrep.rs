//! Evaluation of flags by applications: the OpenFeature Remote Evaluation Protocol 0.3.0.
//!
//! Errors have the protocol's own shape. What the guard refuses, it refuses as everywhere: clients look only at the
//! status of a 401 or 403.

use axum::{
    Json,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sha2::{Digest as _, Sha256};
use tidegate_config::FlagName;
use tidegate_core::{
    Subject,
    flags::context::{Arena, Given},
};

use super::App;
use crate::{
    dto::ofrep::{
        BulkEvaluation, ErrorCode, Evaluated, EvaluationFailure, EvaluationInput, EvaluationSuccess, Failed, add_age,
        evaluate,
    },
    input::read,
    openapi::{EvaluationRefusals, FlagPath},
};

/// Evaluate a flag for a context.
#[utoipa::path(
    post, path = "/ofrep/v1/evaluate/flags/{flag}", tag = "ofrep", operation_id = "evaluate_flag", params(FlagPath),
    request_body = Option<EvaluationInput>,
    responses(
        (status = 200, body = EvaluationSuccess),
        (status = 404, body = EvaluationFailure, description = "There is no such flag"),
        EvaluationRefusals
    )
)]
pub(super) async fn one(
    State(app): State<App>,
    Path(key): Path<String>,
    request: Request,
) -> Result<Json<EvaluationSuccess>, Failed> {
    let body = read(request).await.map_err(|problem| Failed::of_body(Some(&key), problem))?;
    let context = EvaluationInput::read(Some(&key), &body)?;
    let (snapshot, now) = (app.process.snapshot(), app.process.now());
    let table = &snapshot.flags;
    let flag = FlagName::parse(&key)
        .ok()
        .and_then(|name| table.get(&name))
        .ok_or_else(|| Failed::because(Some(&key), ErrorCode::FlagNotFound, format!("there is no flag {key:?}")))?;
    let arena = Arena::default();
    let context = Given::new(&arena, &context);
    let subject = Subject::Given { context: &context, unix_s: now.unix_ms / 1000 };
    let mut evaluated = evaluate(flag, table, &snapshot.state.flags.spec, &subject, now)
        .map_err(|failure| Failed(StatusCode::BAD_REQUEST, failure))?;
    add_age(&mut evaluated, table, now);
    Ok(Json(evaluated))
}

/// Evaluate all flags for a context. The `ETag` is of the context and of what the flags are for it.
#[utoipa::path(
    post, path = "/ofrep/v1/evaluate/flags", tag = "ofrep", operation_id = "evaluate_flags",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of an earlier answer")),
    request_body = Option<EvaluationInput>,
    responses(
        (status = 200, body = BulkEvaluation, headers(("ETag" = String, description = "What the answer is of"))),
        (status = 304, description = "Nothing is different"),
        EvaluationRefusals
    )
)]
pub(super) async fn all(State(app): State<App>, request: Request) -> Result<Response, Failed> {
    let headers = request.headers().clone();
    let body = read(request).await.map_err(|problem| Failed::of_body(None, problem))?;
    let context = EvaluationInput::read(None, &body)?;
    let (snapshot, now) = (app.process.snapshot(), app.process.now());
    let (table, spec) = (&snapshot.flags, &snapshot.state.flags.spec);
    let mut hash = Sha256::new();
    hash.update(serde_json::to_vec(&context).unwrap_or_default());
    let arena = Arena::default();
    let context = Given::new(&arena, &context);
    let subject = Subject::Given { context: &context, unix_s: now.unix_ms / 1000 };
    let mut flags: Vec<_> = table
        .iter()
        .map(|flag| match evaluate(flag, table, spec, &subject, now) {
            Ok(evaluated) => Evaluated::Success(evaluated),
            Err(failure) => Evaluated::Failure(failure),
        })
        .collect();
    hash.update(serde_json::to_vec(&flags).unwrap_or_default());
    let etag = etag(&hash.finalize());
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    for evaluated in &mut flags {
        if let Evaluated::Success(evaluated) = evaluated {
            add_age(evaluated, table, now);
        }
    }
    let stale = table.sources().any(|source| source.is_stale(now.mono, spec.poll));
    let metadata = [("stale".to_owned(), stale.into())].into();
    Ok(([(header::ETAG, etag)], Json(BulkEvaluation { flags, metadata })).into_response())
}

/// A weak tag: answers with the same tag differ in the age of their values.
fn etag(digest: &[u8]) -> HeaderValue {
    let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    // Hexadecimal digits are always a header value.
    HeaderValue::from_str(&format!("W/\"{hex}\"")).unwrap_or(HeaderValue::from_static("W/\"\""))
}

/// Whether a client has this answer already (RFC 9110, 13.1.2).
fn is_known(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let opaque = |tag: &str| tag.trim().strip_prefix("W/").unwrap_or(tag.trim()).to_owned();
    let own = etag.to_str().map(opaque).unwrap_or_default();
    let given = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    given.flat_map(|value| value.split(',')).any(|tag| tag.trim() == "*" || opaque(tag) == own)
}
