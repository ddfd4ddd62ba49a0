//! An answer as a picture of text: dots of Braille, two across and four down in a character.

use super::answer::{Answer, Series, instant};

/// Series that are drawn; the rest is counted. More than colours tell apart are no picture.
const SERIES_MAX: usize = 8;

/// Foreground colours of a terminal that are seen on dark and on light.
const COLOURS: [u8; SERIES_MAX] = [36, 33, 35, 32, 31, 34, 96, 95];

/// Columns that the scale takes.
const SCALE_COLUMNS: usize = 12;

/// Of the whole picture, in characters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    columns: usize,
    lines: usize,
}

impl Size {
    /// What the shell says of its window, else what every terminal has.
    pub(super) fn of_terminal() -> Self {
        let said = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
        Self {
            columns: said("COLUMNS").unwrap_or(100).clamp(40, 400),
            lines: (said("LINES").unwrap_or(30) / 2).clamp(8, 60),
        }
    }
}

/// A character of the picture.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    dots: u8,
    /// Of the series that was drawn here last.
    series: usize,
}

/// Where points go.
struct Canvas {
    columns: usize,
    lines: usize,
    cells: Vec<Cell>,
}

/// The dot of each place in a character: by column, from the top.
const DOTS: [[u8; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];

impl Canvas {
    fn new(columns: usize, lines: usize) -> Self {
        Self { columns, lines, cells: vec![Cell::default(); columns * lines] }
    }

    /// Sets a dot, counted from the left and from the bottom; shares are of the whole.
    fn set(&mut self, across: f64, up: f64, series: usize) {
        let place = |share: f64, dots: usize| (share * (dots - 1) as f64).round() as usize;
        let x = place(across, self.columns * 2);
        let y = self.lines * 4 - 1 - place(up, self.lines * 4);
        if let Some(cell) = self.cells.get_mut(y / 4 * self.columns + x / 2) {
            cell.dots |= DOTS[x % 2][y % 4];
            cell.series = series;
        }
    }

    /// A line between two points that follow each other.
    fn join(&mut self, from: (f64, f64), to: (f64, f64), series: usize) {
        let wide = (to.0 - from.0).abs() * (self.columns * 2) as f64;
        let high = (to.1 - from.1).abs() * (self.lines * 4) as f64;
        let dots = wide.max(high).ceil().max(1.0);
        for dot in 0..=dots as usize {
            let share = dot as f64 / dots;
            let between = |a: f64, b: f64| a + (b - a) * share;
            self.set(between(from.0, to.0), between(from.1, to.1), series);
        }
    }

    fn line(&self, number: usize, in_colour: bool) -> String {
        let mut out = String::new();
        let row = self.cells.iter().skip(number * self.columns).take(self.columns);
        for cell in row {
            let dot = char::from_u32(0x2800 + u32::from(cell.dots)).unwrap_or(' ');
            match cell.dots {
                0 => out.push(' '),
                _ => out.push_str(&coloured(&dot.to_string(), cell.series, in_colour)),
            }
        }
        out.trim_end().to_owned()
    }
}

fn coloured(text: &str, series: usize, in_colour: bool) -> String {
    match in_colour {
        true => format!("\x1b[{}m{text}\x1b[0m", COLOURS[series % SERIES_MAX]),
        false => text.to_owned(),
    }
}

/// From the least to the most.
#[derive(Debug, Clone, Copy)]
struct Span {
    least: f64,
    most: f64,
}

impl Span {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        values.filter(|value| value.is_finite()).fold(None, |span, value| {
            let span = span.unwrap_or(Self { least: value, most: value });
            Some(Self { least: span.least.min(value), most: span.most.max(value) })
        })
    }

    /// Something to see above and below where there is nothing but one value.
    fn widened(self) -> Self {
        let margin = if self.most > self.least { 0.0 } else { (self.most.abs() / 10.0).max(1.0) };
        Self { least: self.least - margin, most: self.most + margin }
    }

    /// Where in it a value lies; the middle where there is nothing but one.
    fn share(self, value: f64) -> f64 {
        let width = self.most - self.least;
        if width > 0.0 { ((value - self.least) / width).clamp(0.0, 1.0) } else { 0.5 }
    }
}

/// The picture with its scales and its legend.
pub(super) fn of(answer: &Answer, size: Size, in_colour: bool) -> String {
    let shown = answer.series.get(..SERIES_MAX).unwrap_or(&answer.series);
    let points = || shown.iter().flat_map(numbers);
    let spans = (Span::of(points().map(|p| p.0)), Span::of(points().map(|p| p.1)));
    let (Some(times), Some(values)) = spans else {
        return "nothing to plot: no series has a number in this range\n".to_owned();
    };
    let values = values.widened();
    let mut canvas = Canvas::new(size.columns - SCALE_COLUMNS - 2, size.lines);
    let gap = gap_seconds(shown);
    for (number, series) in shown.iter().enumerate() {
        let mut before: Option<(f64, (f64, f64))> = None;
        for (seconds, value) in numbers(series) {
            let place = (times.share(seconds), values.share(value));
            match before {
                Some((then, from)) if seconds - then <= gap => canvas.join(from, place, number),
                _ => canvas.set(place.0, place.1, number),
            }
            before = Some((seconds, place));
        }
    }
    let mut out = String::new();
    for line in 0..size.lines {
        let share = 1.0 - line as f64 / (size.lines - 1) as f64;
        let is_marked = line % 4 == 0 || line + 1 == size.lines;
        let value = values.least + (values.most - values.least) * share;
        let scale = if is_marked { short(value) } else { String::new() };
        let text = format!("{scale:>SCALE_COLUMNS$} ┤{}", canvas.line(line, in_colour));
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out.push_str(&format!("{:>SCALE_COLUMNS$} └{}\n", "", "─".repeat(canvas.columns)));
    let (from, to) = (instant(times.least), instant(times.most));
    let between = canvas.columns.saturating_sub(from.len() + to.len()).max(1);
    out.push_str(&format!("{:>SCALE_COLUMNS$}  {from}{}{to}\n", "", " ".repeat(between)));
    for (number, series) in shown.iter().enumerate() {
        let last = series.points.last().map_or("", |point| point.value.as_str());
        let mark = coloured("■", number, in_colour);
        out.push_str(&format!("{mark} {}  last {last}\n", series.name()));
    }
    match answer.series.len() - shown.len() {
        0 => {}
        more => out.push_str(&format!("and {more} more series, not drawn\n")),
    }
    out
}

/// The finite numbers of a series, by time; native histograms are no numbers.
fn numbers(series: &Series) -> impl Iterator<Item = (f64, f64)> {
    let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite());
    series.points.iter().filter_map(move |p| Some((p.seconds, number(&p.value)?)))
}

/// Longest time between two points that belong together: half as long again as the step, which
/// is the shortest there is.
fn gap_seconds(series: &[Series]) -> f64 {
    let steps =
        series.iter().flat_map(|s| s.points.windows(2).map(|w| w[1].seconds - w[0].seconds));
    steps.fold(f64::INFINITY, f64::min) * 1.5
}

/// Three digits and the SI prefix, as on a scale.
fn short(value: f64) -> String {
    const PREFIXES: [(f64, &str); 6] =
        [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")];
    let size = value.abs();
    if size >= 1e18 || (size < 1e-3 && size > 0.0) {
        return format!("{value:.2e}");
    }
    let (unit, prefix) = PREFIXES.into_iter().find(|(unit, _)| size >= *unit).unwrap_or((1.0, ""));
    let text = format!("{:.3}", value / unit);
    let text =
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{prefix}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plotted(series: &[Value]) -> String {
        let whole = json!({"data": {"resultType": "matrix", "result": series}});
        of(&Answer::of(&whole).expect("an answer"), Size { columns: 54, lines: 8 }, false)
    }

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let values: Vec<Value> = (0..40).map(|i| json!([i, (i * 100).to_string()])).collect();
        let picture = plotted(&[json!({"metric": {"__name__": "m"}, "values": values})]);
        let lines: Vec<&str> = picture.lines().collect();
        assert!(lines[0].starts_with("        3.9k ┤") && lines[0].ends_with("⣀⡠⠤⠒⠋"), "{picture}");
        assert!(lines[7].starts_with("           0 ┤⣠⠤⠒⠊⠉"), "{picture}");
        assert_eq!(lines[9].trim_start(), "1970-01-01T00:00:00.000Z 1970-01-01T00:00:39.000Z");
        assert_eq!(lines[10], "■ m  last 3900");
    }

    #[test]
    fn gaps_stay_open_and_what_is_no_number_is_left_out() {
        let values = json!([[0, "1"], [1, "1"], [2, "NaN"], [9, "1"], [10, "+Inf"]]);
        let picture = plotted(&[json!({"metric": {}, "values": values})]);
        let dots: Vec<usize> = picture.lines().nth(3).map_or(Vec::new(), |line| {
            line.chars().skip(14).enumerate().filter(|(_, c)| *c != ' ').map(|(i, _)| i).collect()
        });
        assert_eq!(dots, [0, 1, 2, 3, 4, 39], "{picture}");
        assert!(plotted(&[]).starts_with("nothing to plot"));
        let many: Vec<Value> = (0..11)
            .map(|i| json!({"metric": {"i": i.to_string()}, "values": [[0, "1"]]}))
            .collect();
        assert!(plotted(&many).ends_with("and 3 more series, not drawn\n"));
    }

    #[test]
    fn scales_are_short() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (-1_500.0, "-1.5k"),
            (0.25, "0.25"),
            (2e9, "2G"),
            (1e-7, "1.00e-7"),
            (3e20, "3.00e20"),
        ] {
            assert_eq!(short(value), text);
        }
    }
}
