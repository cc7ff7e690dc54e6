//! The copies of one request: begun once, fed with its body, ended when the body is complete.
//!
//! Nothing here waits or fails: a mirror that cannot keep up drops its copy and counts it.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use pingora_http::RequestHeader;
use tidegate_core::MirrorIdx;

use super::context::Route;
use crate::mirror::{BodyKind, Copy, Mirrors, PrimaryTap};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Copies {
    begun: bool,
    running: Vec<Copy>,
    taps: Vec<PrimaryTap>,
}

impl Copies {
    /// Begins the copies that the plan asks for. Later attempts only begin their bodies anew.
    pub(super) fn begin(
        &mut self,
        mirrors: &Mirrors,
        route: &Route,
        head: &RequestHeader,
        body: BodyKind,
        request_id: &HeaderValue,
    ) {
        if self.begun {
            self.running.iter_mut().for_each(Copy::restart);
            return;
        }
        self.begun = true;
        let request_id = request_id.to_str().unwrap_or_default();
        for position in (0..u32::BITS).filter(|position| route.forward.mirrors >> position & 1 == 1) {
            let mirror = MirrorIdx(position);
            let copy = mirrors.begin(&route.snapshot, route.forward.service, mirror, head, body, request_id);
            if let Some(mut copy) = copy {
                self.taps.extend(copy.take_tap());
                self.running.push(copy);
            }
        }
        if body == BodyKind::Empty {
            // pingora does not always say that an empty body is complete.
            self.end();
        }
    }

    /// The next chunk of the body.
    pub(super) fn feed(&mut self, chunk: &Bytes) {
        self.running.iter_mut().for_each(|copy| copy.feed(chunk));
    }

    /// The body is complete.
    pub(super) fn end(&mut self) {
        self.running.drain(..).for_each(Copy::end);
    }

    /// The head of the answer.
    pub(super) fn answer_head(&mut self, status: u16, headers: &HeaderMap) {
        self.taps.iter_mut().for_each(|tap| tap.head(status, headers));
    }

    /// The next chunk of the answer's body.
    pub(super) fn answer_body(&mut self, chunk: &Bytes) {
        self.taps.iter_mut().for_each(|tap| tap.body(chunk));
    }

    /// The answer is complete.
    pub(super) fn answer_end(&mut self, latency: Duration) {
        self.taps.drain(..).for_each(|tap| tap.end(latency));
    }
}
