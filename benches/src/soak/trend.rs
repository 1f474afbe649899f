//! Does something grow? Least squares over what was sampled, judged by a limit for each figure. It takes no samples.

use std::fmt;
use std::time::Duration;

use crate::census::Census;

/// Of the time, at the start, in percent: what is made once, and what the allocator takes for itself, is there afterwards.
const SETTLING_PERCENT: usize = 20;
/// Growth of the fitted line over the time judged that still counts as none. One leaked descriptor, thread or process is a
/// leak; less is the noise of samples that met a restart.
const COUNT_GROWTH_MOST: f64 = 1.0;
/// As above, for the memory of the parent: what an allocator keeps of payloads of 2 MiB comes and goes.
const MEMORY_GROWTH_MOST_KIB: f64 = 4096.0;

/// A figure of a sample, its name, and how much it may grow.
type Figure = (&'static str, fn(&Census) -> u64, f64);

const FIGURES: [Figure; 5] = [
    ("descriptors", |census| census.descriptors, COUNT_GROWTH_MOST),
    ("threads", |census| census.threads, COUNT_GROWTH_MOST),
    ("living children", |census| census.children, COUNT_GROWTH_MOST),
    ("zombies", |census| census.zombies, COUNT_GROWTH_MOST),
    ("VmRSS KiB", |census| census.memory_kib, MEMORY_GROWTH_MOST_KIB),
];

/// Samples, and what they say. Their number is bounded by the plan of the run: one every few seconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Trends {
    samples: Vec<(f64, Census)>,
}

impl Trends {
    pub(super) fn add(&mut self, at: Duration, census: Census) {
        self.samples.push((at.as_secs_f64(), census));
    }

    /// Whether any figure grew by more than its limit.
    pub(super) fn has_grown(&self) -> bool {
        FIGURES.iter().any(|(_, figure, most)| self.growth(*figure) > *most)
    }

    /// Every sample, those of the settling too.
    pub(super) fn to_csv(&self) -> String {
        let names: Vec<&str> = FIGURES.iter().map(|(name, ..)| *name).collect();
        let mut text = format!("seconds,{}\n", names.join(","));
        for (seconds, census) in &self.samples {
            let values: Vec<String> =
                FIGURES.iter().map(|(_, figure, _)| figure(census).to_string()).collect();
            text += &format!("{seconds:.1},{}\n", values.join(","));
        }
        text
    }

    /// Of the fitted line, from the first sample judged to the last.
    fn growth(&self, figure: fn(&Census) -> u64) -> f64 {
        self.slope(figure) * self.seconds_judged()
    }

    /// Least squares, for a second. 0 of fewer than two samples.
    fn slope(&self, figure: fn(&Census) -> u64) -> f64 {
        let judged = self.judged();
        let count = judged.len() as f64;
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / count;
        let mean_x = mean(&mut judged.iter().map(|(x, _)| *x));
        let mean_y = mean(&mut judged.iter().map(|(_, census)| figure(census) as f64));
        let (mut xy, mut xx) = (0.0, 0.0);
        for (x, census) in judged {
            xy += (x - mean_x) * (figure(census) as f64 - mean_y);
            xx += (x - mean_x) * (x - mean_x);
        }
        if xx > 0.0 { xy / xx } else { 0.0 }
    }

    fn judged(&self) -> &[(f64, Census)] {
        self.samples.get(self.samples.len() * SETTLING_PERCENT / 100..).unwrap_or_default()
    }

    fn seconds_judged(&self) -> f64 {
        match self.judged() {
            [(first, _), .., (last, _)] => last - first,
            _ => 0.0,
        }
    }
}

impl fmt::Display for Trends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let judged = self.judged();
        writeln!(
            f,
            "{} samples, of which the last {} are judged, over {:.0} s:\n",
            self.samples.len(),
            judged.len(),
            self.seconds_judged()
        )?;
        writeln!(f, "| figure | least | most | slope, per hour | growth of the fitted line | at most | |")?;
        writeln!(f, "|---|---|---|---|---|---|---|")?;
        for (name, figure, most) in FIGURES {
            let values = || judged.iter().map(|(_, census)| figure(census));
            let (least, largest) = (values().min().unwrap_or_default(), values().max().unwrap_or_default());
            let (slope, growth) = (self.slope(figure) * 3600.0, self.growth(figure));
            let verdict = if growth > most { "**grows**" } else { "flat" };
            writeln!(
                f,
                "| {name} | {least} | {largest} | {slope:+.2} | {growth:+.2} | {most:.0} | {verdict} |"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trends(count: u64, descriptors: impl Fn(u64) -> u64) -> Trends {
        let mut trends = Trends::default();
        for second in 0..count {
            let census = Census {
                descriptors: descriptors(second),
                threads: 3,
                memory_kib: 1,
                children: 4,
                zombies: 0,
            };
            trends.add(Duration::from_secs(second), census);
        }
        trends
    }

    #[test]
    fn a_leak_of_two_descriptors_is_seen_and_noise_is_not() {
        assert!(trends(100, |second| 20 + second / 40).has_grown());
        assert!(!trends(100, |second| 20 + second % 2).has_grown());
    }

    #[test]
    fn growth_while_settling_is_no_growth() {
        assert!(!trends(100, |second| 20 + second.min(19)).has_grown());
    }

    #[test]
    fn nothing_is_said_of_too_few_samples() {
        assert!(!trends(0, |_| 0).has_grown());
        assert!(!trends(1, |_| 7).has_grown());
    }
}
