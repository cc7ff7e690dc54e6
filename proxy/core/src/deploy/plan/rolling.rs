//! In which order endpoints are replaced, so that there are never too many and never too few.
//!
//! With n endpoints wanted: never more than n + surge exist (unless there were more at the beginning), and never fewer
//! than n - unavailable are ready (or as many as there were, if those were fewer).

use std::ops::Range;

/// One thing to do; endpoints are numbered from 0 within their version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Batch {
    /// Start these of the new version, and wait until they are ready.
    Start(Range<u32>),
    /// Take these of the old version out, and stop them.
    Stop(Range<u32>),
}

/// How `old` endpoints of one version become `new` of another. Empty when neither surge nor absence is allowed, for
/// then nothing can ever be replaced.
pub fn batches(old: u32, new: u32, max_surge: u32, max_unavailable: u32) -> Vec<Batch> {
    let most = new.saturating_add(max_surge);
    let least = old.min(new).saturating_sub(max_unavailable);
    let (mut stopped, mut started) = (0, 0);
    let mut batches = Vec::new();
    while stopped < old || started < new {
        let total = (old - stopped) + started;
        let start = (new - started).min(most.saturating_sub(total));
        if start > 0 {
            batches.push(Batch::Start(started..started + start));
            started += start;
        }
        let ready = (old - stopped) + started;
        let stop = (old - stopped).min(ready.saturating_sub(least));
        if stop > 0 {
            batches.push(Batch::Stop(stopped..stopped + stop));
            stopped += stop;
        }
        if start == 0 && stop == 0 {
            return Vec::new();
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold_at_every_moment_for_all_small_numbers() {
        for (old, new) in (0..=8).flat_map(|old| (0..=8).map(move |new| (old, new))) {
            for (surge, unavailable) in (0..=4).flat_map(|s| (0..=4).map(move |u| (s, u))) {
                let plan = batches(old, new, surge, unavailable);
                let what = format!("{old} to {new}, surge {surge}, unavailable {unavailable}: {plan:?}");
                let (mut o, mut n) = (old, 0);
                for batch in &plan {
                    match batch {
                        Batch::Start(range) => {
                            assert_eq!(range.start, n, "{what}");
                            n = range.end;
                            assert!(o + n <= new + surge, "{what}");
                        }
                        Batch::Stop(range) => {
                            assert_eq!(range.start, old - o, "{what}");
                            o = old - range.end;
                            assert!(o + n >= old.min(new).saturating_sub(unavailable), "{what}");
                        }
                    }
                }
                let possible = surge + unavailable > 0 || old == 0 || new == 0 || old != new;
                if surge + unavailable > 0 {
                    assert_eq!((o, n), (0, new), "{what}");
                }
                assert!(possible || plan.is_empty(), "{what}");
                assert!(plan.len() <= 2 * (old + new) as usize, "{what}");
            }
        }
    }

    #[test]
    fn without_absence_each_batch_replaces_as_many_as_surge() {
        let plan = batches(5, 5, 2, 0);
        let expected = [
            Batch::Start(0..2),
            Batch::Stop(0..2),
            Batch::Start(2..4),
            Batch::Stop(2..4),
            Batch::Start(4..5),
            Batch::Stop(4..5),
        ];
        assert_eq!(plan, expected);
    }

    #[test]
    fn without_surge_the_old_goes_first() {
        assert_eq!(batches(2, 2, 0, 1), [Batch::Stop(0..1), Batch::Start(0..1), Batch::Stop(1..2), Batch::Start(1..2)]);
    }
}
