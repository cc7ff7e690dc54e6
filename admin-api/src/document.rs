//! Documents whose schema the core reads: JSON or TOML, as the content-type says. A key that occurs twice is refused,
//! because one of its values would silently be lost.

use std::{collections::BTreeMap, fmt};

use axum::extract::{FromRequest, Request};
use http::header;
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};
use tidegate_core::deploy::spec::{SpecProblem, Value};

use crate::{
    input,
    problem::{Problem, ProblemPart},
};

/// A document in the body.
pub(crate) struct Document(pub(crate) Value);

/// A value in which no key occurs twice.
struct Strict(Value);

impl<S: Send + Sync> FromRequest<S> for Document {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let toml = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|text| is_toml(text.split(';').next().unwrap_or_default().trim()));
        let body = if toml { input::read_any(request).await? } else { input::read(request).await? };
        let Strict(value) = match (body.is_empty(), toml) {
            (true, _) => {
                let message =
                    "the body is empty: send a deployment as JSON, or as TOML with content-type application/toml";
                return Err(Problem::malformed(vec![ProblemPart::new("", message)]));
            }
            (false, true) => from_toml(&body)?,
            (false, false) => input::parse(&body)?,
        };
        Ok(Self(value))
    }
}

fn is_toml(essence: &str) -> bool {
    ["application/toml", "application/x-toml", "text/toml", "text/x-toml"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known))
}

fn from_toml(body: &[u8]) -> Result<Strict, Problem> {
    let malformed = |message: String| Problem::malformed(vec![ProblemPart::new("", message)]);
    let text = std::str::from_utf8(body).map_err(|_| malformed("the body is not UTF-8".into()))?;
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count() + 1);
        let place = line.map_or_else(String::new, |line| format!(" in line {line}"));
        malformed(format!("the body is not TOML{place}: {}", error.message()))
    })
}

/// Takes a key out that says yes or no.
pub(crate) fn take_flag(document: &mut Value, key: &str) -> Result<bool, Problem> {
    let Value::Table(entries) = document else { return Ok(false) };
    match entries.remove(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(Problem::invalid(vec![ProblemPart::new(key, "expected true or false")])),
    }
}

/// Says a key that the caller said in another way. A document that says something else contradicts it.
pub(crate) fn set_text(document: &mut Value, key: &str, text: &str) -> Result<(), Problem> {
    let Value::Table(entries) = document else { return Ok(()) };
    match entries.insert(key.into(), Value::Text(text.into())) {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Text(same)) if same == text => Ok(()),
        Some(_) => Err(Problem::invalid(vec![ProblemPart::new(key, format!("it is {text:?} here: leave it out"))])),
    }
}

/// Gives a key its usual name.
pub(crate) fn rename(document: &mut Value, from: &str, to: &str) -> Result<(), Problem> {
    let Value::Table(entries) = document else { return Ok(()) };
    let Some(value) = entries.remove(from) else { return Ok(()) };
    if entries.insert(to.into(), value).is_some() {
        return Err(Problem::invalid(vec![ProblemPart::new(from, format!("the same as {to}: keep one of the two"))]));
    }
    Ok(())
}

/// Says the strategy where the document does not.
pub(crate) fn set_strategy(document: &mut Value, strategy: &str) {
    if let Value::Table(entries) = document {
        entries.entry("strategy".into()).or_insert_with(|| Value::Text(strategy.into()));
    }
}

/// What is wrong with a document, as a problem.
pub(crate) fn problems(problems: Vec<SpecProblem>) -> Problem {
    Problem::invalid(problems.into_iter().map(|problem| ProblemPart::new(problem.path, problem.message)).collect())
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;

        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
                Ok(Value::Bool(value))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
                Ok(Value::Int(value))
            }

            // A number beyond any bound of the schema keeps its size, if not its last digits.
            fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
                Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Int))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
                Ok(Value::Float(value))
            }

            fn visit_str<E>(self, value: &str) -> Result<Value, E> {
                Ok(Value::Text(value.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(Strict(value)) = seq.next_element()? {
                    list.push(value);
                }
                Ok(Value::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
                let mut table = BTreeMap::new();
                while let Some((key, Strict(value))) = map.next_entry::<String, Strict>()? {
                    if table.contains_key(&key) {
                        return Err(A::Error::custom(format!("{key:?} is written twice")));
                    }
                    table.insert(key, value);
                }
                Ok(Value::Table(table))
            }
        }

        deserializer.deserialize_any(Any).map(Self)
    }
}
