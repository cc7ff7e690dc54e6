//! The flags of a configuration in the schema of its file.

use toml::{Table, Value};

use super::{duration, integer, list, named, path, some, source, table, texts};
use crate::*;

/// `[flags]`, without any secret.
pub(super) fn described_flags(flags: &Flags) -> Value {
    let Flags { sources, default_source, declared, values, poll, require_store, bucketing, namespace } = flags;
    let bucketing = match bucketing {
        Bucketing::FlagdV2 => "flagd-v2",
    };
    let default_source = (!sources.is_empty()).then(|| Value::from(default_source.to_string()));
    let sources = if sources.is_empty() { Value::from(flags::EMBEDDED) } else { named(sources, described_source) };
    Value::Table(table([
        ("source", Some(sources)),
        ("default_source", default_source),
        ("poll", some(duration(*poll))),
        ("require_store", some(*require_store)),
        ("bucketing", some(bucketing)),
        ("namespace", some(namespace.as_str())),
        ("flag", some(named(declared, described_flag))),
        ("values", some(named(values, |value| Value::String(value.clone())))),
    ]))
}

fn described_source(spec: &SourceSpec) -> Value {
    let redis = match spec {
        SourceSpec::File(file) => return Value::Table(table([("file", Some(path(file)))])),
        SourceSpec::Redis(redis) => redis,
    };
    let RedisSource { address, database, username, password, sentinel_password, tls, hash, document } = &**redis;
    let database = matches!(address, RedisAddress::Unix(_)).then(|| integer(*database));
    let tls = tls.clone().unwrap_or_default();
    let (cert, key) = tls.identity.unzip();
    let text = |text: &Option<String>| text.as_deref().map(Value::from);
    let secret = |secret: &Option<SecretSource>| secret.as_ref().map(|secret| Value::Table(source(secret)));
    Value::Table(table([
        ("url", some(redis.to_string())),
        ("database", database),
        ("username", text(username)),
        ("password", secret(password)),
        ("sentinel_password", secret(sentinel_password)),
        ("ca", tls.ca.as_deref().map(path)),
        ("cert", cert.as_deref().map(path)),
        ("key", key.as_deref().map(path)),
        ("hash", text(hash)),
        ("document", text(document)),
    ]))
}

fn described_flag(flag: &FlagSpec) -> Value {
    let FlagSpec { kind, default, key, source, header } = flag;
    let mut described = table([
        ("type", some(kind.as_str())),
        ("default", default.as_ref().map(|default| json(default.to_json()))),
        ("key", some(key.as_str())),
        ("source", some(source.to_string())),
    ]);
    if let Some(FlagHeader { name, services, targets }) = header {
        let services: Vec<_> = services.iter().map(ServiceId::to_string).collect();
        let targets = list(targets, |target| Value::from(target.as_str()));
        described.extend([("header".into(), Value::from(name.as_str()))]);
        described.extend([("services".into(), texts(&services)), ("targets".into(), targets)]);
    }
    Value::Table(described)
}

/// JSON that came from TOML, which has neither null nor numbers beyond these.
pub(super) fn json(value: serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::from("null"),
        serde_json::Value::Bool(truth) => Value::Boolean(truth),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(whole) => Value::Integer(whole),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => Value::Array(items.into_iter().map(json).collect()),
        serde_json::Value::Object(map) => {
            Value::Table(map.into_iter().map(|(name, value)| (name, json(value))).collect::<Table>())
        }
    }
}
