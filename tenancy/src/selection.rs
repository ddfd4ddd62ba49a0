//! What a request says about itself: the tenants it names and the token it shows. Plain functions
//! of bytes from outside; they never panic and allocate no more than they were given.

use std::collections::HashSet;

use axum::http::{HeaderMap, HeaderName, header::AUTHORIZATION};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::{NameError, TenantName};

/// The header that names tenants, as in Mimir and Loki.
pub const TENANT_HEADER: HeaderName = HeaderName::from_static("x-scope-orgid");

/// Most tenants one request may name. More are asked for with `*`.
const SELECTED_MAX: usize = 1_000;

/// Longest `Authorization` header that is looked at, in bytes. Tokens have some dozen.
const AUTHORIZATION_BYTES_MAX: usize = 4_096;

/// The tenants a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// It names none.
    Unnamed,
    /// These, at least one, in the order given, each once.
    Named(Vec<TenantName>),
    /// `*`: all of them.
    All,
}

/// A header that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// Several headers: proxies and servers differ in which one counts.
    #[error("X-Scope-OrgID is given {0} times")]
    Repeated(usize),
    /// Bytes that are no ASCII text.
    #[error("X-Scope-OrgID is not ASCII text")]
    NotText,
    /// A name that cannot be a tenant's.
    #[error("X-Scope-OrgID: {0}")]
    Name(#[from] NameError),
    /// Too many names.
    #[error("X-Scope-OrgID names more than {SELECTED_MAX} tenants")]
    TooMany,
}

impl Selection {
    /// From a request's headers.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, SelectionError> {
        let mut values = headers.get_all(TENANT_HEADER).iter();
        let Some(first) = values.next() else { return Ok(Self::Unnamed) };
        match values.count() {
            0 => Self::parse(first.as_bytes()),
            more => Err(SelectionError::Repeated(more + 1)),
        }
    }

    /// From the value of the header: `a`, `a|b` or `*`. A name given twice counts once, as in
    /// Mimir.
    pub fn parse(value: &[u8]) -> Result<Self, SelectionError> {
        let text = std::str::from_utf8(value)
            .ok()
            .filter(|t| t.is_ascii())
            .ok_or(SelectionError::NotText)?;
        if text == "*" {
            return Ok(Self::All);
        }
        let (mut names, mut seen) = (Vec::new(), HashSet::new());
        for (i, part) in text.split('|').enumerate() {
            if i == SELECTED_MAX {
                return Err(SelectionError::TooMany);
            }
            let name = TenantName::new(part)?;
            if seen.insert(name.clone()) {
                names.push(name);
            }
        }
        Ok(Self::Named(names))
    }
}

/// The token of a request, if it shows one. `Bearer TOKEN`, or `Basic` with the token as password;
/// the user name may then be anything, since programs often insist on one. InfluxDB's clients say
/// `Token TOKEN`, those of Elasticsearch `ApiKey` with the token as key.
pub fn token_of(headers: &HeaderMap) -> Result<Option<Vec<u8>>, TokenError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(first) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(TokenError::Repeated);
    }
    parse_authorization(first.as_bytes()).map(Some)
}

/// The token in the value of an `Authorization` header.
pub fn parse_authorization(value: &[u8]) -> Result<Vec<u8>, TokenError> {
    if value.len() > AUTHORIZATION_BYTES_MAX {
        return Err(TokenError::TooLong);
    }
    let at = value.iter().position(|b| *b == b' ').ok_or(TokenError::Malformed)?;
    let (scheme, rest) = (&value[..at], value[at..].trim_ascii());
    let is = |known: &[&str]| known.iter().any(|k| scheme.eq_ignore_ascii_case(k.as_bytes()));
    let token = if is(&["bearer", "token"]) {
        rest.to_vec()
    } else if is(&["basic", "apikey"]) {
        let pair = STANDARD.decode(rest).map_err(|_| TokenError::Malformed)?;
        let colon = pair.iter().position(|b| *b == b':').ok_or(TokenError::Malformed)?;
        pair[colon + 1..].to_vec()
    } else {
        return Err(TokenError::Scheme);
    };
    if token.is_empty() { Err(TokenError::Malformed) } else { Ok(token) }
}

/// Credentials that cannot be read. Never says what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum TokenError {
    #[error("Authorization is given more than once")]
    Repeated,
    #[error("Authorization is longer than {AUTHORIZATION_BYTES_MAX} bytes")]
    TooLong,
    #[error("Authorization must be Bearer, Basic, Token or ApiKey")]
    Scheme,
    #[error("Authorization cannot be read")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn selects(values: &[&[u8]], expected: &str) {
        let mut headers = HeaderMap::new();
        for value in values {
            match HeaderValue::from_bytes(value) {
                Ok(value) => drop(headers.append("X-SCOPE-OrgID", value)),
                // What no HTTP library lets through must be refused by ourselves as well.
                Err(_) => return assert_eq!(shown(Selection::parse(value)), expected),
            }
        }
        assert_eq!(shown(Selection::from_headers(&headers)), expected);
    }

    fn shown(selection: Result<Selection, SelectionError>) -> String {
        match selection {
            Ok(Selection::Unnamed) => "unnamed".to_owned(),
            Ok(Selection::All) => "all".to_owned(),
            Ok(Selection::Named(names)) => {
                names.iter().map(TenantName::as_str).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn tenants_are_named_by_the_header() {
        selects(&[], "unnamed");
        selects(&[b"a"], "a");
        selects(&[b"a|b"], "a b");
        selects(&[b"b|a|b"], "b a");
        selects(&[b"a|a"], "a");
        selects(&[b"*"], "all");
    }

    #[test]
    fn tricks_with_the_header_are_refused() {
        selects(&[b"a", b"b"], "X-Scope-OrgID is given 2 times");
        selects(&[b"a", b"a", b"a"], "X-Scope-OrgID is given 3 times");
        selects(&[b""], "X-Scope-OrgID: tenant name is empty");
        selects(&[b"|"], "X-Scope-OrgID: tenant name is empty");
        selects(&[b"a|"], "X-Scope-OrgID: tenant name is empty");
        selects(&[b"a||b"], "X-Scope-OrgID: tenant name is empty");
        selects(&[b"*|a"], "X-Scope-OrgID: tenant name \"*\" is reserved");
        selects(&[b".."], "X-Scope-OrgID: tenant name \"..\" is reserved");
        let refused = |name: &str, found: &str| {
            format!(
                "X-Scope-OrgID: tenant name {name:?} contains {found}; allowed are letters, digits and !-_.*'()"
            )
        };
        selects(&[b"a, b"], &refused("a, b", "','"));
        selects(&[b"../b"], &refused("../b", "'/'"));
        selects(&[b"a%2fb"], &refused("a%2fb", "'%'"));
        selects(&[b"a\\b"], &refused("a\\b", "'\\\\'"));
        selects(&[b"a\0b"], &refused("a\0b", "'\\0'"));
        selects(&[b"a\r\nX-Scope-OrgID: b"], &refused("a\r\nX-Scope-OrgID: b", "'\\r'"));
        selects(&[b"a |b"], &refused("a ", "' '"));
        selects(&["ä".as_bytes()], "X-Scope-OrgID is not ASCII text");
        selects(&[b"\xff"], "X-Scope-OrgID is not ASCII text");
        selects(
            &[&[b'x'; 151]],
            "X-Scope-OrgID: tenant name has 151 bytes, at most 150 are allowed",
        );
        let many = |count: usize| vec!["a"; count].join("|").into_bytes();
        selects(&[&many(1_000)], "a");
        selects(&[&many(1_001)], "X-Scope-OrgID names more than 1000 tenants");
    }

    #[track_caller]
    fn shows(value: &str, expected: Result<&str, TokenError>) {
        assert_eq!(
            parse_authorization(value.as_bytes()),
            expected.map(|t| t.as_bytes().to_vec()),
            "{value}"
        );
    }

    #[test]
    fn tokens_are_bearers_or_passwords() {
        shows("Bearer abc", Ok("abc"));
        shows("bEARER   abc", Ok("abc"));
        shows("Basic dXNlcjphYmM=", Ok("abc"));
        shows("Basic OmE6Yg==", Ok("a:b"));
        shows("Basic dXNlcg==", Err(TokenError::Malformed));
        shows("Basic dXNlcjo=", Err(TokenError::Malformed));
        shows("Basic ****", Err(TokenError::Malformed));
        shows("Bearer", Err(TokenError::Malformed));
        shows("Bearer ", Err(TokenError::Malformed));
        shows("", Err(TokenError::Malformed));
        shows("Token abc", Ok("abc"));
        shows("ApiKey aWQ6YWJj", Ok("abc"));
        shows("ApiKey abc", Err(TokenError::Malformed));
        shows("Digest abc", Err(TokenError::Scheme));
        shows(&format!("Bearer {}", "x".repeat(4_096)), Err(TokenError::TooLong));
        let mut headers = HeaderMap::new();
        assert_eq!(token_of(&headers), Ok(None));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert_eq!(token_of(&headers), Ok(Some(b"abc".to_vec())));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer abc"));
        assert_eq!(token_of(&headers), Err(TokenError::Repeated));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(value in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(Selection::Named(names)) = Selection::parse(&value) {
                prop_assert!(!names.is_empty());
                prop_assert!(names.iter().all(|n| TenantName::new(n.as_str()).is_ok()));
            }
            if let Ok(token) = parse_authorization(&value) {
                prop_assert!(!token.is_empty() && token.len() <= value.len());
            }
        }

        #[test]
        fn names_come_back(names in prop::collection::vec("[a-zA-Z0-9!_.'()-]{3,20}", 1..20)) {
            let Ok(Selection::Named(read)) = Selection::parse(names.join("|").as_bytes()) else {
                return Err(TestCaseError::fail("not read"));
            };
            prop_assert!(names.iter().all(|n| read.iter().any(|r| r.as_str() == n)));
            prop_assert!(read.len() <= names.len());
        }
    }
}
