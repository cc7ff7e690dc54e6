//! "Did you mean ...?": most wrong names are a slip of the finger away from a right one.

/// Longest word, in characters, that is compared: names are not longer.
const MAX_WORD: usize = crate::ids::MAX_NAME;
/// Most words that one wrong word is compared with, so that a file full of slips is still read in linear time.
const MAX_CANDIDATES: usize = 64;

/// The candidate that `word` was most likely meant to be, if one is close enough.
pub fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = |text: &str| text.chars().take(MAX_WORD + 1).flat_map(char::to_lowercase).collect::<Vec<_>>();
    let word = letters(word);
    if word.len() > MAX_WORD {
        return None;
    }
    let near = |candidate: &str| {
        let candidate = letters(candidate);
        let slips = distance(&word, &candidate);
        (slips <= (word.len().min(candidate.len()) / 3).max(1) && slips < word.len()).then_some(slips)
    };
    let found = candidates.into_iter().take(MAX_CANDIDATES).filter_map(|c| near(c).map(|slips| (slips, c)));
    found.min_by_key(|(slips, _)| *slips).map(|(_, candidate)| candidate)
}

/// Letters to insert, delete, replace or swap with their neighbour to get from one word to the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut a_before = None;
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        let mut b_before = None;
        for (j, &y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&last, j) + usize::from(x != y);
            let mut cost = replaced.min(at(&last, j + 1) + 1).min(at(&row, j) + 1);
            if a_before == Some(y) && b_before == Some(x) {
                cost = cost.min(at(&before_last, j.wrapping_sub(1)) + 1);
            }
            row.push(cost);
            b_before = Some(y);
        }
        before_last = std::mem::replace(&mut last, row);
        a_before = Some(x);
    }
    last.last().copied().unwrap_or(a.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slip_is_one_step() {
        let steps = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        for (a, b, slips) in [
            ("", "", 0),
            ("", "ab", 2),
            ("ab", "", 2),
            ("green", "green", 0),
            ("grean", "green", 1),
            ("gren", "green", 1),
            ("greeen", "green", 1),
            ("geren", "green", 1),
            ("blue", "green", 4),
        ] {
            assert_eq!(steps(a, b), slips, "{a} {b}");
            assert_eq!(steps(b, a), slips, "{b} {a}");
        }
    }

    #[test]
    fn only_close_words_are_offered() {
        let keys = ["address", "tls", "h2c", "to"];
        assert_eq!(closest("adress", keys), Some("address"));
        assert_eq!(closest("Address", keys), Some("address"));
        assert_eq!(closest("sslt", keys), None);
        assert_eq!(closest("x", keys), None);
        assert_eq!(closest("", keys), None);
        assert_eq!(closest(&"a".repeat(10_000), keys), None);
    }
}
