//! Where a request's head ends. Looks at every byte once, however slowly it comes.
//!
//! Finds the end exactly where `httparse` finds it or fails: at the first empty line, with CRLF or a bare LF.

use tidegate_config::Limits;

/// What is known of a head so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    Partial,
    /// It ends after this many bytes.
    Complete(usize),
    /// It has more bytes or fields than the limits allow.
    TooLarge,
}

/// Follows a head while it grows in a buffer that only grows at its end.
#[derive(Debug, Default)]
pub(super) struct HeadScanner {
    scanned: usize,
    line_start: usize,
    lines: usize,
}

impl HeadScanner {
    /// Whether it has seen nothing yet.
    pub(super) fn is_fresh(&self) -> bool {
        self.scanned == 0
    }

    /// Looks at what has been added to `buffer`, which begins at the head's first byte.
    pub(super) fn scan(&mut self, buffer: &[u8], limits: &Limits) -> Progress {
        while let Some(at) = position(buffer, self.scanned, b'\n') {
            let line = buffer.get(self.line_start..at).unwrap_or_default();
            self.scanned = at + 1;
            self.line_start = at + 1;
            if matches!(line, b"" | b"\r") {
                return if at < limits.header_bytes { Progress::Complete(at + 1) } else { Progress::TooLarge };
            }
            self.lines += 1;
            // The first line is the request line.
            if self.lines > limits.header_fields.saturating_add(1) {
                return Progress::TooLarge;
            }
        }
        self.scanned = buffer.len();
        if buffer.len() >= limits.header_bytes { Progress::TooLarge } else { Progress::Partial }
    }
}

fn position(buffer: &[u8], from: usize, byte: u8) -> Option<usize> {
    Some(from + buffer.get(from..)?.iter().position(|b| *b == byte)?)
}

/// How many bytes of empty lines stand before a head: RFC 9112, 2.2, asks servers to skip at least one.
pub(super) fn leading_empty_lines(buffer: &[u8]) -> usize {
    buffer.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn limits(header_bytes: usize, header_fields: usize) -> Limits {
        Limits {
            header_bytes,
            header_fields,
            header_timeout: Duration::from_secs(10),
            body_min_rate: 0,
            connections: 1,
            connections_per_client: 1,
        }
    }

    /// The same bytes at once and byte by byte must give the same verdict.
    fn check(text: &str, header_bytes: usize, fields: usize, expected: Progress) {
        let limits = limits(header_bytes, fields);
        assert_eq!(HeadScanner::default().scan(text.as_bytes(), &limits), expected, "{text:?} at once");
        let mut scanner = HeadScanner::default();
        let mut last = Progress::Partial;
        for end in 1..=text.len() {
            last = scanner.scan(&text.as_bytes()[..end], &limits);
            if last != Progress::Partial {
                break;
            }
        }
        assert_eq!(last, expected, "{text:?} byte by byte");
    }

    #[test]
    fn a_head_ends_at_its_first_empty_line() {
        check("GET / HTTP/1.1\r\nHost: a\r\n\r\nbody", 100, 10, Progress::Complete(27));
        check("GET / HTTP/1.1\nHost: a\n\nbody", 100, 10, Progress::Complete(24));
        check("GET / HTTP/1.1\r\nHost: a\n\r\n", 100, 10, Progress::Complete(26));
        check("GET / HTTP/1.1\r\nHost: a\r\n\r", 100, 10, Progress::Partial);
    }

    #[test]
    fn a_head_over_a_limit_is_too_large() {
        check("GET / HTTP/1.1\r\na: 1\r\nb: 2\r\n\r\n", 100, 2, Progress::Complete(30));
        check("GET / HTTP/1.1\r\na: 1\r\nb: 2\r\n\r\n", 100, 1, Progress::TooLarge);
        check("GET / HTTP/1.1\r\na: 1\r\nb: 2\r\n\r\n", 30, 2, Progress::Complete(30));
        check("GET / HTTP/1.1\r\na: 1\r\nb: 2\r\n\r\n", 29, 2, Progress::TooLarge);
        check(&"x".repeat(50), 40, 2, Progress::TooLarge);
    }

    #[test]
    fn empty_lines_before_a_head_are_counted() {
        assert_eq!(leading_empty_lines(b"\r\n\r\nGET"), 4);
        assert_eq!(leading_empty_lines(b"GET"), 0);
    }
}
