//! The only place that writes to stdout and stderr: results to stdout, everything else to stderr.
//!
//! A reader that went away (`| head`) ends the verb quietly; it is not an error and never a panic.

use std::io::{self, IsTerminal, Write};

/// Writes a result to stdout.
///
/// # Errors
/// When it cannot be written; [`io::ErrorKind::BrokenPipe`] when nobody reads any more.
pub(crate) fn result(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Writes a message for people to stderr. Nothing can be done when that fails, so nothing is.
pub(crate) fn note(text: &str) {
    let mut err = io::stderr().lock();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Asks on stderr and reads one line from stdin. Anything but `y` or `yes` means no.
pub(crate) fn confirm(question: &str) -> bool {
    note(&format!("{question} [y/N] "));
    let mut line = String::new();
    io::stdin().read_line(&mut line).is_ok() && means_yes(&line)
}

/// Whether somebody can be asked: both ends of the dialogue are a terminal.
pub(crate) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

fn means_yes(line: &str) -> bool {
    matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Whether text may carry colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colours {
    /// It may.
    On,
    /// It must not.
    Off,
}

/// What stdout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Screen {
    /// A terminal: it can be drawn over.
    Terminal,
    /// A file or a pipe.
    Plain,
}

impl Screen {
    /// What stdout is now.
    pub(crate) fn of_stdout() -> Self {
        if io::stdout().is_terminal() { Self::Terminal } else { Self::Plain }
    }

    /// Colours are for terminals only, and not where `NO_COLOR` (no-color.org) or `TERM=dumb` says otherwise.
    pub(crate) fn colours(self) -> Colours {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        if self == Self::Terminal && !refused { Colours::On } else { Colours::Off }
    }
}

/// What a piece of text says, which gives it its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Ink {
    /// Nothing special.
    #[default]
    Plain,
    /// A heading.
    Strong,
    /// Less important.
    Dim,
    /// As it should be.
    Good,
    /// Worth a look.
    Warn,
    /// Something must be done.
    Bad,
}

impl Ink {
    /// The text in this colour.
    pub(crate) fn paint(self, text: &str, colours: Colours) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Strong => 1,
            Self::Dim => 2,
            Self::Good => 32,
            Self::Warn => 33,
            Self::Bad => 31,
        };
        match colours {
            Colours::Off => text.to_owned(),
            Colours::On => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }
}

/// Takes control characters out of text that came from elsewhere, so that it cannot move the cursor or fake a line.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_y_and_yes_mean_yes() {
        for (line, yes) in
            [("y\n", true), (" YES \n", true), ("\n", false), ("", false), ("n\n", false), ("yep\n", false)]
        {
            assert_eq!(means_yes(line), yes, "{line:?}");
        }
    }

    #[test]
    fn a_plain_screen_has_no_colours() {
        assert_eq!(Screen::Plain.colours(), Colours::Off);
        assert_eq!(Ink::Bad.paint("down", Colours::Off), "down");
        assert_eq!(Ink::Bad.paint("down", Colours::On), "\x1b[31mdown\x1b[0m");
    }

    #[test]
    fn foreign_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\u{fffd}c");
    }
}
