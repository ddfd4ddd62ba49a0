//! The targets that are scraped: from the configuration to the scraper, and from the scraper to the
//! API.

use std::sync::Arc;

use anyhow::{Context, Result};
use ingest::relabel::{Rule, Step};
use ingest::scrape::{
    Defaults, PreparedJobs, RowsOf, ScopeOfRows, ScrapeFile, Scraper, TargetStatus,
};
use model::{Labels, Matcher};
use query::{FamiliesAsked, Targets, TargetsAsked};
use serde_json::{Map, Value, json};
use tenancy::{Authenticator, ReadScope, TenantId, TenantName, TenantRead};

use crate::config::Config;
use crate::reload::{Commit, Reload};
use crate::routes::Doors;

/// A scraper of what the configuration names, at work.
pub(crate) fn start(
    config: &Config,
    doors: &Doors,
    authenticator: &Arc<Authenticator>,
) -> Result<Arc<Scraper>> {
    let who = Arc::clone(authenticator);
    let scope_of: ScopeOfRows = Arc::new(move |whose| match whose {
        RowsOf::Namespaces => who.internal_routed_scope().map(Some),
        RowsOf::Tenant(name) => {
            let scope = who.internal_write_scope(name)?;
            // Not while the tenant is suspended.
            who.write_scope_of(scope.tenant())
        }
    });
    let scraper = Arc::new(Scraper::new(Arc::clone(&doors.intake), scope_of));
    scraper.take_over(prepare(&scraper, config)?);
    Ok(scraper)
}

fn prepare(scraper: &Scraper, config: &Config) -> Result<PreparedJobs> {
    let file = read(config)?;
    for note in &file.notes {
        tracing::warn!(note, "scrape configuration");
    }
    let tenant = &config.tenancy.default_tenant;
    let defaults = Defaults {
        tenant: TenantName::new(tenant).context("tenancy.default_tenant")?,
        cluster: config.ingest.cluster.clone(),
    };
    scraper.prepare(&file, &defaults).context("ingest.scrape.config_file")
}

/// The jobs that the configuration names; none if it names no file.
pub(crate) fn read(config: &Config) -> Result<ScrapeFile> {
    let file = &config.ingest.scrape.config_file;
    match file.as_os_str().is_empty() {
        true => Ok(ScrapeFile::default()),
        false => ScrapeFile::read(file).context("ingest.scrape.config_file"),
    }
}

/// The scraper as a part that goes on under another configuration.
pub(crate) struct Reloaded(pub(crate) Arc<Scraper>);

impl Reload for Reloaded {
    fn keys(&self) -> &'static [&'static str] {
        &["ingest.scrape"]
    }

    fn prepare(&self, config: &Config) -> Result<Commit> {
        let (scraper, prepared) = (Arc::clone(&self.0), prepare(&self.0, config)?);
        Ok(Box::new(move || scraper.take_over(prepared)))
    }
}

/// What the API tells of targets.
pub(crate) struct Told(pub(crate) Arc<Scraper>);

/// Whether a scope reads a tenant, whole or in part.
fn reads(scope: &ReadScope, tenant: TenantId) -> Option<&TenantRead> {
    scope.tenants().iter().find(|read| read.id == tenant)
}

/// Whether a scope may see a target: its labels are on all of its series.
fn may_see(scope: &ReadScope, tenant: TenantId, labels: &Labels) -> bool {
    reads(scope, tenant).is_some_and(|read| read.allows(labels))
}

/// Whether a scope may see what has no labels of series: dropped targets, names of jobs, rules.
fn may_see_all(scope: &ReadScope, tenant: TenantId) -> bool {
    reads(scope, tenant).is_some_and(|read| read.alternatives.is_empty())
}

impl Targets for Told {
    fn targets(&self, scope: &ReadScope, asked: &TargetsAsked) -> Value {
        let active = match asked.active {
            true => self.0.targets(&asked.pool, |tenant, labels| may_see(scope, tenant, labels)),
            false => Vec::new(),
        };
        let (dropped, counts) = match asked.dropped {
            true => self.0.dropped(&asked.pool, |tenant| may_see_all(scope, tenant)),
            false => (Vec::new(), Vec::new()),
        };
        let dropped = dropped.iter().map(
            |one| json!({ "discoveredLabels": labels(&one.discovered), "scrapePool": one.pool }),
        );
        let counts: Map<String, Value> =
            counts.into_iter().map(|(pool, count)| (pool, count.into())).collect();
        json!({
            "activeTargets": active.iter().map(target).collect::<Vec<_>>(),
            "droppedTargets": dropped.collect::<Vec<_>>(),
            "droppedTargetCounts": if asked.dropped { Value::Object(counts) } else { Value::Null },
        })
    }

    fn pools(&self, scope: &ReadScope) -> Value {
        json!({ "scrapePools": self.0.pool_names(|tenant| may_see_all(scope, tenant)) })
    }

    fn families(&self, scope: &ReadScope, asked: &FamiliesAsked) -> Value {
        let matches = |labels: &Labels| {
            let holds = |m: &Matcher| m.matches(labels.get(m.name()).unwrap_or(""));
            asked.matchers.iter().all(holds)
        };
        let may = |tenant, labels: &Labels| may_see(scope, tenant, labels) && matches(labels);
        let found = self.0.families(&asked.family, asked.limit, may);
        let shown = found.iter().map(|one| {
            let mut told = json!({
                "target": labels(&one.target),
                "type": one.kind.as_str(),
                "help": one.help,
                "unit": one.unit,
            });
            if asked.family.is_empty() {
                told["metric"] = one.family.clone().into();
            }
            told
        });
        Value::Array(shown.collect())
    }

    fn relabel_steps(&self, scope: &ReadScope, pool: &str, of: &Labels) -> Option<Value> {
        let may = |tenant| may_see_all(scope, tenant);
        self.0.relabel_steps(
            pool,
            of,
            may,
            |steps| json!({ "steps": steps.iter().map(step).collect::<Vec<_>>() }),
        )
    }
}

fn labels(labels: &Labels) -> Value {
    Value::Object(labels.iter().map(|(name, value)| (name.to_owned(), value.into())).collect())
}

fn target(one: &TargetStatus) -> Value {
    // Before the first scrape Go's zero time, as in Prometheus.
    let last = match one.last_scrape_ms {
        0 => "0001-01-01T00:00:00Z".to_owned(),
        ms => query::http::rfc3339_text(ms),
    };
    json!({
        "discoveredLabels": labels(&one.discovered),
        "labels": labels(&one.labels),
        "scrapePool": one.pool,
        "scrapeUrl": one.url,
        "globalUrl": one.url,
        "lastError": one.last_error,
        "lastScrape": last,
        "lastScrapeDuration": one.last_seconds,
        "health": one.health.as_str(),
        "scrapeInterval": ingest::scrape::shown_duration(one.interval_ms),
        "scrapeTimeout": ingest::scrape::shown_duration(one.timeout_ms),
    })
}

fn step(step: &Step<'_>) -> Value {
    json!({ "rule": rule(step.rule), "output": labels(&step.output), "keep": step.is_kept })
}

/// A rule with the names that its fields have in Prometheus' JSON.
fn rule(rule: &Rule) -> Value {
    let mut told = json!({
        "separator": rule.separator,
        "regex": rule.pattern.text(),
        "replacement": rule.replacement,
        "action": rule.action.as_str(),
    });
    if !rule.source_labels.is_empty() {
        told["sourceLabels"] = rule.source_labels.clone().into();
    }
    if rule.modulus > 0 {
        told["modulus"] = rule.modulus.into();
    }
    if !rule.target_label.is_empty() {
        told["targetLabel"] = rule.target_label.clone().into();
    }
    told
}
