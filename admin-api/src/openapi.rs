//! What the OpenAPI document says beside the calls themselves: who may call, and which problems every call may answer.

use std::collections::BTreeMap;

use utoipa::{
    IntoParams, IntoResponses, Modify, OpenApi,
    openapi::{
        self, Content, HeaderBuilder, Ref, RefOr, ResponseBuilder,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::{dto::ofrep::EvaluationFailure, problem::Problem};

/// The document's frame; the calls are added by the router.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tidegate admin API",
        description = "Moves traffic between the targets of services, and shows what it does. Every answer to a change \
                       carries the generation that it brought about, also as `ETag`; `If-Match` makes a change \
                       conditional on a generation, and `dry_run=true` only says what would happen. Unknown query \
                       parameters and unknown fields are refused.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, EvaluationFailure)),
    modifiers(&Tokens),
    tags(
        (name = "traffic", description = "Move traffic"),
        (name = "targets", description = "Add, change, drain and remove targets"),
        (name = "mirrors", description = "Copy requests to a shadow"),
        (name = "flags", description = "Show, set and override feature flags"),
        (name = "ofrep", description = "Evaluate flags by the OpenFeature Remote Evaluation Protocol 0.3.0"),
        (name = "deployments", description = "Release new versions step by step, and take them back"),
        (name = "versions", description = "Main and shadows of a service, and versions that are known to be bad"),
        (name = "brackets", description = "Queue services and release them together; bring artifacts to a stage"),
        (name = "events", description = "What happened"),
        (name = "process", description = "The process itself")
    )
)]
pub(crate) struct Document;

/// Either header carries a token. Where no tokens are configured, none is needed.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("A token of the API")).build();
        let key = ApiKeyValue::with_description("X-API-Key", "A token, where Authorization is taken");
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        components.add_security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(key)));
        let none: [&str; 0] = [];
        document.security = Some(vec![SecurityRequirement::new("bearer", none), SecurityRequirement::new("key", none)]);
    }
}

/// The service that the path names. These types only stand for the document: `input` reads the path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it stands for the path in the document")]
pub(crate) struct ServicePath {
    /// The service.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    service: String,
}

/// The target that the path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it stands for the path in the document")]
pub(crate) struct TargetPath {
    /// The service.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    service: String,
    /// The target.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    target: String,
}

/// The mirror that the path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it stands for the path in the document")]
pub(crate) struct MirrorPath {
    /// The service.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    service: String,
    /// The mirror.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    mirror: String,
}

/// The deployment that the path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it stands for the path in the document")]
pub(crate) struct DeploymentPath {
    /// The deployment.
    #[param(pattern = "^dep-[A-Za-z0-9]{1,60}$")]
    id: String,
}

/// The version that the path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it stands for the path in the document")]
pub(crate) struct VersionPath {
    /// The service.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    service: String,
    /// The version, or where the call says so the target that it runs in.
    #[param(min_length = 1, max_length = 512)]
    version: String,
}

/// The bracket that the path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it stands for the path in the document")]
pub(crate) struct BracketPath {
    /// The bracket.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    bracket: String,
}

/// What the creation of a deployment takes in its headers.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it stands for the header in the document")]
pub(crate) struct IdempotencyKey {
    /// A key of the client's: a repeated request with it gives the same deployment.
    #[param(rename = "Idempotency-Key", required = false, value_type = String, min_length = 1, max_length = 255)]
    idempotency_key: Option<String>,
}

/// The flag that the path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it stands for the path in the document")]
pub(crate) struct FlagPath {
    /// The flag.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    flag: String,
}

/// The flag source that the path names.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "it stands for the path in the document")]
pub(crate) struct SourcePath {
    /// The source.
    #[param(pattern = "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    source: String,
}

/// What every change takes in its headers.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it stands for the header in the document")]
pub(crate) struct IfMatch {
    /// Only if this is the generation: the `ETag` of an earlier answer, or `*` for any.
    #[param(rename = "If-Match", required = false, value_type = String, pattern = r#"^(\*|"[0-9]{1,19}")$"#)]
    if_match: Option<String>,
}

/// What a follower of events takes in its headers.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it stands for the header in the document")]
pub(crate) struct LastEventId {
    /// What the client saw last: only events after this number; wins over `after`.
    #[param(rename = "Last-Event-ID", required = false, value_type = String, pattern = "^[0-9]{1,18}$")]
    last_event_id: Option<String>,
}

fn problem(description: &str) -> ResponseBuilder {
    ResponseBuilder::new()
        .description(description)
        .content("application/problem+json", Content::new(Some(Ref::from_schema_name("Problem"))))
}

fn header(description: &str) -> openapi::Header {
    HeaderBuilder::new()
        .schema(Some(openapi::Object::with_type(openapi::Type::String)))
        .description(Some(description))
        .build()
}

fn all<const N: usize>(problems: [(&str, ResponseBuilder); N]) -> BTreeMap<String, RefOr<openapi::Response>> {
    problems.into_iter().map(|(status, response)| (status.to_owned(), RefOr::T(response.build()))).collect()
}

/// What every call may answer before it is looked at.
pub(crate) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let challenge = header("How to authenticate");
        all([
            ("400", problem("The request is malformed")),
            ("401", problem("A token is needed").header("WWW-Authenticate", challenge)),
            ("403", problem("The token's role does not allow this, or the Host or Origin is foreign")),
            ("500", problem("A fault of the proxy")),
        ])
    }
}

/// What calls of open paths may answer before they are looked at.
pub(crate) struct OpenRefusals;

impl IntoResponses for OpenRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        all([
            ("400", problem("The request is malformed")),
            ("403", problem("The Host or Origin is foreign")),
            ("500", problem("A fault of the proxy")),
        ])
    }
}

/// The path names something.
pub(crate) struct NotFound;

impl IntoResponses for NotFound {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        all([(
            "404",
            problem("There is no such service, target, mirror, version, flag, source, deployment or bracket"),
        )])
    }
}

/// The call takes a body.
pub(crate) struct BodyRefusals;

impl IntoResponses for BodyRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        all([
            ("408", problem("The body took longer than 10 s")),
            ("413", problem("The body is longer than 1 MiB")),
            ("415", problem("The body is not JSON")),
            ("422", problem("The input is well-formed but invalid")),
        ])
    }
}

/// An evaluation that fails, in the shape of its protocol; what the guard refuses has the shape of every refusal.
pub(crate) struct EvaluationRefusals;

impl IntoResponses for EvaluationRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let failure = |response: ResponseBuilder| {
            response.content("application/json", Content::new(Some(Ref::from_schema_name("EvaluationFailure"))))
        };
        let own = |text: &str| failure(ResponseBuilder::new().description(text));
        let mut all = all([
            ("400", failure(problem("The request, its context or the flag's rule is wrong"))),
            ("408", own("The body took longer than 10 s")),
            ("413", own("The body is longer than 1 MiB")),
            ("415", own("The body is not JSON")),
        ]);
        all.extend(Refusals::responses().into_iter().filter(|(status, _)| status != "400"));
        all
    }
}

/// The call does not fit the present state.
pub(crate) struct ConflictRefusal;

impl IntoResponses for ConflictRefusal {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        all([("409", problem("It does not fit the present state, or failed; nothing has changed"))])
    }
}

/// The call changes something.
pub(crate) struct ChangeRefusals;

impl IntoResponses for ChangeRefusals {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        all([
            ("409", problem("The change does not fit the present state")),
            ("412", problem("The generation is another than If-Match names")),
            ("422", problem("The input is well-formed but invalid")),
            ("503", problem("The change cannot be made or saved now").header("Retry-After", header("Seconds to wait"))),
        ])
    }
}
