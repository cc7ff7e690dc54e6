//! The normaliser of Fisher's non-central hypergeometric distribution, for any odds and for tables of any size.
//!
//! Finite for all inputs: sums run outwards from the largest term and stop where terms no longer count.

/// Requests of a tick above which the sum would take too long and `f64` too coarse a logarithm (4 billion in 5 s).
pub(super) const MOST_REQUESTS: u64 = 1 << 32;

/// Terms below this part of the sum cannot change it: the terms are log-concave, so the rest is geometric.
const NEGLIGIBLE: f64 = 1e-20;

/// `ln Σ C(n1,k) C(n0,m-k) ω^k` over every possible `k`: how many ways `m` events fall on `n1 + n0` requests when each
/// of the first `n1` has `ω` times the odds. Needs `m <= n1 + n0 <=` [`MOST_REQUESTS`] and `ω > 0`.
pub(super) fn ln_ways(n1: u64, n0: u64, m: u64, odds: f64) -> f64 {
    let (lowest, highest) = (m.saturating_sub(n0), n1.min(m));
    // t(k) / t(k-1), which falls as k grows.
    let step = |k: u64| {
        let (up, down) = ((n1 - k + 1) as f64 * (m - k + 1) as f64, k as f64 * (n0 + k - m) as f64);
        odds * up / down
    };
    let mode = {
        let (mut low, mut high) = (lowest, highest);
        while low < high {
            let middle = high - (high - low) / 2;
            if step(middle) >= 1.0 { low = middle } else { high = middle - 1 }
        }
        low
    };
    let (mut sum, mut term) = (1.0, 1.0);
    for k in mode + 1..=highest {
        term *= step(k);
        sum += term;
        if term < NEGLIGIBLE * sum {
            break;
        }
    }
    term = 1.0;
    for k in (lowest + 1..=mode).rev() {
        term /= step(k);
        sum += term;
        if term < NEGLIGIBLE * sum {
            break;
        }
    }
    ln_choose(n1, mode) + ln_choose(n0, m - mode) + mode as f64 * odds.ln() + sum.ln()
}

fn ln_choose(n: u64, k: u64) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// `ln n!`: the product for small `n`, Stirling's series above, where its fifth term is below 1e-14.
fn ln_factorial(n: u64) -> f64 {
    if n < 16 {
        return ((2..=n).product::<u64>() as f64).ln();
    }
    let n = n as f64;
    let square = n * n;
    let series = (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square) / n;
    n * n.ln() - n + 0.5 * (std::f64::consts::TAU * n).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ln_factorial_is_the_sum_of_logarithms() {
        let mut sum = 0.0;
        for n in 1..=2_000_u64 {
            sum += (n as f64).ln();
            assert!((ln_factorial(n) - sum).abs() <= 1e-12 * sum.max(1.0), "{n}");
        }
        assert_eq!(ln_factorial(0), 0.0);
    }

    /// Pascal's triangle, exact in `f64` up to row 50.
    fn choose(n: u64, k: u64) -> f64 {
        if k > n { 0.0 } else { (0..k).fold(1.0, |product, i| product * (n - i) as f64 / (i + 1) as f64) }
    }

    #[test]
    fn ways_are_the_plain_sum_of_every_small_table() {
        for odds in [0.01, 0.5, 1.0, 3.0, 100.0_f64] {
            for (n1, n0) in (0..=12).flat_map(|n1| (0..=12).map(move |n0| (n1, n0))) {
                for m in 0..=n1 + n0 {
                    let plain: f64 =
                        (0..=m).map(|k| choose(n1, k) * choose(n0, m - k) * odds.powi(k as i32)).sum::<f64>().ln();
                    let got = ln_ways(n1, n0, m, odds);
                    assert!((got - plain).abs() < 1e-11 * plain.abs().max(1.0), "{n1} {n0} {m} {odds}: {got} {plain}");
                }
            }
        }
    }

    #[test]
    fn ways_of_equal_odds_are_the_ways_to_choose_also_in_large_tables() {
        // Vandermonde's identity.
        for (n1, n0, m) in [(1_000, 9_000, 50), (250_000, 750_000, 333_333), (1 << 31, 1 << 31, 1_000_000_000)] {
            let (got, whole) = (ln_ways(n1, n0, m, 1.0), ln_choose(n1 + n0, m));
            assert!((got - whole).abs() < 1e-14 * whole.abs().max(1e6), "{n1} {n0} {m}: {got} {whole}");
        }
    }
}
