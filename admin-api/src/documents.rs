//! What the OpenAPI document says of documents whose schema the core reads: their keys, and what each takes.
//!
//! The core is the judge. A test holds the keys here against those that it knows.

use serde_json::{Value, json};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, Schema, SchemaType, Type},
    },
};

/// A deployment.
pub(crate) struct DeploymentDocument;
/// A version that is deployed without saying of which service, and how.
pub(crate) struct VersionDocument;
/// A bracket that is opened.
pub(crate) struct BracketDocument;
/// Services that are queued in a bracket.
pub(crate) struct MembersDocument;

/// A key: its name, what it takes, and what it means.
type Key = (&'static str, Takes, &'static str);

/// What a key takes.
#[derive(Clone, Copy)]
enum Takes {
    Text,
    TextOrNumber,
    Flag,
    Percent,
    Count,
    Duration,
    DurationOrSeconds,
    Texts,
    TextOrTexts,
    Table,
    TableOrList,
    List,
    Command,
    Other,
}

use Takes::{
    Command, Count, Duration, DurationOrSeconds, Flag, List, Other, Percent, Table, TableOrList, Text, TextOrNumber,
    TextOrTexts, Texts,
};

/// Which service gets which version.
const MEMBER: [Key; 6] = [
    ("service", Text, "The service (also app_name)"),
    ("to", Text, "The target that gets the new version (also target); absent: the one that is free"),
    ("version", TextOrNumber, "What the version is called; absent: its image, or its target"),
    ("image", Text, "The image or artifact, for the commands (also artifact)"),
    ("endpoints", List, "Endpoints of the new version: addresses, or tables of address and weight"),
    ("member", List, "Several services, each with these keys, that are released together (also members)"),
];

/// What every deployment may say.
const DEPLOYMENT: [Key; 39] = [
    ("name", Text, "A name for people"),
    ("project", Text, "The project, for people and events"),
    ("stage", Text, "The stage that its services are in"),
    (
        "strategy",
        Text,
        "simple, blind, recreate (usual), rolling-update, zero-downtime, blue-green, canary, ab-testing, shadow or custom",
    ),
    ("start", Command, "Starts a version's environment: the name of a command, or a program and its arguments"),
    ("stop", Command, "Stops a version's environment"),
    ("save", Command, "Keeps a copy of a version that is known to be good"),
    ("install", Command, "Puts a version's files in place before it is started"),
    ("pre_hook", Command, "Runs before anything else"),
    ("post_hook", Command, "Runs after success"),
    ("rollback_hook", Command, "Runs after everything was taken back"),
    ("tests", Other, "Commands that test the new version before it gets traffic (also functional_tests, test_hook)"),
    ("performance_tests", Other, "Commands that test how fast it is"),
    ("pre_order", Text, "When the pre hook runs: first (usual) or after-stop"),
    ("health_check_path", Text, "The path that shows health; absent: as the service says"),
    ("health_check_port", Count, "The port that shows health; absent: the endpoint's"),
    (
        "health_timeout",
        DurationOrSeconds,
        "How long a new version may take to become healthy (also health_check_timeout)",
    ),
    ("health_successes", Count, "Successes in a row of each endpoint that show health"),
    ("drain_timeout", DurationOrSeconds, "How long running requests of the old version may go on"),
    ("keep_old", Other, "What becomes of the old version: until-next, a duration, or false"),
    ("mark_bad", Flag, "Whether a version that failed is remembered as bad"),
    ("auto_rollback", Flag, "Whether a failure takes everything back by itself"),
    ("force", Other, "Why a version that is marked as bad is deployed nevertheless: a text"),
    ("supersede", Flag, "Whether an active deployment of the service is rolled back for this one"),
    ("analyse", Table, "How it is judged: min_requests, max_odds, alpha, gate, on_fail, on_inconclusive"),
    ("patience", Duration, "Longest wait for a person"),
    ("fingerprint", Texts, "Files whose contents are the version's identity, as patterns"),
    ("replicas", Count, "Endpoints that the new version has"),
    ("labels", Table, "What is handed to commands and shown"),
    ("commit", TextOrNumber, "A label"),
    ("cpu", TextOrNumber, "A label"),
    ("memory", TextOrNumber, "A label"),
    ("cloud_provider", TextOrNumber, "A label"),
    ("traffic_router", TextOrNumber, "A label"),
    ("metrics_endpoint", TextOrNumber, "A label"),
    ("env", TableOrList, "Environment variables of the new version: a table, or a list of KEY=value"),
    ("volume", TextOrTexts, "Volumes of the new version (also volumes)"),
    ("mirror", Other, "What a shadow gets: percent, or a table of percent and methods"),
    ("watch", Duration, "How long a blue-green deployment is watched after the switch"),
];

/// What some strategies take.
const STRATEGIES: [Key; 14] = [
    ("load", Command, "canary, blue-green, ab-testing, custom: makes requests as long as each analysis lasts"),
    ("percentage", Percent, "canary: the first share"),
    ("steps", Other, "canary: the shares, which rise, as a list or as \"20,50,100\""),
    ("interval", DurationOrSeconds, "canary: time of each share"),
    ("max_surge", Count, "rolling-update: endpoints beyond replicas, at most"),
    ("max_unavailable", Count, "rolling-update: endpoints below replicas, at most"),
    ("batch_size", Count, "zero-downtime: endpoints that are replaced at a time"),
    ("batch_delay", DurationOrSeconds, "rolling-update, zero-downtime: time between two batches"),
    ("verification_timeout", DurationOrSeconds, "blue-green: the same as health_timeout"),
    ("duration", DurationOrSeconds, "ab-testing: time of the test"),
    ("goal", Table, "ab-testing: what a visitor is to do: name, method, path, status"),
    ("variant", List, "ab-testing: name, image and percentage of each (also variants)"),
    ("step", List, "custom: each is one of set, analyse, pause, gate, hook, mirror, verify"),
    ("execute", Flag, "Whether it begins at once"),
];

fn schema(takes: Takes, meaning: &str) -> Schema {
    let (types, most): (&[Type], Option<f64>) = match takes {
        Text => (&[Type::String], None),
        TextOrNumber => (&[Type::String, Type::Number], None),
        Flag => (&[Type::Boolean], None),
        Percent => (&[Type::Number], Some(100.0)),
        Count => (&[Type::Integer], None),
        Duration => (&[Type::String], None),
        DurationOrSeconds => (&[Type::String, Type::Integer], None),
        Texts | List => (&[Type::Array], None),
        TextOrTexts | Command => (&[Type::String, Type::Array], None),
        Table => (&[Type::Object], None),
        TableOrList => (&[Type::Object, Type::Array], None),
        Other => (&[], None),
    };
    let types = if types.is_empty() {
        SchemaType::AnyValue
    } else {
        // A key without a value is as good as none.
        SchemaType::Array(types.iter().cloned().chain([Type::Null]).collect())
    };
    let unit = match takes {
        Duration => ", as \"90s\" or with another of d, h, m, ms",
        DurationOrSeconds => ", as \"90s\" or in seconds",
        _ => "",
    };
    let object = ObjectBuilder::new().schema_type(types).description(Some(format!("{meaning}{unit}")));
    let object = if most.is_some() { object.minimum(Some(0.0)).maximum(most) } else { object };
    object.into()
}

fn document<'a>(
    keys: impl IntoIterator<Item = &'a Key>,
    required: &[&str],
    about: &str,
    example: Value,
) -> RefOr<Schema> {
    let mut object = ObjectBuilder::new().description(Some(format!(
        "{about} Keys may be written with `-` for `_`; a key that means nothing here is refused. May be sent as TOML with \
         content-type application/toml."
    )));
    for (name, takes, meaning) in keys {
        object = object.property(*name, schema(*takes, meaning));
    }
    for name in required {
        object = object.required(*name);
    }
    RefOr::T(object.examples([example]).into())
}

impl ToSchema for DeploymentDocument {}

impl PartialSchema for DeploymentDocument {
    fn schema() -> RefOr<Schema> {
        let example = json!({
            "strategy": "canary", "service": "web", "to": "blue", "image": "web:2", "percentage": 5,
            "steps": [20, 50, 100], "interval": "5m"
        });
        let keys = MEMBER.iter().chain(&DEPLOYMENT).chain(&STRATEGIES);
        document(keys, &[], "A deployment of a service, or of several in `member`.", example)
    }
}

impl ToSchema for VersionDocument {}

impl PartialSchema for VersionDocument {
    fn schema() -> RefOr<Schema> {
        let own = ("source", Text, "Where the version comes from: another word for image");
        let keys = MEMBER.iter().filter(|(name, ..)| !["service", "member"].contains(name)).chain([&own]);
        let keys = keys.chain(DEPLOYMENT.iter().filter(|(name, ..)| !["strategy", "watch"].contains(name)));
        document(
            keys,
            &["version"],
            "A version of a service.",
            json!({ "version": "2.0.0", "source": "calculator:2.0.0" }),
        )
    }
}

impl ToSchema for BracketDocument {}

impl PartialSchema for BracketDocument {
    fn schema() -> RefOr<Schema> {
        let strategies = STRATEGIES.iter().filter(|(name, ..)| *name != "execute");
        let keys = MEMBER.iter().chain(&DEPLOYMENT).chain(strategies);
        let about = "A bracket: its name, how its services are released (as a deployment, or as `stage` says), and those \
                     that wait from the beginning.";
        document(
            keys,
            &["name"],
            about,
            json!({ "name": "spring", "strategy": "blue-green", "service": "web", "to": "blue" }),
        )
    }
}

impl ToSchema for MembersDocument {}

impl PartialSchema for MembersDocument {
    fn schema() -> RefOr<Schema> {
        document(&MEMBER, &[], "A service and its new version, or several.", json!({ "service": "web", "to": "blue" }))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tidegate_core::deploy::spec::{self, Strategy, parse, parse_members};

    use super::*;

    /// What the core says of a key that is there without a value.
    fn complaint(strategy: &str, key: &str, parse: impl Fn(&spec::Value) -> Vec<spec::SpecProblem>) -> Option<String> {
        let mut document = json!({ "service": "web" });
        let keys = document.as_object_mut().unwrap();
        if !strategy.is_empty() {
            keys.insert("strategy".into(), strategy.into());
        }
        keys.entry(key).or_insert(Value::Null);
        let document = serde_json::from_value(document).unwrap();
        parse(&document).into_iter().find(|problem| problem.path == key).map(|problem| problem.message)
    }

    fn refused(message: &str) -> bool {
        message.starts_with("unknown key") || message.contains("has no use for it")
    }

    #[test]
    fn every_key_means_something_to_the_core() {
        let problems = |document: &spec::Value| parse(document).err().unwrap_or_default();
        for (key, ..) in MEMBER.iter().chain(&DEPLOYMENT).chain(&STRATEGIES).filter(|(key, ..)| *key != "execute") {
            let knows = |name: &&str| !complaint(name, key, problems).is_some_and(|message| refused(&message));
            assert!(Strategy::NAMES.iter().any(knows), "{key}");
        }
        for (key, ..) in &MEMBER {
            let problems = |document: &spec::Value| parse_members(document).err().unwrap_or_default();
            assert!(!complaint("", key, problems).is_some_and(|message| refused(&message)), "{key}");
        }
    }

    #[test]
    fn every_key_of_the_core_is_described() {
        let also = [
            "app_name",
            "target",
            "artifact",
            "members",
            "health_check_timeout",
            "volumes",
            "variants",
            "functional_tests",
            "test_hook",
        ];
        let described: BTreeSet<&str> =
            MEMBER.iter().chain(&DEPLOYMENT).chain(&STRATEGIES).map(|(key, ..)| *key).chain(also).collect();
        let problems = |document: &spec::Value| parse(document).err().unwrap_or_default();
        for name in Strategy::NAMES {
            let message = complaint(name, "no_such_key", problems).unwrap();
            let known = message.strip_prefix("unknown key: use one of ").unwrap();
            for key in known.split(", ") {
                assert!(described.contains(key), "{name}: {key}");
            }
        }
    }
}
