//! The instants of a question, as people write them.

use anyhow::{Context, Result, ensure};
use clap::Args;

/// Points of a range for which nobody named a step: what a plot can show.
const POINTS: i64 = 250;

/// When.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct Times {
    /// The instant asked about, or where `--range` ends [default: now].
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true)]
    time: Option<String>,
    /// Ask about as much time before `--time`.
    #[arg(long, value_name = "DURATION", conflicts_with_all = ["start", "end"])]
    range: Option<String>,
    /// Where the range begins.
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true, conflicts_with = "time")]
    start: Option<String>,
    /// Where the range ends [default: now].
    #[arg(long, value_name = "INSTANT", allow_hyphen_values = true, requires = "start")]
    end: Option<String>,
    /// Between two points of the range [default: so that there are 250].
    #[arg(long, value_name = "DURATION")]
    step: Option<String>,
}

impl Times {
    pub(super) fn is_range(&self) -> bool {
        self.range.is_some() || self.start.is_some()
    }

    /// Whether anything was said of times.
    pub(super) fn are_given(&self) -> bool {
        let Self { time, range, start, end, step } = self;
        [time, range, start, end, step].into_iter().any(Option::is_some)
    }

    /// Path and parameters of the question.
    pub(super) fn path(&self, escaped_expression: &str, now_ms: i64) -> Result<String> {
        let instant = |name, text: &Option<String>| match text {
            Some(text) => instant_ms(text, now_ms).with_context(|| format!("--{name} {text:?}")),
            None => Ok(now_ms),
        };
        if !self.is_range() {
            ensure!(self.step.is_none(), "--step is about a range: say --range or --start too");
            let at = seconds(instant("time", &self.time)?);
            return Ok(format!("/api/v1/query?query={escaped_expression}&time={at}"));
        }
        let (start_ms, end_ms) = match &self.range {
            Some(range) => {
                let end_ms = instant("time", &self.time)?;
                let length_ms = duration_ms(range).with_context(|| format!("--range {range:?}"))?;
                (end_ms.saturating_sub(length_ms), end_ms)
            }
            None => (instant("start", &self.start)?, instant("end", &self.end)?),
        };
        ensure!(start_ms <= end_ms, "--start is later than the end");
        let step_ms = match &self.step {
            Some(step) => duration_ms(step).with_context(|| format!("--step {step:?}"))?,
            None => default_step_ms(end_ms - start_ms),
        };
        ensure!(step_ms > 0, "--step must be longer than nothing");
        Ok(format!(
            "/api/v1/query_range?query={escaped_expression}&start={}&end={}&step={}",
            seconds(start_ms),
            seconds(end_ms),
            seconds(step_ms)
        ))
    }
}

/// A whole number of seconds, at least one.
fn default_step_ms(length_ms: i64) -> i64 {
    (length_ms / POINTS / 1_000).max(1) * 1_000
}

fn seconds(ms: i64) -> String {
    format!("{}{}.{:03}", if ms < 0 { "-" } else { "" }, ms.abs() / 1_000, ms.abs() % 1_000)
}

/// Seconds since 1970, RFC 3339, or a duration ago.
fn instant_ms(text: &str, now_ms: i64) -> Result<i64> {
    if text == "now" {
        return Ok(now_ms);
    }
    if let Some(at_ms) = query::http::instant_ms(text) {
        return Ok(at_ms);
    }
    let ago_ms = duration_ms(text.strip_prefix('-').unwrap_or(text))
        .context("is neither seconds since 1970 nor RFC 3339 nor a duration ago such as 90m")?;
    Ok(now_ms.saturating_sub(ago_ms))
}

fn duration_ms(text: &str) -> Result<i64> {
    query::http::duration_ms(text).context("is no duration such as 30s, 1h30m or 7d")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-21T00:00:00Z.
    const NOW_MS: i64 = 1_795_219_200_000;

    #[track_caller]
    fn check(arguments: &str, expected: &str) {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            times: Times,
        }
        let line = <Line as clap::Parser>::try_parse_from(
            std::iter::once("query").chain(arguments.split_whitespace()),
        );
        let found = match line {
            Ok(line) => line.times.path("up", NOW_MS).map_err(|e| format!("{e:#}")),
            Err(error) => Err(error.to_string()),
        };
        let found = found.unwrap_or_else(|error| error);
        assert!(found.contains(expected), "{arguments}: {found}");
    }

    #[test]
    fn instants_and_ranges_are_read() {
        check("", "/api/v1/query?query=up&time=1795219200.000");
        check("--time 1h", "time=1795215600.000");
        check("--time -90m", "time=1795213800.000");
        check("--time 2026-11-20T23:59:59.5Z", "time=1795219199.500");
        check("--time 12.5", "time=12.500");
        check("--range 1h", "start=1795215600.000&end=1795219200.000&step=14.000");
        check("--range 10s", "&step=1.000");
        check("--range 1h --time 1h --step 1m", "start=1795212000.000&end=1795215600.000&step=60");
        check("--start 2h --end 1h --step 1.5", "start=1795212000.000&end=1795215600.000&step=1.5");
        check("--start 2h", "start=1795212000.000&end=1795219200.000");
    }

    #[test]
    fn what_is_wrong_is_told_by_name() {
        check("--time soon", "--time \"soon\": is neither seconds");
        check("--range long", "--range \"long\": is no duration");
        check("--range 1h --step 0s", "--step must be longer");
        check("--step 1m", "--step is about a range");
        check("--start 1h --end 2h", "--start is later than the end");
        check("--end 1h", "--start");
        check("--range 1h --start 2h", "cannot be used with");
    }
}
