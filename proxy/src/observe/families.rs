//! Builds metric families in a few words, for those who hold counters of their own.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use tidegate_core::stats::BUCKET_BOUNDS_US;

/// Every metric's name begins so.
const PREFIX: &str = "tidegate_";

/// Microseconds in a second, the base unit of durations.
const MICROS: f64 = 1_000_000.0;

/// A family that is being filled.
#[derive(Debug)]
pub(crate) struct Family(MetricFamily);

/// Labels of one series.
pub(crate) type Labels<'a> = &'a [(&'static str, &'a str)];

impl Family {
    /// A number that only grows.
    pub(crate) fn counter(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::COUNTER)
    }

    /// A number that goes up and down.
    pub(crate) fn gauge(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::GAUGE)
    }

    /// A distribution of durations.
    pub(crate) fn durations(name: &str, help: &str) -> Self {
        Self::new(name, help, MetricType::HISTOGRAM)
    }

    fn new(name: &str, help: &str, kind: MetricType) -> Self {
        let mut family = MetricFamily::default();
        family.set_name(format!("{PREFIX}{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Self(family)
    }

    /// Adds a series with a value.
    pub(crate) fn add(&mut self, labels: Labels<'_>, value: f64) {
        let mut metric = labelled(labels);
        if self.0.get_field_type() == MetricType::GAUGE {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        } else {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        }
        self.0.mut_metric().push(metric);
    }

    /// Adds a series with a count; counts stay exact up to 2^53.
    pub(crate) fn add_count(&mut self, labels: Labels<'_>, count: u64) {
        self.add(labels, count as f64);
    }

    /// Adds a distribution: counts per bucket of [`BUCKET_BOUNDS_US`] and above, and the sum of all durations.
    pub(crate) fn add_durations(&mut self, labels: Labels<'_>, counts: &[u64], sum_us: u64) {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(BUCKET_BOUNDS_US.len());
        for (bound, count) in BUCKET_BOUNDS_US.iter().zip(counts) {
            cumulative += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound as f64 / MICROS);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(counts.iter().sum());
        histogram.set_sample_sum(sum_us as f64 / MICROS);
        let mut metric = labelled(labels);
        metric.set_histogram(histogram);
        self.0.mut_metric().push(metric);
    }

    /// The family, unless it has no series.
    pub(crate) fn finish(self) -> Option<MetricFamily> {
        (!self.0.get_metric().is_empty()).then_some(self.0)
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pairs = labels.iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    Metric::from_label(pairs.collect())
}
