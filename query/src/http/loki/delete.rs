//! Which entries a request to delete some means. (The deletion itself is an administrative act.)

use model::{Matcher, Signal};

use super::super::params::Params;
use super::params::instant_ns;
use crate::entries::{EntryFilter, Pipeline};
use crate::logql::{self, Expr};
use crate::{Config, Error, Querier};

/// Entries as a request names them: `query`, `start`, `end`, and beside Loki's own `signal`.
#[derive(Debug, Clone, PartialEq)]
pub struct SelectedEntries {
    /// The query as it was sent.
    pub text: String,
    /// Of which signal; logs if nothing is said.
    pub signal: Signal,
    /// What their streams' labels match.
    pub matchers: Vec<Matcher>,
    /// What they pass.
    pub filter: EntryFilter,
    /// The first instant, nanoseconds since the Unix epoch.
    pub start_ns: i64,
    /// The instant behind the last.
    pub end_ns: i64,
}

impl SelectedEntries {
    /// From a form and a query string. Takes the time its patterns call for.
    pub fn of_form(form: &[u8], query: &str, querier: &Querier) -> Result<Self, Error> {
        let now_ns = querier.clock().now_ms().saturating_mul(1_000_000);
        Self::read(form, query, &querier.config(), now_ns)
    }

    fn read(form: &[u8], query: &str, config: &Config, now_ns: i64) -> Result<Self, Error> {
        let params = Params::parse(form, query)?;
        let bad = |text: String| Err(Error::BadData(text));
        let text = params.get("query");
        if text.is_empty() {
            return bad("query not set".to_owned());
        }
        let limit = config.expression_bytes_max;
        if text.len() > limit {
            return bad(format!("the query has {} bytes, more than {limit}", text.len()));
        }
        let (start_ns, last_ns) = (instant(&params, "start", 0)?, instant(&params, "end", now_ns)?);
        if last_ns > now_ns {
            return bad("deletes in the future are not allowed: end lies behind now".to_owned());
        }
        if start_ns > last_ns {
            return bad("start time can't be greater than end time".to_owned());
        }
        let signal = match params.get("signal") {
            "" => Signal::Logs,
            name => match Signal::ALL.into_iter().find(|signal| signal.as_str() == name) {
                Some(signal) => signal,
                None => {
                    return bad(format!("unknown signal {name:?}; there are logs, events, audits"));
                }
            },
        };
        let lines = match logql::parse(text).map_err(|e| Error::BadData(e.to_string()))? {
            Expr::Log(lines) => lines,
            Expr::Metric(_) => {
                return bad("a deletion takes a log selector, this is a metric query".to_owned());
            }
        };
        let pipeline = Pipeline::of(&lines, text)?;
        if !pipeline.is_filter() {
            return bad("a deletion takes no label filters that are joined by or; \
                        delete with one request for each"
                .to_owned());
        }
        Ok(Self {
            text: text.to_owned(),
            signal,
            matchers: lines.matchers,
            filter: pipeline.filter,
            start_ns,
            end_ns: last_ns.saturating_add(1),
        })
    }
}

fn instant(params: &Params, name: &str, default_ns: i64) -> Result<i64, Error> {
    match params.get(name) {
        "" => Ok(default_ns),
        text => instant_ns(text).ok_or_else(|| {
            Error::BadData(format!(
                "could not parse '{name}' parameter: {text:?} is neither seconds, nor nanoseconds, nor RFC 3339"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_NS: i64 = 2_000_000_000_000_000_000;

    fn read(query: &str) -> Result<SelectedEntries, String> {
        let read = SelectedEntries::read(b"", query, &Config::default(), NOW_NS);
        read.map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_meant_is_read() {
        let of = read("query={app%3D%22a%22}%20|%3D%20%22x%22&start=1700000000&end=1700000060");
        let of = of.expect("a right request");
        assert_eq!((of.signal, of.matchers.len(), of.filter.lines.len()), (Signal::Logs, 1, 1));
        let second = 1_000_000_000;
        assert_eq!((of.start_ns, of.end_ns), (1_700_000_000 * second, 1_700_000_060 * second + 1));
        let of = read("query={app%3D%22a%22}&signal=audits").expect("a right request");
        assert_eq!((of.signal, of.start_ns, of.end_ns), (Signal::Audits, 0, NOW_NS + 1));
    }

    #[track_caller]
    fn refused(query: &str, reason: &str) {
        let error = read(query).expect_err("refused");
        assert!(error.contains(reason), "{error}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        refused("", "query not set");
        refused("query={app%3D%22a%22", "parse error");
        refused("query={app%3D~%22.*%22}", "queries require at least one");
        refused("query=rate({app%3D%22a%22}[1m])", "log selector");
        refused("query={app%3D%22a%22}%20|%20json", "not supported yet");
        refused("query={app%3D%22a%22}|b%3D%22c%22%20or%20d%3D%22e%22", "joined by or");
        refused("query={app%3D%22a%22}&start=x", "'start'");
        refused("query={app%3D%22a%22}&start=20&end=10", "greater than end");
        refused("query={app%3D%22a%22}&end=3000000000", "in the future");
        refused("query={app%3D%22a%22}&signal=traces", "unknown signal \"traces\"");
    }
}
