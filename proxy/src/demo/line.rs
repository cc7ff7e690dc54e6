//! The demo's live status, in one line.

use std::fmt;

/// What the line says.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Line {
    /// The generation.
    pub(crate) generation: u64,
    /// The weights in percent, by target.
    pub(crate) split: Vec<(String, f64)>,
    /// Requests over the last second, by target.
    pub(crate) rates: Vec<(&'static str, u64)>,
    /// Copies that the shadow has got so far.
    pub(crate) copies: u64,
    /// A failover, while one is on: off which target, to which.
    pub(crate) failover: Option<(String, String)>,
    /// Requests of the generated traffic that failed so far.
    pub(crate) failed: u64,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "gen {}  split", self.generation)?;
        for (target, percent) in &self.split {
            write!(f, " {target}={percent}")?;
        }
        f.write_str(" ")?;
        for (target, rate) in &self.rates {
            write!(f, " {target} {rate}/s")?;
        }
        write!(f, "  shadow {} copies  failover ", self.copies)?;
        match &self.failover {
            None => f.write_str("off")?,
            Some((from, to)) => write!(f, "{from} -> {to}")?,
        }
        write!(f, "  failed {}", self.failed)
    }
}

/// Requests of each application at the last look.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    last: Vec<(&'static str, u64)>,
}

impl Rates {
    /// What was counted since the last look; nothing at the first.
    pub(crate) fn since_last(&mut self, now: impl Iterator<Item = (&'static str, u64)>) -> Vec<(&'static str, u64)> {
        let last = std::mem::replace(&mut self.last, now.collect());
        let before = |name| last.iter().find(|(other, _)| *other == name).map(|(_, count)| *count);
        self.last.iter().map(|(name, count)| (*name, count.saturating_sub(before(*name).unwrap_or(*count)))).collect()
    }
}

/// The text that draws events and the line over the line before. The terminal cuts what is too long for it, rather
/// than to wrap it, which could not be drawn over.
pub(crate) fn drawn_over(events: &str, line: &Line) -> String {
    format!("\r\x1b[2K{events}\x1b[?7l{line}\x1b[?7h")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_what_came_since_the_last_look() {
        let mut rates = Rates::default();
        assert_eq!(rates.since_last([("green", 100)].into_iter()), [("green", 0)]);
        assert_eq!(rates.since_last([("green", 120)].into_iter()), [("green", 20)]);
    }

    #[test]
    fn events_stay_above_the_line() {
        let drawn = drawn_over("blue is down\n", &Line::default());
        assert!(drawn.starts_with("\r\x1b[2Kblue is down\n") && !drawn.ends_with('\n'), "{drawn:?}");
    }

    #[test]
    fn the_line_says_who_answers() {
        let line = Line {
            generation: 7,
            split: vec![("blue".into(), 0.5), ("green".into(), 99.5)],
            rates: vec![("blue", 1), ("green", 19)],
            copies: 1234,
            failover: None,
            failed: 0,
        };
        assert_eq!(
            line.to_string(),
            "gen 7  split blue=0.5 green=99.5  blue 1/s green 19/s  shadow 1234 copies  failover off  failed 0"
        );
        let line = Line { failover: Some(("green".into(), "blue".into())), ..line };
        assert!(line.to_string().ends_with("failover green -> blue  failed 0"));
    }
}
