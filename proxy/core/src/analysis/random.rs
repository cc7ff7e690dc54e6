//! Seeded numbers for simulations: the same on every machine, so a test that passes once passes always.

/// SplitMix64 (Steele, Lea & Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Above 0 and below 1.
    pub(crate) fn unit(&mut self) -> f64 {
        ((self.bits() >> 12) as f64 + 0.5) / (1_u64 << 52) as f64
    }

    pub(crate) fn chance(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    /// How many of `n` happen: it jumps from one that does to the next, so rare events cost little.
    pub(crate) fn binomial(&mut self, n: u64, chance: f64) -> u64 {
        if chance > 0.5 {
            return n - self.binomial(n, 1.0 - chance);
        }
        if chance <= 0.0 {
            return 0;
        }
        let ln_not = (-chance).ln_1p();
        let (mut happened, mut at) = (0, 0.0);
        loop {
            at += (self.unit().ln() / ln_not).floor() + 1.0;
            if at > n as f64 {
                return happened;
            }
            happened += 1;
        }
    }

    /// A time in microseconds around this median, with a long tail (log-logistic).
    pub(crate) fn latency(&mut self, median_us: f64) -> u64 {
        let unit = self.unit();
        (median_us * (unit / (1.0 - unit)).powf(0.3)) as u64
    }
}

#[test]
fn binomial_has_the_mean_and_the_variance_of_one() {
    let mut random = Random::seeded(1);
    for (n, chance) in [(500, 0.005), (50, 0.3), (200, 0.9)] {
        let drawn: Vec<f64> = (0..4_000).map(|_| random.binomial(n, chance) as f64).collect();
        let mean = drawn.iter().sum::<f64>() / 4_000.0;
        let variance = drawn.iter().map(|drawn| (drawn - mean).powi(2)).sum::<f64>() / 4_000.0;
        let expected = n as f64 * chance;
        assert!((mean / expected - 1.0).abs() < 0.05, "{n} {chance}: mean {mean}");
        assert!((variance / (expected * (1.0 - chance)) - 1.0).abs() < 0.1, "{n} {chance}: variance {variance}");
    }
}
