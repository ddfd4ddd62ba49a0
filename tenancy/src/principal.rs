//! Principals: whoever a credential stands for, with what was granted to them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use model::{MatchOp, Matcher};
use serde::Deserialize;

use crate::{Actor, TenantName};

/// The tenant of a grant that stands for all of them.
const ALL_TENANTS: &str = "*";

/// One grant, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantConfig {
    /// Name of a tenant, or `*` for all of them, also those that come later.
    pub tenant: String,
    /// What may be done.
    pub access: Access,
    /// Which series may be read: those for which all matchers of at least one alternative hold.
    /// Left out: all. Each matcher is a text such as `namespace="ns1"` or `cluster=~'a|b'`.
    pub alternatives: Option<Vec<Vec<String>>>,
}

/// What a grant allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Asking.
    Read,
    /// Sending.
    Write,
    /// Both.
    ReadWrite,
    /// Both, and changing the tenant's settings; over `*`: administering the platform.
    Admin,
}

impl Access {
    pub(crate) fn reads(self) -> bool {
        self != Self::Write
    }

    pub(crate) fn writes(self) -> bool {
        self != Self::Read
    }
}

/// What is wrong with a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the texts say it")]
pub enum GrantError {
    #[error("no grants: it could do nothing")]
    None,
    #[error("{0}")]
    Name(#[from] crate::NameError),
    #[error(
        "alternatives restrict reading only; give tenant {0} access \"read\" here and writing in another grant"
    )]
    RestrictedWrite(String),
    #[error(
        "alternatives of tenant {0} are an empty list, which would allow nothing; leave the key out to allow all"
    )]
    NoAlternative(String),
    #[error(
        "an alternative of tenant {0} has no matcher, which would allow everything; leave the key out to say so"
    )]
    NoMatcher(String),
    #[error("matcher {text:?} of tenant {tenant}: {reason}")]
    Matcher { tenant: String, text: String, reason: String },
}

/// Alternatives of matchers that must all hold; empty: every series.
pub(crate) type Alternatives = Arc<[Vec<Matcher>]>;

/// What is allowed in one tenant, or in all.
#[derive(Debug, Clone, Default)]
struct Allowed {
    read: Option<Alternatives>,
    write: bool,
    admin: bool,
}

/// Who is asking, and what they may do. Only an [`Authenticator`](crate::Authenticator) makes one.
#[derive(Clone)]
pub struct Principal {
    name: Arc<str>,
    from: Option<IpAddr>,
    is_routed: bool,
    tenants: Arc<BTreeMap<TenantName, Allowed>>,
    everywhere: Arc<Allowed>,
}

impl Principal {
    /// Somebody with these grants.
    pub(crate) fn new(name: &str, grants: &[GrantConfig]) -> Result<Self, GrantError> {
        if grants.is_empty() {
            return Err(GrantError::None);
        }
        let (mut tenants, mut everywhere) =
            (BTreeMap::<TenantName, Allowed>::new(), Allowed::default());
        for grant in grants {
            let read = alternatives_of(grant)?;
            if grant.tenant == ALL_TENANTS {
                everywhere.add(grant.access, read);
            } else {
                tenants.entry(TenantName::new(&grant.tenant)?).or_default().add(grant.access, read);
            }
        }
        let (tenants, everywhere) = (Arc::new(tenants), Arc::new(everywhere));
        Ok(Self { name: name.into(), from: None, is_routed: false, tenants, everywhere })
    }

    /// Somebody who may do everything: whoever reaches a server without authentication.
    pub(crate) fn unrestricted(name: &str) -> Self {
        let mut everywhere = Allowed::default();
        everywhere.add(Access::Admin, Alternatives::default());
        let everywhere = Arc::new(everywhere);
        Self {
            name: name.into(),
            from: None,
            is_routed: false,
            tenants: Arc::default(),
            everywhere,
        }
    }

    /// The name of the credential, for messages and audit records.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same, its rows routed by cluster and namespace; `None` if they may not go everywhere.
    pub(crate) fn routed(self, is_routed: bool) -> Option<Self> {
        (!is_routed || self.everywhere.write).then_some(Self { is_routed, ..self })
    }

    /// Whether writes that name no tenant are routed.
    pub(crate) fn is_routed(&self) -> bool {
        self.is_routed
    }

    /// The same, asking from an address.
    pub(crate) fn at(self, from: Option<IpAddr>) -> Self {
        Self { from, ..self }
    }

    /// Who asks, for audit records.
    pub fn actor(&self) -> Actor {
        Actor { name: self.name.to_string(), from: self.from }
    }

    /// Whether this is an administrator of the platform: `admin` over `*`.
    pub fn is_administrator(&self) -> bool {
        self.everywhere.admin
    }

    /// Whether this principal may change one tenant's settings.
    pub fn administers(&self, tenant: &TenantName) -> bool {
        self.everywhere.admin || self.tenants.get(tenant).is_some_and(|t| t.admin)
    }

    /// What may be read of a tenant; `None`: nothing.
    pub(crate) fn reads(&self, tenant: &TenantName) -> Option<Alternatives> {
        let named = self.tenants.get(tenant).and_then(|t| t.read.as_ref());
        either(named, self.everywhere.read.as_ref())
    }

    /// What may be read of any tenant; `None`: they must be named.
    pub(crate) fn reads_everywhere(&self) -> Option<&Alternatives> {
        self.everywhere.read.as_ref()
    }

    /// Whether what may be read of some tenant differs from what may be read of all.
    pub(crate) fn has_grants_by_name(&self) -> bool {
        !self.tenants.is_empty()
    }

    /// Whether rows may be sent to a tenant.
    pub(crate) fn writes(&self, tenant: &TenantName) -> bool {
        self.everywhere.write || self.writes_by_name(tenant)
    }

    /// Whether a grant names the tenant for writing, so that it is meant to exist.
    pub(crate) fn writes_by_name(&self, tenant: &TenantName) -> bool {
        self.tenants.get(tenant).is_some_and(|t| t.write)
    }

    /// The tenant meant when a request names none: the only one there could be.
    pub(crate) fn only_tenant(&self, access: Access) -> Result<&TenantName, NoSingleTenant> {
        let fits = |allowed: &Allowed| {
            if access.writes() { allowed.write } else { allowed.read.is_some() }
        };
        if fits(&self.everywhere) {
            return Err(NoSingleTenant::Several);
        }
        let mut named =
            self.tenants.iter().filter(|(_, allowed)| fits(allowed)).map(|(name, _)| name);
        match (named.next(), named.next()) {
            (Some(only), None) => Ok(only),
            (Some(_), Some(_)) => Err(NoSingleTenant::Several),
            (None, _) => Err(NoSingleTenant::None),
        }
    }
}

/// Why no tenant follows from the credential alone.
pub(crate) enum NoSingleTenant {
    None,
    Several,
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Allowed {
    fn add(&mut self, access: Access, read: Alternatives) {
        self.write |= access.writes();
        self.admin |= access == Access::Admin;
        if access.reads() {
            self.read = either(self.read.as_ref(), Some(&read));
        }
    }
}

/// What one of two grants allows.
fn either(a: Option<&Alternatives>, b: Option<&Alternatives>) -> Option<Alternatives> {
    match (a, b) {
        (Some(a), Some(b)) if a.is_empty() || b.is_empty() => Some(Alternatives::default()),
        (Some(a), Some(b)) => Some(a.iter().chain(b.iter()).cloned().collect()),
        (a, b) => a.or(b).cloned(),
    }
}

fn alternatives_of(grant: &GrantConfig) -> Result<Alternatives, GrantError> {
    let tenant = || grant.tenant.clone();
    let Some(alternatives) = &grant.alternatives else { return Ok(Alternatives::default()) };
    if grant.access != Access::Read {
        return Err(GrantError::RestrictedWrite(tenant()));
    }
    if alternatives.is_empty() {
        return Err(GrantError::NoAlternative(tenant()));
    }
    if alternatives.iter().any(Vec::is_empty) {
        return Err(GrantError::NoMatcher(tenant()));
    }
    let matcher = |text: &String| {
        parse_matcher(text).map_err(|reason| GrantError::Matcher {
            tenant: tenant(),
            text: text.clone(),
            reason,
        })
    };
    alternatives.iter().map(|all| all.iter().map(matcher).collect()).collect()
}

/// One matcher as in PromQL: `name="value"`, `!=`, `=~`, `!~`; the value in double or single
/// quotes with `\\`, `\"`, `\'`, `\n`, `\t` escaped.
fn parse_matcher(text: &str) -> Result<Matcher, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("it does not start with a label name".to_owned());
    }
    let rest = rest.trim_start();
    let operators = [
        ("=~", MatchOp::Regex),
        ("!~", MatchOp::NotRegex),
        ("!=", MatchOp::NotEqual),
        ("=", MatchOp::Equal),
    ];
    let (op, value) = operators
        .iter()
        .find_map(|(sign, op)| rest.strip_prefix(sign).map(|value| (*op, value.trim_start())))
        .ok_or("after the label name there is none of =, !=, =~, !~")?;
    Matcher::new(op, name, unquoted(value)?).map_err(|e| e.to_string())
}

fn unquoted(text: &str) -> Result<String, String> {
    let mut chars = text.chars();
    let quote =
        chars.next().filter(|c| *c == '"' || *c == '\'').ok_or("the value is not quoted")?;
    let mut value = String::new();
    loop {
        match chars.next().ok_or("the value's quote is not closed")? {
            '\\' => value.push(match chars.next() {
                Some('n') => '\n',
                Some('t') => '\t',
                Some(c @ ('\\' | '"' | '\'')) => c,
                other => return Err(format!("unknown escape \\{}", other.unwrap_or(' '))),
            }),
            c if c == quote => break,
            c => value.push(c),
        }
    }
    if chars.as_str().is_empty() {
        Ok(value)
    } else {
        Err("something follows the value".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn matcher(text: &str, shown: &str) {
        assert_eq!(parse_matcher(text).map_or_else(|e| e, |m| m.to_string()), shown, "{text}");
    }

    #[test]
    fn matchers_are_read() {
        matcher(r#"namespace="ns1""#, r#"namespace="ns1""#);
        matcher(r#" a_1 =~ 'x|y' "#, r#"a_1=~"x|y""#);
        matcher(r#"a!="""#, r#"a!="""#);
        matcher(r#"a!~"b\\.\"\n""#, r#"a!~"b\\.\"\n""#);
        matcher("a", "after the label name there is none of =, !=, =~, !~");
        matcher("a==\"b\"", "the value is not quoted");
        matcher("1a=\"b\"", "it does not start with a label name");
        matcher("", "it does not start with a label name");
        matcher("a=b", "the value is not quoted");
        matcher("a=\"b", "the value's quote is not closed");
        matcher("a=\"b\", c=\"d\"", "something follows the value");
        matcher("a=\"\\x\"", "unknown escape \\x");
        assert!(parse_matcher("a=~\"(\"").is_err());
    }

    fn grant(tenant: &str, access: Access, alternatives: Option<&[&[&str]]>) -> GrantConfig {
        let texts = |all: &[&[&str]]| {
            all.iter().map(|m| m.iter().map(|t| (*t).to_owned()).collect()).collect()
        };
        GrantConfig { tenant: tenant.to_owned(), access, alternatives: alternatives.map(texts) }
    }

    #[track_caller]
    fn refused(grants: &[GrantConfig], text: &str) {
        assert_eq!(Principal::new("p", grants).expect_err(text).to_string(), text);
    }

    #[test]
    fn senseless_grants_are_refused() {
        refused(&[], "no grants: it could do nothing");
        refused(&[grant("", Access::Read, None)], "tenant name is empty");
        for access in [Access::Write, Access::ReadWrite, Access::Admin] {
            refused(
                &[grant("a", access, Some(&[&["x=\"1\""]]))],
                "alternatives restrict reading only; give tenant a access \"read\" here and writing in another grant",
            );
        }
        refused(
            &[grant("a", Access::Read, Some(&[]))],
            "alternatives of tenant a are an empty list, which would allow nothing; leave the key out to allow all",
        );
        refused(
            &[grant("*", Access::Read, Some(&[&["x=\"1\""], &[]]))],
            "an alternative of tenant * has no matcher, which would allow everything; leave the key out to say so",
        );
        refused(
            &[grant("a", Access::Read, Some(&[&["x"]]))],
            "matcher \"x\" of tenant a: after the label name there is none of =, !=, =~, !~",
        );
    }

    #[test]
    fn grants_add_up() {
        let name = |name| TenantName::new(name).unwrap();
        let shown = |p: &Principal, tenant| p.reads(&name(tenant)).map(|a| format!("{a:?}"));
        let restricted =
            |value: &str| grant("a", Access::Read, Some(&[&[&format!("n=\"{value}\"")]]));
        let two = Principal::new(
            "p",
            &[restricted("1"), restricted("2"), grant("b", Access::Write, None)],
        )
        .unwrap();
        assert_eq!(shown(&two, "a").as_deref(), Some(r#"[[n="1"], [n="2"]]"#));
        assert_eq!(
            (shown(&two, "b"), two.writes(&name("b")), two.writes(&name("a"))),
            (None, true, false)
        );
        let whole =
            Principal::new("p", &[restricted("1"), grant("a", Access::ReadWrite, None)]).unwrap();
        assert_eq!(
            shown(&whole, "a").as_deref(),
            Some("[]"),
            "one grant without restriction is enough"
        );
        let wide = Principal::new(
            "p",
            &[restricted("1"), grant("*", Access::Read, Some(&[&["n=\"9\""]]))],
        )
        .unwrap();
        assert_eq!(shown(&wide, "a").as_deref(), Some(r#"[[n="1"], [n="9"]]"#));
        assert_eq!(shown(&wide, "z").as_deref(), Some(r#"[[n="9"]]"#));
        let tenant_admin = Principal::new("p", &[grant("a", Access::Admin, None)]).unwrap();
        assert!(tenant_admin.administers(&name("a")) && !tenant_admin.administers(&name("b")));
        assert!(
            !tenant_admin.is_administrator() && Principal::unrestricted("x").is_administrator()
        );
        assert_eq!(format!("{two:?}"), r#"Principal { name: "p", .. }"#);
    }
}
