//! The requests that reach the goal of a test of variants.

use std::str::FromStr;

use http::Method;

use crate::deploy::spec::Goal;

/// What ends a path that stands for everything below it.
const ANYTHING: char = '*';
/// Statuses that mean success when a goal names none: a form that was taken often answers with a redirect.
const SUCCESS: Statuses = Statuses { first: 200, last: 399 };

/// A range of statuses: `2xx`, `201`, `200-399`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statuses {
    first: u16,
    last: u16,
}

/// A text that names no statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a status, a class or a range, as in 201, 2xx or 200-399")]
pub struct NoStatuses;

impl FromStr for Statuses {
    type Err = NoStatuses;

    fn from_str(text: &str) -> Result<Self, NoStatuses> {
        let code = |text: &str| text.parse().ok().filter(|code| (100..=599).contains(code)).ok_or(NoStatuses);
        let lower = text.to_ascii_lowercase();
        if let Some(class) = lower.strip_suffix("xx") {
            let first = code(&format!("{class}00"))?;
            return Ok(Self { first, last: first + 99 });
        }
        let (first, last) = lower.split_once('-').unwrap_or((&lower, &lower));
        let (first, last) = (code(first)?, code(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err(NoStatuses) }
    }
}

impl Statuses {
    /// Whether a status is one of them.
    pub fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

/// A goal, ready to be compared with requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoalMatch {
    name: String,
    method: Option<String>,
    path: Option<String>,
    statuses: Statuses,
    /// Whether requests can reach it by what they are; otherwise only headers of answers and reports count.
    by_request: bool,
}

impl GoalMatch {
    /// Of a goal whose statuses have been checked; others mean success.
    pub fn new(goal: &Goal) -> Self {
        Self {
            name: goal.name.clone(),
            method: goal.method.clone(),
            path: goal.path.clone(),
            statuses: goal.status.as_deref().and_then(|text| text.parse().ok()).unwrap_or(SUCCESS),
            by_request: goal.method.is_some() || goal.path.is_some() || goal.status.is_some(),
        }
    }

    /// Whether it has this name.
    pub fn is_named(&self, name: &[u8]) -> bool {
        self.name.as_bytes() == name
    }

    /// Whether a request for this path reaches it, if its answer is a success.
    pub fn fits(&self, method: &Method, path: &str) -> bool {
        let same_path = |wanted: &str| match wanted.strip_suffix(ANYTHING) {
            Some(begin) => path.starts_with(begin),
            None => path == wanted,
        };
        self.by_request
            && self.method.as_deref().is_none_or(|wanted| method.as_str().eq_ignore_ascii_case(wanted))
            && self.path.as_deref().is_none_or(same_path)
    }

    /// Whether this status is a success.
    pub fn is_success(&self, status: u16) -> bool {
        self.statuses.contains(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal(method: Option<&str>, path: Option<&str>, status: Option<&str>) -> GoalMatch {
        let text = |text: Option<&str>| text.map(str::to_owned);
        GoalMatch::new(&Goal { name: "buy".to_owned(), method: text(method), path: text(path), status: text(status) })
    }

    #[test]
    fn statuses_are_a_class_a_code_or_a_range() {
        for (text, inside, outside) in [("2xx", 204, 301), ("201", 201, 200), ("200-399", 303, 404), ("3XX", 302, 200)]
        {
            let statuses: Statuses = text.parse().unwrap();
            assert!(statuses.contains(inside) && !statuses.contains(outside), "{text}");
        }
        for text in ["", "xx", "ok", "600", "399-200", "20x", "2xx,3xx"] {
            assert_eq!(text.parse::<Statuses>(), Err(NoStatuses), "{text}");
        }
    }

    #[test]
    fn goal_is_reached_by_method_path_and_status_together() {
        let buy = goal(Some("POST"), Some("/checkout"), None);
        assert!(buy.fits(&Method::POST, "/checkout"));
        assert!(!buy.fits(&Method::GET, "/checkout") && !buy.fits(&Method::POST, "/checkout/2"));
        assert!(buy.is_success(303) && !buy.is_success(500) && !buy.is_success(404));
        assert!(goal(None, Some("/order/*"), None).fits(&Method::PUT, "/order/7"));
        assert!(goal(None, None, Some("2xx")).fits(&Method::GET, "/anything"));
    }

    #[test]
    fn goal_that_is_only_a_name_is_reached_by_no_request() {
        let named = goal(None, None, None);
        assert!(!named.fits(&Method::GET, "/"));
        assert!(named.is_named(b"buy") && !named.is_named(b"sell"));
    }
}
