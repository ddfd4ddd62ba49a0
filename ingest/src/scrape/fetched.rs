//! From an answer to an exposition: which format it is in (`model/textparse/interface.go`).

use super::ScrapeError;
use super::config::{Job, Protocol};
use crate::exposition::{Exposition, Format, Forms};

/// The exposition of a body.
pub(super) fn exposition<'a>(
    job: &Job,
    forms: Forms,
    content_type: &str,
    body: &'a [u8],
) -> Result<Exposition<'a>, ScrapeError> {
    let format = format(content_type, job.fallback_protocol)?;
    Ok(Exposition::in_forms(format, body, forms))
}

/// The format of a content type. Prometheus guesses none: blank and unknown ones are errors, unless
/// the job says what they mean.
fn format(content_type: &str, fallback: Option<Protocol>) -> Result<Format, ScrapeError> {
    if let Some(format) = Format::of(content_type) {
        return Ok(format);
    }
    if let Some(protocol) = fallback {
        return Ok(protocol.format());
    }
    let wrong = match content_type.trim() {
        "" => "non-compliant scrape target sending blank Content-Type".to_owned(),
        other => format!("received unsupported Content-Type {other:?}"),
    };
    Err(ScrapeError::ContentType(format!(
        "{wrong} and no fallback_scrape_protocol specified for target"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_the_content_type() {
        for (content_type, expected) in [
            ("text/plain; version=0.0.4; charset=utf-8", Some(Format::Text)),
            ("text/plain", Some(Format::Text)),
            ("TEXT/PLAIN;version=1.0.0", Some(Format::Text)),
            (
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                Some(Format::OpenMetrics),
            ),
            (
                "application/openmetrics-text; version=2.0.0; charset=utf-8",
                Some(Format::OpenMetrics2),
            ),
            (
                "application/openmetrics-text;charset=utf-8;version=\"2.0.0-rc0\"",
                Some(Format::OpenMetrics2),
            ),
            ("application/openmetrics-text", Some(Format::OpenMetrics)),
            (
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
                Some(Format::Protobuf),
            ),
            ("", None),
            ("text/html", None),
            ("application/json", None),
        ] {
            assert_eq!(format(content_type, None).ok(), expected, "{content_type}");
            let fallback = format(content_type, Some(Protocol::Text004)).ok();
            assert_eq!(fallback, expected.or(Some(Format::Text)), "{content_type}");
        }
    }
}
