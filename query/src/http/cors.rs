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
