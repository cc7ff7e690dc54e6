//! From options to the document of a deployment, and from its keys back to options.
//!
//! Only what cannot be put into a document is refused here: what it means is for the admin API to say, which tells all
//! problems at once.

use serde_json::{Map, Value};

use crate::cli::args::DocumentArgs;

/// What `--name` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Name {
    /// The name of the deployment, as in `tidegate deployment create`.
    OfDeployment,
    /// The service, as in `tidegate app deploy`; with `--service` beside it, the name of the deployment.
    OfService,
}

/// How the text of an option stands in the document.
#[derive(Debug, Clone, Copy)]
enum Form {
    /// As it is.
    Text,
    /// As a number if it is one: counts, and times in seconds.
    Number,
    /// The same, with or without a percent sign.
    Percent,
    /// As true or false if it is one.
    Truth,
    /// A name, or a JSON list: a program and its arguments.
    Command,
    /// `key=value,key=value`: a table.
    Table,
    /// A list with commas.
    List,
}

/// Options with one value: key of the document, option, form, value. A key `a.b` is `b` in the table `a`.
fn single(args: &DocumentArgs, name: Name) -> Vec<(&'static str, &'static str, Form, &Option<String>)> {
    use Form::{Command, List, Number, Percent, Table, Text, Truth};
    // In the words of `tidegate app`, the name is the service's unless that is named otherwise.
    let names_service = name == Name::OfService && args.service.is_none() && args.app_name.is_none();
    let named = if names_service { "service" } else { "name" };
    vec![
        (named, "--name", Text, &args.name),
        ("app_name", "--app-name", Text, &args.app_name),
        ("service", "--service", Text, &args.service),
        ("to", "--to", Text, &args.to),
        ("version", "--version", Text, &args.version_name),
        ("image", "--image", Text, &args.image),
        ("strategy", "--strategy", Text, &args.strategy),
        ("percentage", "--percentage", Percent, &args.percentage),
        ("steps", "--steps", Text, &args.steps),
        ("interval", "--interval", Number, &args.interval),
        ("replicas", "--replicas", Number, &args.replicas),
        ("max_surge", "--max-surge", Number, &args.max_surge),
        ("max_unavailable", "--max-unavailable", Number, &args.max_unavailable),
        ("batch_size", "--batch-size", Number, &args.batch_size),
        ("batch_delay", "--batch-delay", Number, &args.batch_delay),
        ("verification_timeout", "--verification-timeout", Number, &args.verification_timeout),
        ("watch", "--watch", Number, &args.watch),
        ("duration", "--duration", Number, &args.duration),
        ("goal", "--goal", Table, &args.goal),
        ("mirror.percent", "--mirror-percent", Percent, &args.mirror_percent),
        ("mirror.methods", "--mirror-methods", List, &args.mirror_methods),
        ("drain_timeout", "--drain-timeout", Number, &args.drain_timeout),
        ("keep_old", "--keep-old", Truth, &args.keep_old),
        ("auto_rollback", "--auto-rollback", Truth, &args.auto_rollback),
        ("mark_bad", "--mark-bad", Truth, &args.mark_bad),
        ("force", "--force", Text, &args.force),
        ("patience", "--patience", Number, &args.patience),
        ("health_check_path", "--health-check-path", Text, &args.health_check_path),
        ("health_check_port", "--health-check-port", Number, &args.health_check_port),
        ("health_check_timeout", "--health-check-timeout", Number, &args.health_check_timeout),
        ("analyse.min_requests", "--min-requests", Number, &args.min_requests),
        ("analyse.max_odds", "--max-odds", Number, &args.max_odds),
        ("analyse.alpha", "--alpha", Number, &args.alpha),
        ("analyse.on_fail", "--on-fail", Text, &args.on_fail),
        ("analyse.on_inconclusive", "--on-inconclusive", Text, &args.on_inconclusive),
        ("pre_hook", "--pre-hook", Command, &args.pre_hook),
        ("post_hook", "--post-hook", Command, &args.post_hook),
        ("rollback_hook", "--rollback-hook", Command, &args.rollback_hook),
        ("project", "--project", Text, &args.project),
        ("stage", "--stage", Text, &args.stage),
        ("commit", "--commit", Text, &args.commit),
        ("cpu", "--cpu", Text, &args.cpu),
        ("memory", "--memory", Text, &args.memory),
        ("cloud_provider", "--cloud-provider", Text, &args.cloud_provider),
        ("traffic_router", "--traffic-router", Text, &args.traffic_router),
        ("metrics_endpoint", "--metrics-endpoint", Text, &args.metrics_endpoint),
    ]
}

/// Options that may be given several times.
fn repeated(args: &DocumentArgs) -> [(&'static str, &'static str, Form, &[String]); 6] {
    [
        ("endpoints", "--endpoint", Form::Text, &args.endpoints),
        ("variant", "--variant", Form::Text, &args.variants),
        ("test_hook", "--test-hook", Form::Command, &args.test_hooks),
        ("fingerprint", "--fingerprint", Form::Text, &args.fingerprints),
        ("env", "--env", Form::Text, &args.environment),
        ("volume", "--volume", Form::Text, &args.volumes),
    ]
}

/// The document that the options describe.
///
/// # Errors
/// All that cannot be put into one, a line each.
pub(crate) fn document(args: &DocumentArgs, name: Name) -> Result<Value, Vec<String>> {
    let mut document = Map::new();
    let mut problems = Vec::new();
    for (key, option, form, text) in single(args, name) {
        match text.as_deref().map(|text| value(form, text)) {
            None => {}
            Some(Ok(value)) => put(&mut document, key, value),
            Some(Err(why)) => problems.push(format!("{option}: {why}")),
        }
    }
    for (key, option, form, texts) in repeated(args) {
        let values: Result<Vec<_>, _> = texts.iter().map(|text| value(form, text)).collect();
        match values {
            Ok(values) if values.is_empty() => {}
            Ok(values) => put(&mut document, key, Value::Array(values)),
            Err(why) => problems.push(format!("{option}: {why}")),
        }
    }
    match pairs(args.labels.iter().map(String::as_str)) {
        Ok(labels) if labels.is_empty() => {}
        Ok(labels) => put(&mut document, "labels", Value::Object(labels)),
        Err(why) => problems.push(format!("--label: {why}")),
    }
    if args.supersede {
        put(&mut document, "supersede", true.into());
    }
    if problems.is_empty() { Ok(Value::Object(document)) } else { Err(problems) }
}

/// The options that are given.
pub(crate) fn given(args: &DocumentArgs) -> Vec<&'static str> {
    let single = single(args, Name::OfDeployment).into_iter().filter(|(.., text)| text.is_some()).map(|(_, it, ..)| it);
    let repeated = repeated(args).into_iter().filter(|(.., texts)| !texts.is_empty()).map(|(_, it, ..)| it);
    let others = [("--label", !args.labels.is_empty()), ("--supersede", args.supersede)];
    single.chain(repeated).chain(others.into_iter().filter_map(|(option, given)| given.then_some(option))).collect()
}

fn put(document: &mut Map<String, Value>, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(document.insert(key.to_owned(), value)),
        Some((table, key)) => {
            let inner = document.entry(table).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                inner.insert(key.to_owned(), value);
            }
        }
    }
}

fn value(form: Form, text: &str) -> Result<Value, String> {
    Ok(match form {
        Form::Text => text.into(),
        Form::Number => number(text),
        Form::Percent => number(text.strip_suffix('%').unwrap_or(text)),
        Form::Truth => text.parse::<bool>().map_or_else(|_| text.into(), Value::Bool),
        Form::Command if text.starts_with('[') => serde_json::from_str::<Vec<String>>(text)
            .map(Value::from)
            .map_err(|_| "this is not a JSON list of texts, as in '[\"run-tests\", \"--fast\"]'".to_owned())?,
        Form::Command => text.into(),
        Form::Table => Value::Object(pairs(text.split(','))?),
        Form::List => text.split(',').map(|part| Value::from(part.trim())).collect(),
    })
}

/// A number if it is one; any other text stays one.
fn number(text: &str) -> Value {
    let whole = text.parse::<i64>().ok().map(Value::from);
    // Only plain decimals: `f64` would also take `inf`, `1e1` and `nan`.
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let decimal = || text.parse::<f64>().ok().filter(|_| plain).map(Value::from);
    whole.or_else(decimal).unwrap_or_else(|| text.into())
}

fn pairs<'a>(texts: impl Iterator<Item = &'a str>) -> Result<Map<String, Value>, String> {
    let mut pairs = Map::new();
    for text in texts {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("{text:?} is not KEY=VALUE"))?;
        if pairs.insert(key.trim().to_owned(), value.into()).is_some() {
            return Err(format!("{:?} is given twice", key.trim()));
        }
    }
    Ok(pairs)
}

/// The option that a place of the document came from: `--interval` for `interval`, `--variant (2)` for `variant[1]`.
pub(crate) fn option_of(path: &str, args: &DocumentArgs, name: Name) -> Option<String> {
    let singles = single(args, name);
    let key = |path: &str| path.replace('-', "_");
    // The engine knows one word for the service, also when the option was another.
    if path == "service" && name == Name::OfDeployment && args.service.is_none() {
        return Some("--app-name".to_owned());
    }
    if let Some((_, option, ..)) = singles.iter().find(|(known, ..)| *known == key(path)) {
        return Some((*option).to_owned());
    }
    let (head, rest) = path.split_at(path.find(['.', '[']).unwrap_or(path.len()));
    let repeated = repeated(args);
    let option = singles.iter().map(|(key, option, ..)| (*key, *option));
    let option = option.chain(repeated.iter().map(|(key, option, ..)| (*key, *option)));
    let mut option = option.chain([("labels", "--label"), ("supersede", "--supersede")]);
    let (_, option) = option.find(|(known, _)| *known == key(head))?;
    let number = rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).and_then(|at| at.parse::<usize>().ok());
    Some(match (number, rest.strip_prefix('.')) {
        (Some(at), _) => format!("{option} ({})", at + 1),
        (None, Some(inner)) => format!("{option} ({inner})"),
        (None, None) => option.to_owned(),
    })
}

#[cfg(test)]
#[path = "document_tests.rs"]
mod tests;
