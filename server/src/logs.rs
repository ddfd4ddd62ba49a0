//! The listeners for logs beside HTTP: from the configuration to what they are stored through.

use std::sync::Arc;

use anyhow::{Context, Result};
use ingest::logs::{EntryIntake, Tenant, fluent, syslog};
use tenancy::{Authenticator, TenantName};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::Config;

/// What is wrong with `[logs]`.
pub(crate) fn check(config: &Config) -> Result<()> {
    config.logs.check().map_err(anyhow::Error::msg)?;
    tenant_of("logs.syslog.tenant", &config.logs.syslog.tenant)?;
    tenant_of("logs.fluent.tenant", &config.logs.fluent.tenant)?;
    Ok(())
}

fn tenant_of(key: &str, name: &str) -> Result<TenantName> {
    TenantName::new(name).with_context(|| key.to_owned())
}

/// Open sockets; nothing is taken from them yet.
#[derive(Debug)]
pub(crate) struct Listeners {
    udp: Option<UdpSocket>,
    tcp: Option<TcpListener>,
    fluent: Option<TcpListener>,
}

impl Listeners {
    /// Those that the configuration names.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let (syslog, fluent) = (&config.logs.syslog, &config.logs.fluent);
        let udp =
            match syslog.udp.as_str() {
                "" => None,
                address => Some(UdpSocket::bind(address).await.with_context(|| {
                    format!("listen on {address}, which logs.syslog.udp names")
                })?),
            };
        let tcp = open_tcp("logs.syslog.tcp", &syslog.tcp).await?;
        let fluent = open_tcp("logs.fluent.listen", &fluent.listen).await?;
        Ok(Self { udp, tcp, fluent })
    }

    /// Takes what comes until told to stop.
    pub(crate) fn start(
        self,
        config: &Config,
        intake: &Arc<EntryIntake>,
        who: &Arc<Authenticator>,
        stopping: &watch::Receiver<bool>,
    ) -> Result<Vec<JoinHandle<()>>> {
        let mut tasks = Vec::new();
        let (of_syslog, of_fluent) = (&config.logs.syslog, &config.logs.fluent);
        let tenant = writer(who, tenant_of("logs.syslog.tenant", &of_syslog.tenant)?);
        if let Some(socket) = self.udp {
            let (config, intake) = (of_syslog.clone(), Arc::clone(intake));
            let serving =
                syslog::serve_udp(socket, config, tenant.clone(), intake, stopping.clone());
            tasks.push(tokio::spawn(serving));
        }
        if let Some(listener) = self.tcp {
            let (config, intake) = (of_syslog.clone(), Arc::clone(intake));
            let serving = syslog::serve_tcp(listener, config, tenant, intake, stopping.clone());
            tasks.push(tokio::spawn(serving));
        }
        if let Some(listener) = self.fluent {
            let tenant = writer(who, tenant_of("logs.fluent.tenant", &of_fluent.tenant)?);
            let (config, intake) = (of_fluent.clone(), Arc::clone(intake));
            let serving = fluent::serve(listener, config, tenant, intake, stopping.clone());
            tasks.push(tokio::spawn(serving));
        }
        Ok(tasks)
    }
}

async fn open_tcp(key: &str, address: &str) -> Result<Option<TcpListener>> {
    if address.is_empty() {
        return Ok(None);
    }
    let opened = TcpListener::bind(address).await;
    opened.map(Some).with_context(|| format!("listen on {address}, which {key} names"))
}

/// Writes as one tenant, under the limits it has by then, and not while it is suspended.
fn writer(who: &Arc<Authenticator>, name: TenantName) -> Tenant {
    let who = Arc::clone(who);
    Tenant::new(move || {
        let scope = who.internal_write_scope(&name).map_err(|e| e.to_string())?;
        let scope = who.write_scope_of(scope.tenant()).map_err(|e| e.to_string())?;
        scope.ok_or_else(|| format!("tenant {name} takes no writes"))
    })
}
