//! Mirrors come and go.

use tidegate_config::{MirrorId, MirrorSpec, ServiceId};

use super::{ChangeError, Edited, traffic::must_exist};
use crate::{event::Event, state::ServiceState};

/// Mirrors that a service may have: a request marks those that copy it in 32 bits.
pub(crate) const MAX_MIRRORS: usize = 32;

/// Adds or replaces a mirror.
pub(super) fn put(id: &ServiceId, service: &mut ServiceState, mirror: &MirrorId, spec: &MirrorSpec) -> Edited {
    must_exist(id, service, &spec.to, "to")?;
    if service.wanted.mirrors.len() >= MAX_MIRRORS && !service.wanted.mirrors.contains_key(mirror) {
        return Err(ChangeError::Conflict(format!(
            "service {id} has {MAX_MIRRORS} mirrors, and cannot have more: remove one first"
        )));
    }
    if service.wanted.mirrors.insert(mirror.clone(), spec.clone()).as_ref() == Some(spec) {
        return Ok(Vec::new());
    }
    Ok(vec![Event::MirrorChanged { service: id.clone(), mirror: mirror.clone() }])
}

/// Removes a mirror.
pub(super) fn remove(id: &ServiceId, service: &mut ServiceState, mirror: &MirrorId) -> Edited {
    if service.wanted.mirrors.remove(mirror).is_none() {
        return Err(ChangeError::Unknown { service: id.clone(), kind: "mirror", name: mirror.to_string() });
    }
    Ok(vec![Event::MirrorRemoved { service: id.clone(), mirror: mirror.clone() }])
}
