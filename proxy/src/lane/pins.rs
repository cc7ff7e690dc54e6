//! Who may pin a request to a target: whoever knows an admin token or the service's own pin secret.
//!
//! Secrets are kept and compared as SHA-256 hashes, in constant time, so neither a dump nor a clock tells one.

use std::{collections::BTreeMap, fmt, sync::atomic::Ordering::Relaxed};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tidegate_config::{Secret, ServiceId};
use tidegate_core::{
    RequestHead, Snapshot,
    decide::{PIN_COOKIE, PIN_HEADER, find::find},
};

use super::cookies;

/// Authorises a pin; `Authorization: Bearer` does so too.
pub(crate) const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-tidegate-token");

#[derive(Clone, Copy)]
struct Key([u8; 32]);

impl Key {
    fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    fn is(self, other: Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// The secrets that authorise pins, hashed.
#[derive(Default)]
pub(crate) struct PinKeys {
    admin: Vec<Key>,
    services: BTreeMap<ServiceId, Key>,
}

impl fmt::Debug for PinKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinKeys").finish_non_exhaustive()
    }
}

/// The secret that came with a request's pin.
#[derive(Clone, Copy)]
struct Presented(Key);

impl PinKeys {
    /// The secrets of the tokens with the role admin, and those of services (`pin`).
    pub(crate) fn new<'a>(
        admin: impl IntoIterator<Item = &'a Secret>,
        services: impl IntoIterator<Item = (ServiceId, &'a Secret)>,
    ) -> Self {
        let key = |secret: &Secret| Key::of(secret.expose().as_bytes());
        Self {
            admin: admin.into_iter().map(key).collect(),
            services: services.into_iter().map(|(service, secret)| (service, key(secret))).collect(),
        }
    }

    /// Whether this secret may pin requests of every service.
    fn is_admin(&self, presented: Presented) -> bool {
        // Every key is compared, so that time does not tell which one was close.
        self.admin.iter().fold(false, |found, key| key.is(presented.0) | found)
    }

    /// Whether this secret may pin requests of this service.
    fn is_of(&self, presented: Presented, service: &ServiceId) -> bool {
        self.services.get(service).is_some_and(|key| key.is(presented.0))
    }
}

/// Whether a request may be pinned as it asks. An unauthorised pin is ignored, and counted for its service.
pub(super) fn authorised(
    keys: &ArcSwap<PinKeys>,
    snapshot: &Snapshot,
    head: &RequestHead<'_>,
    headers: &HeaderMap,
) -> bool {
    if !asks_for_pin(headers) {
        return false;
    }
    let keys = keys.load();
    let presented = presented(headers);
    if presented.is_some_and(|secret| keys.is_admin(secret)) {
        return true;
    }
    let Ok(way) = find(snapshot, head) else { return false };
    let Some(service) = snapshot.service(way.service) else { return false };
    let authorised = presented.is_some_and(|secret| keys.is_of(secret, &service.id));
    if !authorised {
        service.stats.pins_refused.fetch_add(1, Relaxed);
    }
    authorised
}

fn asks_for_pin(headers: &HeaderMap) -> bool {
    headers.contains_key(PIN_HEADER) || cookies::first(headers, PIN_COOKIE).is_some()
}

/// The secret that came with the pin; `None`: there is none.
fn presented(headers: &HeaderMap) -> Option<Presented> {
    if headers.contains_key(PIN_HEADER) {
        let token = headers.get(TOKEN_HEADER).map(http::HeaderValue::as_bytes);
        let secret = token.or_else(|| bearer(headers))?;
        return Some(Presented(Key::of(secret)));
    }
    let cookie = cookies::first(headers, PIN_COOKIE)?;
    let at = cookie.iter().position(|byte| *byte == b':')?;
    Some(Presented(Key::of(cookie.get(at + 1..)?)))
}

/// Whether `Authorization` was used to authorise the pin: then it is not for the endpoint.
pub(super) fn uses_authorization(headers: &HeaderMap) -> bool {
    headers.contains_key(PIN_HEADER) && !headers.contains_key(TOKEN_HEADER) && bearer(headers).is_some()
}

/// The secret of `Authorization: Bearer`.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, secret) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| secret.trim_ascii())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn check(pairs: &[(&'static str, &'static str)], admin: bool, web: bool) {
        let (ops, own) = (Secret::new("ops".into()), Secret::new("own".into()));
        let service = ServiceId::parse("web").unwrap();
        let keys = PinKeys::new([&ops], [(service.clone(), &own)]);
        let presented = presented(&headers(pairs));
        assert_eq!(presented.is_some_and(|secret| keys.is_admin(secret)), admin, "{pairs:?}");
        assert_eq!(presented.is_some_and(|secret| keys.is_of(secret, &service)), web, "{pairs:?}");
        let other = ServiceId::parse("other").unwrap();
        assert!(!presented.is_some_and(|secret| keys.is_of(secret, &other)), "{pairs:?}");
    }

    #[test]
    fn only_the_right_secret_authorises_a_pin() {
        check(&[("x-tidegate-target", "v2"), ("x-tidegate-token", "ops")], true, false);
        check(&[("x-tidegate-target", "v2"), ("x-tidegate-token", "own")], false, true);
        check(&[("x-tidegate-target", "v2"), ("authorization", "Bearer ops")], true, false);
        check(&[("x-tidegate-target", "v2"), ("authorization", "bearer own")], false, true);
        check(&[("cookie", "a=b; tidegate-target=v2:ops")], true, false);
        check(&[("cookie", "tidegate-target=v2:own")], false, true);
        check(&[("x-tidegate-target", "v2"), ("x-tidegate-token", "OPS")], false, false);
        check(&[("x-tidegate-target", "v2"), ("x-tidegate-token", "")], false, false);
        check(&[("x-tidegate-target", "v2"), ("authorization", "Basic ops")], false, false);
        check(&[("x-tidegate-target", "v2")], false, false);
        check(&[("cookie", "tidegate-target=v2")], false, false);
    }

    #[test]
    fn secrets_are_in_no_debug_output() {
        let keys = PinKeys::new([&Secret::new("ops".into())], []);
        assert_eq!(format!("{keys:?}"), "PinKeys { .. }");
    }
}
