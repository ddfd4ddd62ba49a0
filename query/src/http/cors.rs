//! Pages of other origins: which of them may read answers (Prometheus' `--web.cors.origin`).

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use regex::Regex;

/// Origins whose pages may read answers.
#[derive(Debug, Clone)]
pub(crate) enum Origins {
    /// None.
    Nobody,
    /// Every one.
    Everybody,
    /// Those that match, whole.
    Matching(Regex),
}

impl Origins {
    /// From configuration: empty is nobody, `*` and `.*` everybody, else a regular expression for
    /// the whole origin.
    pub(crate) fn new(configured: &str) -> Result<Self, regex::Error> {
        match configured {
            "" => Ok(Self::Nobody),
            "*" | ".*" => Ok(Self::Everybody),
            pattern => Regex::new(&format!("^(?s:{pattern})$")).map(Self::Matching),
        }
    }

    /// Whether the page that asks may be answered where browsers do not ask first, as for a
    /// WebSocket: it is of this server, or one of those.
    pub(super) fn allow(&self, asked: &HeaderMap) -> bool {
        let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let Some(origin) = text(header::ORIGIN) else { return true };
        let host = origin.split_once("://").map_or(origin, |(_, host)| host);
        let is_own = text(header::HOST).is_some_and(|own| own.eq_ignore_ascii_case(host));
        is_own
            || match self {
                Self::Nobody => false,
                Self::Everybody => true,
                Self::Matching(pattern) => pattern.is_match(origin),
            }
    }

    /// Says in an answer's headers that the page that asked may read it, if it may.
    pub(super) fn permit(&self, asked: &HeaderMap, answer: &mut HeaderMap) {
        let Some(origin) = asked.get(header::ORIGIN) else { return };
        let allowed = match self {
            Self::Nobody => return,
            Self::Everybody => Some(HeaderValue::from_static("*")),
            Self::Matching(pattern) => {
                origin.to_str().is_ok_and(|o| pattern.is_match(o)).then(|| origin.clone())
            }
        };
        answer.extend(HEADERS);
        answer.append(header::VARY, HeaderValue::from_static("Origin"));
        answer.extend(allowed.map(|allowed| (header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed)));
    }
}

/// What is said to pages whether or not they may read the answer.
const HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, DELETE, OPTIONS")),
    (
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("Accept, Authorization, Content-Type, Origin, X-Scope-OrgID"),
    ),
    (header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Date")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(configured: &str, origin: &str, allowed: Option<&str>) {
        let (mut asked, mut answer) = (HeaderMap::new(), HeaderMap::new());
        asked.insert(header::ORIGIN, origin.parse().expect("a header"));
        Origins::new(configured).expect("a pattern").permit(&asked, &mut answer);
        let found = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        assert_eq!(found.map(|v| v.to_str().expect("text")), allowed, "{configured} {origin}");
        let told = answer.contains_key(header::ACCESS_CONTROL_ALLOW_METHODS);
        assert_eq!(told, !configured.is_empty(), "{configured}");
    }

    #[test]
    fn pages_of_others_open_nothing_unless_they_may() {
        let check = |configured: &str, origin: Option<&str>, expected: bool| {
            let mut asked = HeaderMap::new();
            asked.insert(header::HOST, HeaderValue::from_static("logs.example:9009"));
            asked.extend(origin.map(|o| (header::ORIGIN, o.parse().expect("a header"))));
            let found = Origins::new(configured).expect("a pattern").allow(&asked);
            assert_eq!(found, expected, "{configured} {origin:?}");
        };
        check("", None, true);
        check("", Some("http://logs.example:9009"), true);
        check("", Some("https://LOGS.example:9009"), true);
        check("", Some("http://logs.example"), false);
        check("", Some("http://evil.example"), false);
        check("", Some("null"), false);
        check("http://good.example", Some("http://good.example"), true);
        check("http://good.example", Some("http://evil.example"), false);
        check("*", Some("http://evil.example"), true);
    }

    #[test]
    fn origins_are_matched_whole() {
        check("", "http://a", None);
        check("*", "http://a", Some("*"));
        check(".*", "http://a", Some("*"));
        let two = r"https?://(domain1|domain2)\.com";
        check(two, "https://domain1.com", Some("https://domain1.com"));
        check(two, "http://domain2.com", Some("http://domain2.com"));
        check(two, "http://domain2.com.evil.example", None);
        check(two, "http://evil.example/http://domain1.com", None);
        assert!(Origins::new("(").is_err());
        let mut answer = HeaderMap::new();
        Origins::Everybody.permit(&HeaderMap::new(), &mut answer);
        assert!(answer.is_empty(), "who is no page is told nothing");
    }
}
