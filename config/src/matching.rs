//! What a request is matched against: routes to a service, and rules to a target.

use std::{collections::BTreeMap, fmt};

use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::{FlagName, TargetId};

/// The host part of a route. Hosts are lower case, without port or trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RouteHost {
    /// `*`: every host.
    Any,
    /// `*.example.com`: holds `.example.com`; matches one or more labels before it.
    Suffix(String),
    /// Exactly this host.
    Exact(String),
}

impl fmt::Display for RouteHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Exact(host) => f.write_str(host),
        }
    }
}

/// A route: requests for this host and below this path belong to the service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RouteSpec {
    /// Which hosts.
    pub host: RouteHost,
    /// Path prefix, beginning with `/`, matched on segment borders; no trailing `/` but in `/` itself.
    pub path: String,
    /// Whether the prefix is taken off before the request is forwarded.
    pub strip: bool,
}

/// How one text (a header's, cookie's or query parameter's value) is matched.
#[derive(Debug, Clone)]
pub enum TextMatch {
    /// `"*"`: present, whatever its value.
    Present,
    /// Exactly this text, case-sensitive.
    Exact(String),
    /// Begins with this text.
    Prefix(String),
    /// Matches this regular expression somewhere (anchor it with `^` and `$`).
    Regex(Regex),
}

/// A condition on a flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagCondition {
    /// The flag.
    pub name: FlagName,
    /// The value it must have, as text; absent: the flag must be on.
    pub is: Option<String>,
}

impl PartialEq for TextMatch {
    /// Regular expressions are equal when their text is: two compilations of it match the same.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Present, Self::Present) => true,
            (Self::Exact(a), Self::Exact(b)) | (Self::Prefix(a), Self::Prefix(b)) => a == b,
            (Self::Regex(a), Self::Regex(b)) => a.as_str() == b.as_str(),
            (Self::Present | Self::Exact(_) | Self::Prefix(_) | Self::Regex(_), _) => false,
        }
    }
}

/// The condition of a rule: every part that is given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Match {
    /// Header name (lower case) to its value.
    pub headers: BTreeMap<String, TextMatch>,
    /// Cookie name to its value.
    pub cookies: BTreeMap<String, TextMatch>,
    /// Query parameter to its value.
    pub query: BTreeMap<String, TextMatch>,
    /// Any of these methods, upper case; empty: every method.
    pub methods: Vec<String>,
    /// Path prefix on segment borders.
    pub path: Option<String>,
    /// A flag.
    pub flag: Option<FlagCondition>,
}

/// A rule: a match that pins a request to a target. The first match wins.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleSpec {
    /// The condition.
    pub when: Match,
    /// The target.
    pub to: TargetId,
}
