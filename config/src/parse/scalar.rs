//! Single values: durations, sizes, percentages, names of HTTP things. Each is written in one way, and says which.

use std::{path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue, Method, uri::PathAndQuery};
use regex::Regex;
use toml::de::DeValue;

use super::read::{Node, Table, quoted};
use crate::{SecretSource, Weight};

/// Longest duration: far beyond any use, and far below what overflows when it is added to a moment.
const MAX_DURATION: Duration = Duration::from_secs(3650 * 86_400);
/// Units of durations in milliseconds, longest first.
pub(crate) const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
/// Units of sizes in bytes.
const SIZE_UNITS: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// A duration with a unit, zero allowed.
pub(super) fn duration(node: Node<'_>) -> Option<Duration> {
    if let DeValue::Integer(number) = node.value() {
        return node.refuse(format!("{number} has no unit: write \"{number}s\" or another of d, h, m, s, ms"));
    }
    let text = node.text_like("a duration such as \"5s\"")?;
    parse_duration(text).map_or_else(|why| node.refuse(why), Some)
}

/// Reads a duration with a unit: a whole number and one of d, h, m, s, ms.
///
/// # Errors
/// Why it is none, and what to write.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = |why: &str| {
        Err(format!("{} is not a duration: {why}; write a whole number and one of d, h, m, s, ms", quoted(text)))
    };
    let Some((number, unit)) = number_and_unit(text) else { return bad("it does not begin with a whole number") };
    let Some((_, millis)) = DURATION_UNITS.iter().find(|(name, _)| *name == unit) else {
        return bad(if unit.is_empty() { "the unit is missing" } else { "the unit is unknown" });
    };
    match number.checked_mul(*millis).map(Duration::from_millis) {
        Some(duration) if duration <= MAX_DURATION => Ok(duration),
        _ => Err(format!("{} is too long: write at most \"3650d\"", quoted(text))),
    }
}

/// A duration with a unit, longer than zero.
pub(super) fn some_duration(node: Node<'_>) -> Option<Duration> {
    match duration(node)? {
        Duration::ZERO => node.refuse("a duration of zero would never let anything pass: write a longer one"),
        duration => Some(duration),
    }
}

/// A whole number, and what follows it.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    // Too many digits for the type are too many for any use: the caller finds the largest number too large.
    (digits > 0).then(|| (number.parse().unwrap_or(u64::MAX), unit))
}

/// `true` or `false`.
pub(super) fn truth(node: Node<'_>) -> Option<bool> {
    match node.value() {
        DeValue::Boolean(truth) => Some(*truth),
        _ => node.mistyped("true or false"),
    }
}

/// A number of bytes: whole, or a text with a unit.
pub(super) fn size(node: Node<'_>, most: u64) -> Option<u64> {
    let text = match node.value() {
        DeValue::Integer(_) => return node.integer(0..=most),
        _ => node.text_like("a number of bytes, or a size such as \"10MiB\"")?,
    };
    let units = "KiB, MiB, GiB, kB, MB, GB, B";
    let bad = || node.refuse(format!("{} is not a size: write a whole number and one of {units}", quoted(text)));
    let Some((number, unit)) = number_and_unit(text) else { return bad() };
    let Some((_, bytes)) = SIZE_UNITS.iter().find(|(name, _)| *name == unit.trim_start_matches(' ')) else {
        return bad();
    };
    match number.checked_mul(*bytes) {
        Some(size) if size <= most => Some(size),
        _ => node.refuse(format!("{} is more than {most} bytes", quoted(text))),
    }
}

/// A share in percent, with up to two decimals.
pub(super) fn percent(node: Node<'_>) -> Option<Weight> {
    let percent = node.number()?;
    if percent > 100.0 {
        return node.refuse(format!("{percent} % is more than 100 %"));
    }
    Weight::from_percent(percent).map_or_else(|why| node.refuse(format!("{percent} %: {why}")), Some)
}

/// A path in the file system.
pub(super) fn file(node: Node<'_>) -> Option<PathBuf> {
    match node.text()? {
        "" => node.refuse("the path is empty"),
        text if text.contains('\0') => node.refuse("a path cannot hold a NUL"),
        text => Some(text.into()),
    }
}

/// A text that is not empty.
pub(super) fn nonempty_text(node: Node<'_>) -> Option<String> {
    match node.text()? {
        "" => node.refuse("the text is empty"),
        text => Some(text.into()),
    }
}

/// A regular expression.
pub(super) fn regex(node: Node<'_>) -> Option<Regex> {
    node.parsed(|text| {
        Regex::new(text).map_err(|error| {
            // The error draws the pattern over several lines; its last line is the reason.
            let reason = error.to_string();
            let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ");
            format!("{} is not a regular expression: {reason}", quoted(text))
        })
    })
}

/// The name of a header, lower case.
pub(super) fn header_name(text: &str) -> Result<String, String> {
    HeaderName::from_bytes(text.as_bytes())
        .map(|name| name.as_str().to_owned())
        .map_err(|_| format!("{} is not the name of a header: use letters, digits and '-'", quoted(text)))
}

/// The value of a header. It may be a secret, so no message repeats it.
pub(super) fn header_value(node: Node<'_>) -> Option<String> {
    node.parsed(|text| match HeaderValue::from_str(text) {
        Ok(value) if value.to_str().is_ok() => Ok(text.to_owned()),
        _ => Err("the value of a header holds visible ASCII characters and spaces only"),
    })
}

/// The name of a cookie.
pub(super) fn cookie_name(text: &str) -> Result<String, String> {
    // A cookie's name is a token (RFC 6265, 4.1.1), and so is a method.
    match Method::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err(format!("{} is not the name of a cookie: use letters, digits, '-' and '_'", quoted(text))),
    }
}

/// A method, upper case.
pub(super) fn method(node: Node<'_>) -> Option<String> {
    node.parsed(|text| match Method::from_bytes(text.to_ascii_uppercase().as_bytes()) {
        Ok(method) => Ok(method.to_string()),
        Err(_) => Err(format!("{} is not a method: write one such as \"GET\"", quoted(text))),
    })
}

/// The path and query of a request that Tidegate sends.
pub(super) fn path_and_query(node: Node<'_>) -> Option<String> {
    node.parsed(|text| {
        let accepted =
            text.starts_with('/') && PathAndQuery::try_from(text).is_ok_and(|parsed| parsed.as_str() == text);
        if accepted {
            Ok(text.to_owned())
        } else {
            Err(format!(
                "{} is not a path: begin it with '/' and write other than plain characters as %XX",
                quoted(text)
            ))
        }
    })
}

/// Where a secret comes from.
pub(super) fn secret(node: Node<'_>) -> Option<SecretSource> {
    node.table(secret_keys)?
}

/// The keys `env` and `file` of a table, of which one must be there.
pub(super) fn secret_keys(t: &mut Table<'_>) -> Option<SecretSource> {
    let env = t.get("env", env_name);
    let file = t.get("file", file);
    match (t.has("env"), t.has("file")) {
        (true, true) => t.refuse("file", "the secret comes from env already: keep one of the two"),
        (false, false) => t.refuse("env", "missing: write env = \"NAME\", or file = \"PATH\""),
        _ => {}
    }
    env.map(SecretSource::Env).or(file.map(SecretSource::File))
}

/// The name of an environment variable. One who writes the secret itself here must not see it in a message.
fn env_name(node: Node<'_>) -> Option<String> {
    let text = node.text()?;
    let named = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if named {
        Some(text.into())
    } else {
        node.refuse("this is not the name of an environment variable: write its name, never the secret itself")
    }
}

/// A TOML value as JSON; `None` for what JSON has not (not-a-number, infinity).
pub(super) fn json(value: &DeValue<'_>) -> Option<serde_json::Value> {
    Some(match value {
        DeValue::String(text) => text.as_ref().into(),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).ok()?.into(),
        DeValue::Float(number) => serde_json::Number::from_f64(number.as_str().parse().ok()?)?.into(),
        DeValue::Boolean(truth) => (*truth).into(),
        DeValue::Datetime(moment) => moment.to_string().into(),
        DeValue::Array(items) => items.iter().map(|item| json(item.get_ref())).collect::<Option<Vec<_>>>()?.into(),
        DeValue::Table(table) => {
            let entries = table.iter().map(|(name, value)| Some((name.get_ref().to_string(), json(value.get_ref())?)));
            serde_json::Value::Object(entries.collect::<Option<_>>()?)
        }
    })
}
