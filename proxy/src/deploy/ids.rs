//! Names of new deployments: by time, so that they sort as they were created, and with chance, so that none comes twice.

use tidegate_core::deploy::DeploymentId;

/// Letters and digits that are not mistaken for one another (Crockford's), in their order.
const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Digits of a name: 48 bits of milliseconds and 80 of chance, five in each, as a ULID has them.
const LENGTH: u32 = 26;

/// Gives names.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    last: u128,
}

impl Ids {
    /// The next name: greater than every one that was given before, whatever the clock says.
    pub(crate) fn next(&mut self, unix_ms: u64, random: u128) -> DeploymentId {
        let drawn = u128::from(unix_ms) << 80 | random >> 48;
        self.last = drawn.max(self.last.saturating_add(1));
        name(self.last)
    }
}

fn name(number: u128) -> DeploymentId {
    let digit = |at: u32| DIGITS.get((number >> (5 * at) & 31) as usize).copied().map_or('0', char::from);
    let text: String = "dep-".chars().chain((0..LENGTH).rev().map(digit)).collect();
    // Invariant: the prefix, and letters and digits after it, 30 bytes in all.
    #[expect(clippy::expect_used, reason = "the text is made of nothing but the prefix and the digits above")]
    DeploymentId::parse(&text).expect("a name of a deployment")
}

#[cfg(test)]
mod tests {
    use super::{Ids, name};

    #[test]
    fn names_sort_as_they_were_given_also_when_the_clock_goes_back() {
        let mut ids = Ids::default();
        let times = [1_793_697_300_250, 1_793_697_300_250, 5, 1_793_697_300_251];
        let names: Vec<_> = times.iter().map(|ms| ids.next(*ms, u128::MAX)).collect();
        assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
        assert_eq!(names[0].as_str().len(), 30);
    }

    #[test]
    fn the_ends_of_the_range_are_names() {
        assert_eq!(name(0).as_str(), format!("dep-{}", "0".repeat(26)));
        assert_eq!(name(u128::MAX).as_str(), format!("dep-7{}", "z".repeat(25)));
    }
}
