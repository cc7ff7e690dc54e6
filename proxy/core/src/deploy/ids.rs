//! The name of a deployment: given from outside, because it holds a random part.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// What every name begins with, so that none is taken for a word of a path.
const PREFIX: &str = "dep-";
/// Longest name in bytes.
const MAX: usize = 64;

/// Names one deployment, `dep-` and letters or digits that never come twice.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeploymentId(Arc<str>);

/// Why a text is not the name of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a deployment: its name begins with dep- and holds letters and digits")]
pub struct DeploymentIdError(String);

impl DeploymentId {
    /// Parses a name.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, DeploymentIdError> {
        let rest = text.strip_prefix(PREFIX).unwrap_or_default();
        let named = !rest.is_empty() && text.len() <= MAX && rest.bytes().all(|b| b.is_ascii_alphanumeric());
        if named { Ok(Self(text.into())) } else { Err(DeploymentIdError(text.chars().take(MAX).collect())) }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for DeploymentId {
    type Error = DeploymentIdError;
    fn try_from(text: String) -> Result<Self, DeploymentIdError> {
        Self::parse(&text)
    }
}

impl From<DeploymentId> for String {
    fn from(id: DeploymentId) -> Self {
        id.0.as_ref().into()
    }
}

impl fmt::Display for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeploymentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
