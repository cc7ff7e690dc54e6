//! Versions under test: by which names they are reached before their release. By no other: until then they are sealed,
//! and requests that do not ask for a preview never go there, whatever fails.
//!
//! A preview is reached on listeners that offer a domain, by the host `<service>.<label>.<domain>` or by the header
//! `X-Tidegate-Bracket: <label>`. The label is the name of a bracket or of a deployment.

use std::{
    borrow::Borrow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use http::HeaderName;
use serde::{Deserialize, Serialize};
use tidegate_config::{ServiceId, TargetId};

use crate::{
    host::{self, HOST_BUFFER},
    request::Headers,
    snapshot::{ListenerIdx, ServiceIdx, Snapshot},
    state::ListenerOffer,
};

/// Header that asks for a preview where the host does not, and that tells an endpoint of one: it passes it on.
pub const BRACKET_HEADER: HeaderName = HeaderName::from_static("x-tidegate-bracket");

/// Longest label of a host (RFC 1035), and longest name of one.
const MAX_LABEL: usize = 63;
const MAX_HOST: usize = 253;

/// The previews there are.
pub type Previews = BTreeMap<Label, Preview>;

/// What a preview is called: one label of a host, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(Arc<str>);

/// Why a text is not a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be part of a host: use up to 63 letters, digits, '-' and '_'")]
pub struct BadLabel(String);

impl Label {
    /// The label for a name.
    ///
    /// # Errors
    /// When no host can hold it.
    pub fn new(name: &str) -> Result<Self, BadLabel> {
        if is_label(name) { Ok(Self(name.to_ascii_lowercase().into())) } else { Err(BadLabel(name.into())) }
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host by which a service is reached; `None`: its name cannot be part of one.
    pub fn host(&self, service: &ServiceId, domain: &str) -> Option<String> {
        let host = format!("{}.{self}.{domain}", service.as_str().to_ascii_lowercase());
        (host.len() <= MAX_HOST && host.split('.').all(is_label)).then_some(host)
    }
}

fn is_label(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=MAX_LABEL).contains(&text.len()) && text.bytes().all(inside)
}

impl TryFrom<String> for Label {
    type Error = BadLabel;
    fn try_from(text: String) -> Result<Self, BadLabel> {
        Self::new(&text)
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0.as_ref().into()
    }
}

impl Borrow<str> for Label {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a label leads to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Preview {
    /// The services whose new versions are under test. Every other one is reached as usual; when all were released,
    /// every one is: environments that were started with these hosts go on calling them.
    pub members: BTreeMap<ServiceId, UnderTest>,
}

/// A service's part in a preview.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnderTest {
    /// Where its new versions are; the first one answers.
    pub targets: Vec<TargetId>,
    /// Whether a new version takes the place of the old one.
    pub place: Place,
}

/// Where a new version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In a target of its own.
    Beside,
    /// In the old one's target: it can be told from the old one only while the service is held.
    InPlace,
}

/// The targets of a service that are under test beside others.
pub(crate) fn under_test(previews: &Previews, service: &ServiceId) -> BTreeSet<TargetId> {
    let parts = previews.values().filter_map(|preview| preview.members.get(service));
    parts.filter(|part| part.place == Place::Beside).flat_map(|part| part.targets.iter().cloned()).collect()
}

/// A request for a preview.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'s> {
    /// Its name.
    pub label: &'s Label,
    /// What it leads to.
    pub preview: &'s Preview,
    /// The service, if the host names one.
    pub service: Option<ServiceIdx>,
}

/// A request for a preview or a service that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nothing;

/// Whether a request asks for a preview, by its host in canonical form or by its header.
///
/// # Errors
/// [`Nothing`] when it does, but there is none: it must not go where it did not ask to go.
pub fn asked<'s>(
    snapshot: &'s Snapshot,
    offer: &ListenerOffer,
    host: &str,
    headers: &dyn Headers,
) -> Result<Option<Asked<'s>>, Nothing> {
    let Some(domain) = offer.preview.as_deref() else { return Ok(None) };
    let previews = &snapshot.state.previews;
    if let Some(names) = host.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')) {
        let (service, label) = names.rsplit_once('.').ok_or(Nothing)?;
        let (label, preview) = previews.get_key_value(label).ok_or(Nothing)?;
        let service = service_named(snapshot, service).ok_or(Nothing)?;
        return Ok(Some(Asked { label, preview, service: Some(service) }));
    }
    let Some(name) = headers.first(BRACKET_HEADER.as_str()) else { return Ok(None) };
    let mut previews = previews.iter();
    let (label, preview) =
        previews.find(|(label, _)| label.as_str().as_bytes().eq_ignore_ascii_case(name)).ok_or(Nothing)?;
    Ok(Some(Asked { label, preview, service: None }))
}

/// The preview that a request on this listener asks for, if it is there.
pub fn label_of<'s>(
    snapshot: &'s Snapshot,
    listener: ListenerIdx,
    host: &str,
    headers: &dyn Headers,
) -> Option<&'s Label> {
    let offer = snapshot.offer(listener).filter(|offer| offer.preview.is_some())?;
    let mut buffer = HOST_BUFFER;
    let host = host::canonical(host, &mut buffer).ok()?;
    Some(asked(snapshot, offer, host, headers).ok()??.label)
}

/// The service of this name, in whatever case: hosts know none.
fn service_named(snapshot: &Snapshot, name: &str) -> Option<ServiceIdx> {
    let services = &snapshot.services;
    let exact = services.binary_search_by(|service| service.id.as_str().cmp(name)).ok();
    let at = exact.or_else(|| services.iter().position(|service| service.id.as_str().eq_ignore_ascii_case(name)))?;
    u32::try_from(at).ok().map(ServiceIdx)
}

#[cfg(test)]
mod tests;
