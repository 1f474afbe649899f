//! Plots as SVG: bars by contestant for some workloads, on a logarithmic axis, and what growth costs.

use std::fmt::Write;

use super::plan::{OURS, WORKLOADS, Who};
use super::results::{Metric, Results};

const BARS: [(&str, Metric); 4] =
    [("W1", Metric::P50), ("W2-64", Metric::Rate), ("W4-1M-rt", Metric::Bytes), ("W6", Metric::Rate)];

const WIDTH: f64 = 760.0;
/// Where bars begin; their names are left of it.
const LEFT: f64 = 250.0;
/// For the figure right of the longest bar.
const RIGHT: f64 = 90.0;
const BAR: f64 = 20.0;
const HEAD: f64 = 40.0;

/// Every plot that these results allow, by name.
pub(super) fn all(results: &Results) -> Vec<(String, String)> {
    let bars = BARS
        .iter()
        .filter_map(|(workload, metric)| Some((workload.to_lowercase(), bars(results, workload, *metric)?)));
    bars.chain(growth(results).map(|svg| ("growth".to_owned(), svg))).collect()
}

fn colour(who: Who) -> &'static str {
    match who {
        Who::Stokehold => "#c2410c",
        Who::Limit => "#9ca3af",
        Who::Peer => "#2563eb",
    }
}

/// The best first.
fn bars(results: &Results, workload: &str, metric: Metric) -> Option<String> {
    let (_, what) = WORKLOADS.iter().find(|(name, _)| *name == workload)?;
    let mut rows: Vec<(String, Who, f64)> = results
        .of(workload)
        .into_iter()
        .filter_map(|row| Some((row.entry.title(), row.entry.who, row.median(metric)?)))
        .collect();
    rows.sort_by(
        |(_, _, a), (_, _, b)| if metric.less_is_better() { a.total_cmp(b) } else { b.total_cmp(a) },
    );
    let values = || rows.iter().map(|(_, _, value)| *value);
    let least = values().reduce(f64::min).filter(|least| *least > 0.0)? / 2.0;
    let most = values().reduce(f64::max)?;
    let better = if metric.less_is_better() { "less is better" } else { "more is better" };
    let mut svg = Svg::new(WIDTH, HEAD + BAR * rows.len() as f64 + 10.0);
    svg.text(10.0, 20.0, &format!("{workload}: {what}; {} ({better}, logarithmic)", metric.name()), "start");
    for (place, (title, who, value)) in rows.iter().enumerate() {
        let y = HEAD + BAR * place as f64;
        let length = (value / least).ln() / (most / least).ln() * (WIDTH - LEFT - RIGHT);
        svg.text(LEFT - 6.0, y + 13.0, title, "end");
        svg.bar(LEFT, y + 2.0, length, colour(*who));
        svg.text(LEFT + length + 6.0, y + 13.0, &metric.show(*value), "start");
    }
    Some(svg.done())
}

/// Rate, CPU and memory over workers, and over tasks.
fn growth(results: &Results) -> Option<String> {
    const AXES: [(&str, &[&str]); 2] = [
        ("workers", &["growth-1", "growth-2", "growth-8", "growth-64"]),
        ("tasks at a time", &["growth-10^3", "growth-10^4", "growth-10^5", "growth-10^6", "growth-10^7"]),
    ];
    const METRICS: [Metric; 3] = [Metric::Rate, Metric::Cpu, Metric::Peak];
    const BOX: (f64, f64) = (WIDTH / 2.0, 150.0);
    let mut svg = Svg::new(WIDTH, BOX.1 * METRICS.len() as f64);
    for (row, metric) in METRICS.into_iter().enumerate() {
        for (column, (axis, workloads)) in AXES.into_iter().enumerate() {
            let (left, top) = (BOX.0 * column as f64, BOX.1 * row as f64);
            let points: Option<Vec<(&str, f64)>> = workloads
                .iter()
                .map(|name| Some((name.trim_start_matches("growth-"), results.named(name, OURS, metric)?)))
                .collect();
            let points = points?;
            let most = points.iter().map(|(_, value)| *value).reduce(f64::max)?;
            let step = (BOX.0 - 60.0) / (points.len() - 1) as f64;
            svg.text(left + 10.0, top + 16.0, &format!("{} by {axis}", metric.name()), "start");
            let (floor, height) = (top + BOX.1 - 26.0, BOX.1 - 72.0);
            svg.line(&[(left + 20.0, floor), (left + BOX.0 - 20.0, floor)], "#d1d5db");
            let at =
                |place: usize, value: f64| (left + 30.0 + step * place as f64, floor - value / most * height);
            let line: Vec<_> =
                points.iter().enumerate().map(|(place, (_, value))| at(place, *value)).collect();
            svg.line(&line, colour(Who::Stokehold));
            for ((name, value), (x, y)) in points.iter().zip(line) {
                svg.text(x, y - 7.0, &metric.show(*value), "middle");
                svg.text(x, floor + 15.0, name, "middle");
            }
        }
    }
    Some(svg.done())
}

/// A drawing on white, so that it can be read on any page.
struct Svg(String);

// Writing to a string cannot fail.
impl Svg {
    fn new(width: f64, height: f64) -> Self {
        Self(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        ))
    }

    fn text(&mut self, x: f64, y: f64, text: &str, anchor: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let _ = writeln!(self.0, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    }

    fn bar(&mut self, x: f64, y: f64, width: f64, colour: &str) {
        let height = BAR - 5.0;
        let _ = writeln!(
            self.0,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{colour}\"/>"
        );
    }

    fn line(&mut self, points: &[(f64, f64)], colour: &str) {
        let points: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            self.0,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
    }

    fn done(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }
}
