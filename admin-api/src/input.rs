//! From a request's parts to typed input: names in the path, the query, `If-Match`, and the JSON body.
//!
//! Every refusal is a [`Problem`] that says where the input is wrong. A body is bounded in size and in time, and in
//! depth by `serde_json`'s own limit of 128 levels.

use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Query, Request},
    http::{HeaderMap, Method, header, request::Parts},
};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use serde::{
    Deserialize,
    de::{DeserializeOwned, IgnoredAny},
};
use tidegate_config::{BracketId, FlagName, IdError, MirrorId, ServiceId, SourceId, TargetId};
use tidegate_core::{Generation, deploy::DeploymentId};
use utoipa::IntoParams;

use crate::{
    dto::version::MAX_VERSION,
    problem::{Kind, Problem, ProblemPart},
};

/// Largest body: a target with a thousand endpoints takes a tenth of it.
pub const MAX_BODY: usize = 1024 * 1024;

/// How long a whole body may take.
pub const BODY_DEADLINE: Duration = Duration::from_secs(10);

/// What is read and thrown away of a body that is too large, so that its sender gets to read the answer: a socket that
/// is closed with unread bytes is reset.
const MAX_DISCARDED: usize = 8 * 1024 * 1024;

/// Most digits of a generation in `If-Match`.
const MAX_GENERATION_DIGITS: usize = 19;

/// The service that the path names.
pub(crate) struct InService(pub(crate) ServiceId);

/// The target that the path names, and its service.
pub(crate) struct InTarget(pub(crate) ServiceId, pub(crate) TargetId);

/// The deployment that the path names.
pub(crate) struct InDeployment(pub(crate) DeploymentId);

/// The version that the path names, and its service.
pub(crate) struct InVersion(pub(crate) ServiceId, pub(crate) String);

/// The bracket that the path names.
pub(crate) struct InBracket(pub(crate) BracketId);

/// The mirror that the path names, and its service.
pub(crate) struct InMirror(pub(crate) ServiceId, pub(crate) MirrorId);

/// The flag that the path names.
pub(crate) struct InFlag(pub(crate) FlagName);

/// The flag source that the path names.
pub(crate) struct InSource(pub(crate) SourceId);

/// The query, every parameter of which must be known: `?dryrun=true` must not be the real thing.
pub(crate) struct Params<T>(pub(crate) T);

/// No parameters.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NoParams {}

/// Under which conditions a change is asked for.
pub(crate) struct Conditions {
    /// Only if this is the generation.
    pub(crate) expected: Option<Generation>,
    /// Only say what would happen.
    pub(crate) dry_run: bool,
}

/// What every change takes in its query.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ChangeParams {
    /// `true`: only say what would happen.
    #[serde(default)]
    pub(crate) dry_run: bool,
}

/// The JSON body.
pub(crate) struct Input<T>(pub(crate) T);

/// The JSON body, which may be left out.
pub(crate) struct OptionalInput<T>(pub(crate) T);

async fn path<T, S>(parts: &mut Parts, state: &S) -> Result<T, Problem>
where
    T: DeserializeOwned + Send,
    S: Send + Sync,
{
    let Path(names) = Path::<T>::from_request_parts(parts, state)
        .await
        .map_err(|_| Kind::Malformed.because("the path is not valid UTF-8 after percent-decoding"))?;
    Ok(names)
}

/// What has no valid name cannot exist.
fn service(name: &str) -> Result<ServiceId, Problem> {
    ServiceId::parse(name).map_err(|error| Kind::NotFound.because(format!("there is no service {name:?}: {error}")))
}

/// What has no valid name can neither exist nor be made.
fn no_name(method: &Method, kind: &'static str, error: &IdError) -> Problem {
    if method == Method::PUT {
        Problem::invalid(vec![ProblemPart::new(kind, error.to_string())])
    } else {
        Kind::NotFound.because(format!("there is no such {kind}: {error}"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InService {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name: String = path(parts, state).await?;
        Ok(Self(service(&name)?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InTarget {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (of, name): (String, String) = path(parts, state).await?;
        let target = TargetId::parse(&name).map_err(|error| no_name(&parts.method, "target", &error))?;
        Ok(Self(service(&of)?, target))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InDeployment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name: String = path(parts, state).await?;
        DeploymentId::parse(&name).map(Self).map_err(|error| Kind::NotFound.because(error.to_string()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InVersion {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (of, version): (String, String) = path(parts, state).await?;
        if version.is_empty() || version.len() > MAX_VERSION || version.contains(char::is_control) {
            let message = format!("there is no such version: write 1 to {MAX_VERSION} bytes");
            return Err(Kind::NotFound.because(message));
        }
        Ok(Self(service(&of)?, version))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InBracket {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name: String = path(parts, state).await?;
        let bracket = BracketId::parse(&name);
        bracket.map(Self).map_err(|error| Kind::NotFound.because(format!("there is no bracket {name:?}: {error}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InMirror {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let (of, name): (String, String) = path(parts, state).await?;
        let mirror = MirrorId::parse(&name).map_err(|error| no_name(&parts.method, "mirror", &error))?;
        Ok(Self(service(&of)?, mirror))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InFlag {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name: String = path(parts, state).await?;
        let flag = FlagName::parse(&name);
        flag.map(Self).map_err(|error| Kind::NotFound.because(format!("there is no flag {name:?}: {error}")))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for InSource {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name: String = path(parts, state).await?;
        let source = SourceId::parse(&name);
        source.map(Self).map_err(|error| Kind::NotFound.because(format!("there is no flag source {name:?}: {error}")))
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(params) = Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| {
            let text = rejection.body_text();
            let message = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            Problem::malformed(vec![ProblemPart::new("query", message)])
        })?;
        Ok(Self(params))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Conditions {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Params(ChangeParams { dry_run }) = Params::from_request_parts(parts, state).await?;
        Ok(Self { expected: if_match(&parts.headers)?, dry_run })
    }
}

impl Conditions {
    /// Those of the headers.
    pub(crate) fn of(headers: &HeaderMap, dry_run: bool) -> Result<Self, Problem> {
        Ok(Self { expected: if_match(headers)?, dry_run })
    }
}

/// `If-Match: "<generation>"`; `*` is any generation.
fn if_match(headers: &HeaderMap) -> Result<Option<Generation>, Problem> {
    let mut values = headers.get_all(header::IF_MATCH).iter();
    let malformed = || {
        let message = "write one generation in quotes, as the ETag of the last answer has it, or *";
        Problem::malformed(vec![ProblemPart::new("If-Match", message)])
    };
    let text = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().map_err(|_| malformed())?.trim(),
        (Some(_), Some(_)) => return Err(malformed()),
    };
    if text == "*" {
        return Ok(None);
    }
    let digits = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(malformed)?;
    if digits.is_empty() || digits.len() > MAX_GENERATION_DIGITS || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed());
    }
    digits.parse().map(|number| Some(Generation(number))).map_err(|_| malformed())
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Input<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read(request).await?;
        if body.is_empty() {
            return Err(Problem::malformed(vec![ProblemPart::new("", "the body is empty: send a JSON object")]));
        }
        parse(&body).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalInput<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let body = read(request).await?;
        if matches!(body.trim_ascii(), b"" | b"null") { Ok(Self(T::default())) } else { parse(&body).map(Self) }
    }
}

/// Reads a body whole, or refuses it.
pub(crate) async fn read(request: Request) -> Result<Bytes, Problem> {
    check_media_type(request.headers())?;
    read_any(request).await
}

/// Reads a body of any media type whole, or refuses it.
pub(crate) async fn read_any(request: Request) -> Result<Bytes, Problem> {
    let too_large = || Kind::TooLarge.because(format!("a body may have {MAX_BODY} bytes"));
    // A client that asks before it sends is told at once.
    if request.headers().contains_key(header::EXPECT)
        && declared_length(request.headers()).is_some_and(|length| length > MAX_BODY as u64)
    {
        return Err(too_large());
    }
    let mut body = request.into_body();
    let mut kept = BytesMut::new();
    let collect = async {
        let mut length = 0_usize;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Kind::Malformed.because("the body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            length = length.saturating_add(data.len());
            if length <= MAX_BODY {
                kept.extend_from_slice(&data);
            } else if length > MAX_DISCARDED {
                break;
            }
        }
        if length > MAX_BODY { Err(too_large()) } else { Ok(()) }
    };
    match tokio::time::timeout(BODY_DEADLINE, collect).await {
        Ok(read) => read.map(|()| kept.freeze()),
        Err(_) => Err(Kind::SlowBody.because(format!("the body took longer than {} s", BODY_DEADLINE.as_secs()))),
    }
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// JSON, or what `curl -d` says when it is not told otherwise.
fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    if json || essence == "application/x-www-form-urlencoded" {
        Ok(())
    } else {
        Err(Kind::MediaType.because("send JSON, with content-type application/json or none"))
    }
}

/// Well-formed JSON of another shape is invalid; everything else is malformed.
pub(crate) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // Shape is judged only on a document that is well-formed to its end.
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(body) {
        return Err(Problem::malformed(vec![ProblemPart::new("", format!("the body is not JSON: {error}"))]));
    }
    // Serde would also fill the fields of a struct from an array, in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Problem::invalid(vec![ProblemPart::new("", "the body is not a JSON object")]));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = match error.path().to_string() {
            root if root == "." => String::new(),
            path => path,
        };
        let error = error.into_inner();
        let part = ProblemPart::new(path, without_position(&error.to_string()));
        match error.classify() {
            serde_json::error::Category::Data => Problem::invalid(vec![part]),
            _ => Problem::malformed(vec![part]),
        }
    })
}

/// `serde_json` ends its messages with a line and a column, which a path says better.
fn without_position(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(text, _)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generation(value: &str) -> Result<Option<u64>, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, value.parse().unwrap());
        if_match(&headers).map(|found| found.map(|g| g.0)).map_err(|problem| problem.status)
    }

    #[test]
    fn if_match_is_one_generation_in_quotes_or_a_star() {
        assert_eq!(generation("\"7\""), Ok(Some(7)));
        assert_eq!(generation(" \"7\" "), Ok(Some(7)));
        assert_eq!(generation("*"), Ok(None));
        assert!(if_match(&HeaderMap::new()).unwrap().is_none());
        for malformed in
            ["7", "\"\"", "\"x\"", "W/\"7\"", "\"7\", \"8\"", "\"+7\"", "\"-1\"", "\"", "", "\"99999999999999999999\""]
        {
            assert_eq!(generation(malformed), Err(400), "{malformed:?}");
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        #[expect(dead_code, reason = "only its parse is tested")]
        list: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[expect(dead_code, reason = "only its parse is tested")]
        n: u8,
    }

    #[test]
    fn a_wrong_shape_is_invalid_at_its_path_and_everything_else_is_malformed() {
        let check = |body: &str, status: u16, path: &str| {
            let problem = parse::<Shape>(body.as_bytes()).unwrap_err();
            assert_eq!((problem.status, problem.errors[0].path.as_str()), (status, path), "{body}: {problem:?}");
        };
        check(r#"{"list":[{"n":1},{"n":"x"}]}"#, 422, "list[1].n");
        check(r#"{"list":[{"n":1,"m":2}]}"#, 422, "list[0].m");
        check(r#"{"list":[{"n":300}]}"#, 422, "list[0].n");
        check(r#"{"list":[],"extra":1}"#, 422, "extra");
        check(r"{}", 422, "");
        check(r"[]", 422, "");
        check(r#"{"extra":1} x"#, 400, "");
        check(r#"{"list":["#, 400, "");
        check("nonsense", 400, "");
        check(&"[".repeat(100_000), 400, "");
        check(&format!("{{\"list\":{}", "[".repeat(100_000)), 400, "");
    }
}
