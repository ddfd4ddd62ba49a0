//! What the configuration and the token file say, and who a request is from by them.

use std::collections::HashMap;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ANONYMOUS;
use crate::asked::{Asked, CertificateName};
use crate::config::{AuthenticationMode, Config, ConfigError, TokenFile};
use crate::overrides::LimitsTable;
use crate::principal::{Access, NoSingleTenant, Principal};
use crate::selection::{self, Selection};
use crate::{Refusal, TenantName};

/// What the configuration says.
#[derive(Debug)]
pub(crate) struct Rules {
    /// `None`: nobody is asked for credentials.
    credentials: Option<Credentials>,
    anonymous: Principal,
    default_tenant: TenantName,
    tenants_max: usize,
    pub(crate) limits: LimitsTable,
}

/// What proves who somebody is.
#[derive(Debug)]
struct Credentials {
    tokens: Vec<Credential>,
    certificates: HashMap<CertificateName, Principal>,
}

#[derive(Debug)]
struct Credential {
    sha256: [u8; 32],
    principal: Principal,
}

impl Rules {
    pub(super) fn new(config: &Config, tokens: &TokenFile) -> Result<Self, ConfigError> {
        let credentials = match config.mode {
            AuthenticationMode::None => None,
            AuthenticationMode::Token => {
                let checked = crate::config::check_tokens(tokens)?.into_iter();
                let tokens_of = checked.map(|(sha256, principal)| Credential { sha256, principal });
                Some(Credentials {
                    tokens: tokens_of.collect(),
                    certificates: crate::config::check_certificates(tokens)?,
                })
            }
        };
        Ok(Self {
            credentials,
            anonymous: Principal::unrestricted(ANONYMOUS)
                .routed(config.route_unnamed)
                .expect("whoever may do everything may write everywhere"),
            default_tenant: TenantName::new(&config.default_tenant)
                .map_err(ConfigError::DefaultTenant)?,
            tenants_max: config.tenants_max,
            limits: LimitsTable::new(&config.limits)?,
        })
    }

    pub(super) fn principal(&self, asked: Asked<'_>) -> Result<Principal, Refusal> {
        let from = asked.peer.map(|peer| peer.address.ip());
        let Some(credentials) = &self.credentials else {
            return Ok(self.anonymous.clone().at(from));
        };
        let Some(token) = selection::token_of(asked.headers)? else {
            return credentials.of_certificate(asked).map(|principal| principal.at(from));
        };
        let shown: [u8; 32] = Sha256::digest(&token).into();
        // All are compared, and each in constant time: how long it takes tells nothing.
        let mut found = None;
        for credential in &credentials.tokens {
            if bool::from(credential.sha256.ct_eq(&shown)) {
                found = Some(credential);
            }
        }
        found.map(|c| c.principal.clone().at(from)).ok_or(Refusal::UnknownToken)
    }

    /// The tenant of a request that names none.
    pub(super) fn tenant_meant(
        &self,
        principal: &Principal,
        access: Access,
    ) -> Result<TenantName, Refusal> {
        if self.credentials.is_none() {
            return Ok(self.default_tenant.clone());
        }
        principal.only_tenant(access).cloned().map_err(|why| match why {
            NoSingleTenant::Several => Refusal::NoTenant,
            NoSingleTenant::None => {
                let verb = if access.writes() { "write" } else { "read" };
                Refusal::Nothing { principal: principal.name().to_owned(), verb }
            }
        })
    }

    /// The tenant a request writes to, and how many there may be if it is a new one. Tenants that
    /// a grant names are meant to exist and are not bounded. `None`: rows are routed.
    pub(super) fn tenant_to_write(
        &self,
        asked: Asked<'_>,
    ) -> Result<Option<(TenantName, usize)>, Refusal> {
        let principal = self.principal(asked)?;
        let name = match Selection::from_headers(asked.headers)? {
            Selection::Unnamed if principal.is_routed() => return Ok(None),
            Selection::Unnamed => self.tenant_meant(&principal, Access::Write)?,
            Selection::Named(mut names) if names.len() == 1 => names.remove(0),
            Selection::Named(_) | Selection::All => return Err(Refusal::SeveralForWrite),
        };
        if !principal.writes(&name) {
            return Err(Refusal::Write { principal: principal.name().to_owned(), tenant: name });
        }
        let tenants_max =
            if principal.writes_by_name(&name) { usize::MAX } else { self.tenants_max };
        Ok(Some((name, tenants_max)))
    }
}

impl Credentials {
    /// Who shows a certificate and no token.
    fn of_certificate(&self, asked: Asked<'_>) -> Result<Principal, Refusal> {
        let shown = asked.peer.and_then(|peer| peer.certificate.as_deref());
        let shown = shown.ok_or(Refusal::NoCredentials)?;
        let known = shown.all().find_map(|name| self.certificates.get(&name));
        let unknown = || Refusal::UnknownCertificate { subject: shown.subject.clone() };
        known.cloned().ok_or_else(unknown)
    }
}
