//! Where one WebSocket frame to the client ends, so that a Close frame can follow it (RFC 6455, 5.2 and 5.5.1).
//!
//! Only lengths are read. What is not WebSocket is never at a border, and gets no Close frame.

/// Close, status 1001: going away. A server's frames are not masked.
pub(super) const CLOSE_GOING_AWAY: [u8; 4] = [0x88, 0x02, 0x03, 0xE9];

/// Follows the bytes that are written to the client.
#[derive(Debug)]
pub(super) struct FrameTracker(State);

#[derive(Debug, Clone, Copy)]
enum State {
    /// In the head of the 101 answer; this many bytes of the empty line have been seen.
    Head(u8),
    /// Before a frame.
    Border,
    /// After the first byte of a frame.
    Length,
    /// In the extended length and the mask: bytes still to come, the length so far, and whether a mask follows.
    Extended { left: u8, length: u64, mask: u8 },
    /// In the mask or payload: bytes still to come.
    Payload(u64),
}

impl Default for FrameTracker {
    fn default() -> Self {
        Self(State::Head(0))
    }
}

impl FrameTracker {
    /// Whether a frame may begin here.
    pub(super) fn at_border(&self) -> bool {
        matches!(self.0, State::Border)
    }

    /// These bytes were written.
    pub(super) fn written(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            if let State::Payload(left) = self.0 {
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
                bytes = bytes.get(taken..).unwrap_or_default();
                self.0 = after(left - taken as u64);
                continue;
            }
            self.0 = self.next(byte);
            bytes = rest;
        }
    }

    fn next(&self, byte: u8) -> State {
        match self.0 {
            State::Head(seen) => match (seen, byte) {
                (0 | 2, b'\r') | (1, b'\n') => State::Head(seen + 1),
                (3, b'\n') => State::Border,
                (_, b'\r') => State::Head(1),
                _ => State::Head(0),
            },
            State::Border => State::Length,
            State::Length => {
                let mask = if byte & 0x80 == 0 { 0 } else { 4 };
                match byte & 0x7F {
                    126 => State::Extended { left: 2, length: 0, mask },
                    127 => State::Extended { left: 8, length: 0, mask },
                    length => after(u64::from(length) + u64::from(mask)),
                }
            }
            State::Extended { left, length, mask } => {
                let length = length << 8 | u64::from(byte);
                if left > 1 {
                    State::Extended { left: left - 1, length, mask }
                } else {
                    after(length.saturating_add(u64::from(mask)))
                }
            }
            State::Payload(left) => after(left.saturating_sub(1)),
        }
    }
}

fn after(left: u64) -> State {
    if left == 0 { State::Border } else { State::Payload(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> Vec<u8> {
        let mut bytes = vec![0x82];
        match length {
            0..=125 => bytes.push(length as u8),
            126..=65_535 => {
                bytes.push(126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.resize(bytes.len() + length, 0xFF);
        bytes
    }

    #[test]
    fn only_the_end_of_a_frame_is_a_border() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
            let mut tracker = FrameTracker::default();
            tracker.written(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
            assert!(tracker.at_border());
            let bytes = frame(length);
            for (at, byte) in bytes.iter().enumerate() {
                tracker.written(&[*byte]);
                assert_eq!(tracker.at_border(), at + 1 == bytes.len(), "length {length}, byte {at}");
            }
            tracker.written(&bytes);
            assert!(tracker.at_border(), "length {length} at once");
        }
    }

    #[test]
    fn a_head_that_has_not_ended_is_no_border() {
        let mut tracker = FrameTracker::default();
        tracker.written(b"HTTP/1.1 101 Switching\r\n\r");
        assert!(!tracker.at_border());
        tracker.written(b"\n");
        assert!(tracker.at_border());
    }
}
