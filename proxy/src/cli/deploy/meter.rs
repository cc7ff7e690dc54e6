//! How far a deployment is, on stderr: a bar where that is a terminal, a line for each change elsewhere.

use std::{io, io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tidegate_admin::dto::StatusView;

use crate::cli::{
    error::Format,
    output::{self, printable},
};

/// Time between two drawings while nothing changes: the clock goes on.
const TICK: Duration = Duration::from_millis(200);

/// Shows progress.
pub(super) enum Meter {
    /// Programs that read JSON are told nothing in between.
    Silent,
    /// A line for each change, and what was said last.
    Lines(String),
    /// A bar.
    Bar(ProgressBar),
}

impl Meter {
    /// The meter that fits stderr.
    pub(super) fn new(format: Format) -> Self {
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        match format {
            _ if io::stderr().is_terminal() && !dumb => Self::Bar(bar(ProgressDrawTarget::stderr())),
            Format::Text => Self::Lines(String::new()),
            Format::Json => Self::Silent,
        }
    }

    /// Shows how far it is.
    pub(super) fn show(&mut self, status: &StatusView) {
        match self {
            Self::Silent => {}
            Self::Lines(_) => self.say(&line(status)),
            Self::Bar(bar) => {
                bar.set_position(status.progress.into());
                bar.set_message(printable(&status.details));
            }
        }
    }

    /// Says something, unless it was said last.
    pub(super) fn say(&mut self, text: &str) {
        match self {
            Self::Silent => {}
            Self::Lines(last) if last == text => {}
            Self::Lines(last) => {
                text.clone_into(last);
                output::note(&format!("{text}\n"));
            }
            Self::Bar(bar) => bar.set_message(printable(text)),
        }
    }

    /// Takes the bar away: what it showed is in the result.
    pub(super) fn done(self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn line(status: &StatusView) -> String {
    format!("{:>3} %  {}", status.progress, printable(&status.details))
}

fn bar(target: ProgressDrawTarget) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(100), target);
    // The template is checked by a test; a plain bar is no reason to fail.
    if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.enable_steady_tick(TICK);
    bar
}

const TEMPLATE: &str = "[{bar:30}] {pos:>3} %  {elapsed}  {wide_msg}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_can_be_drawn() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
        let bar = bar(ProgressDrawTarget::hidden());
        assert_eq!(bar.length(), Some(100));
    }
}
