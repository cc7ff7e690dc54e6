//! Names of things, one type each, so that a target can never be passed where a service is meant.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// Longest name in bytes: names become metric labels and header values.
pub const MAX_NAME: usize = 64;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdError {
    /// The name is empty.
    Empty,
    /// The name is longer than [`MAX_NAME`] bytes.
    TooLong,
    /// The first character, if it is neither letter nor digit.
    Beginning(char),
    /// The first character that a name may not hold.
    Character(char),
}

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a name must not be empty"),
            Self::TooLong => write!(f, "a name must not be longer than {MAX_NAME} bytes"),
            Self::Beginning(c) => write!(f, "a name must begin with a letter or digit, not with {c:?}"),
            Self::Character(c) => {
                write!(f, "a name must not contain {c:?}: use letters, digits, '-', '_' and '.'")
            }
        }
    }
}

impl std::error::Error for IdError {}

/// Whether a text is a name.
pub(crate) fn check(text: &str) -> Result<(), IdError> {
    if text.len() > MAX_NAME {
        return Err(IdError::TooLong);
    }
    let first = text.chars().next().ok_or(IdError::Empty)?;
    if !first.is_ascii_alphanumeric() {
        return Err(IdError::Beginning(first));
    }
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))) {
        Some(c) => Err(IdError::Character(c)),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name: 1 to 64 letters, digits, `-`, `_`, `.`, beginning with a letter or digit.
            pub fn parse(text: &str) -> Result<Self, IdError> {
                check(text).map(|()| Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(&text)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0.as_ref().into()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

id!(
    /// A service: a named thing that clients reach.
    ServiceId
);
id!(
    /// A target: one version or environment of a service.
    TargetId
);
id!(
    /// A mirror of a service.
    MirrorId
);
id!(
    /// A listener: an address that accepts client traffic.
    ListenerId
);
id!(
    /// A feature flag.
    FlagName
);
id!(
    /// A flag source: where values of flags are read.
    SourceId
);
id!(
    /// A command that has a name.
    HookId
);
id!(
    /// A stage that versions pass.
    StageId
);
id!(
    /// A bracket: services that are released together.
    BracketId
);
id!(
    /// Somebody who is told of events.
    SinkId
);
