//! Endpoints about what is scraped. Where nothing is, lists are empty; parameters are checked all
//! the same.

use std::collections::BTreeMap;

use model::Labels;
use serde_json::Value;

use super::Question;
use super::documents::Single;
use super::params::invalid;
use super::reply::Reply;
use crate::targets::{FamiliesAsked, TargetsAsked};
use crate::{Error, Targets};

fn data(json: &'static [u8]) -> Reply {
    Reply::document(Single::new(|out| out.extend_from_slice(json)))
}

/// What the scraper tells, or what there is to say without one.
fn told(
    question: &Question<'_>,
    without: &'static [u8],
    ask: impl FnOnce(&dyn Targets) -> Value,
) -> Reply {
    match question.querier.targets() {
        None => data(without),
        Some(targets) => {
            let told = ask(targets).to_string();
            Reply::document(Single::new(|out| out.extend_from_slice(told.as_bytes())))
        }
    }
}

/// `targets`: any `state` that is not known shows neither list, as in Prometheus.
pub(super) fn targets(question: &Question<'_>) -> Reply {
    let state = question.params.get("state").to_lowercase();
    let asked = TargetsAsked {
        active: matches!(state.as_str(), "" | "any" | "active"),
        dropped: matches!(state.as_str(), "" | "any" | "dropped"),
        pool: question.params.get("scrapePool").to_owned(),
    };
    let without: &[u8] = if asked.dropped {
        b"{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}"
    } else {
        b"{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":null}"
    };
    told(question, without, |targets| targets.targets(&question.scope, &asked))
}

/// `targets/metadata`
pub(super) async fn metadata(question: Question<'_>) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, .. } = &question;
    params.number("limit", "limit must be a number")?;
    let limit = params.get("limit").parse::<usize>().unwrap_or(usize::MAX);
    let deadline = querier.deadline(scope, None)?;
    let selector = params.selector("match_target");
    let work = async |cancel| selector.read(querier, &cancel).await;
    let read = querier.run(scope, deadline, asked, work).await?.answer;
    let read = read.map_err(|reason| invalid("match_target", &reason))?;
    let asked = FamiliesAsked {
        matchers: read.into_iter().next().unwrap_or_default(),
        family: params.get("metric").to_owned(),
        limit,
    };
    Ok(told(&question, b"[]", |targets| targets.families(scope, &asked)))
}

/// `scrape_pools`
pub(super) fn pools(question: &Question<'_>) -> Reply {
    told(question, b"{\"scrapePools\":[]}", |targets| targets.pools(&question.scope))
}

/// `targets/relabel_steps`: what the rules of a job do with labels, one by one.
pub(super) fn relabel_steps(question: &Question<'_>) -> Result<Reply, Error> {
    let bad = |what: String| Error::BadData(what);
    let pool = question.params.get("scrapePool");
    if pool.is_empty() {
        return Err(bad("no scrapePool parameter provided".to_owned()));
    }
    let labels = question.params.get("labels");
    if labels.is_empty() {
        return Err(bad("no labels parameter provided".to_owned()));
    }
    let labels: BTreeMap<String, String> =
        serde_json::from_str(labels).map_err(|e| bad(format!("error parsing labels: {e}")))?;
    let labels = Labels::from_pairs(&labels);
    let targets = question.querier.targets();
    let told = targets.and_then(|t| t.relabel_steps(&question.scope, pool, &labels));
    let told = told.ok_or_else(|| bad(format!("scrape pool {pool:?} not found")))?.to_string();
    Ok(Reply::document(Single::new(|out| out.extend_from_slice(told.as_bytes()))))
}

/// `alertmanagers`: none are sent to.
pub(super) fn alertmanagers() -> Reply {
    data(b"{\"activeAlertmanagers\":[],\"droppedAlertmanagers\":[]}")
}

/// `alerts`: there is no rule evaluator yet, so there are none.
pub(super) fn alerts() -> Reply {
    data(b"{\"alerts\":[]}")
}

/// `rules`: as [`alerts`].
pub(super) async fn rules(question: Question<'_>) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, .. } = question;
    let selectors = params.selectors()?;
    let deadline = querier.deadline(&scope, None)?;
    let work = async |cancel| selectors.read(querier, &cancel).await;
    querier.run(&scope, deadline, asked, work).await?.answer.map_err(Error::BadData)?;
    let kind = params.get("type").to_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return Err(invalid(
            "type",
            &format!("not supported value {}", super::params::quoted(&kind)),
        ));
    }
    check_exclude_alerts(&params.get("exclude_alerts").to_lowercase())?;
    check_pages(params.get("group_limit"), params.get("group_next_token"))?;
    Ok(data(b"{\"groups\":[]}"))
}

/// A boolean as Go's `strconv.ParseBool` reads it.
fn check_exclude_alerts(text: &str) -> Result<(), Error> {
    if matches!(text, "" | "1" | "t" | "true" | "0" | "f" | "false") {
        return Ok(());
    }
    let shown = super::params::quoted(text);
    let reason = format!(
        "error converting exclude_alerts: strconv.ParseBool: parsing {shown}: invalid syntax"
    );
    Err(invalid("exclude_alerts", &reason))
}

/// There are no groups, so whatever token a client has is of groups that are gone.
fn check_pages(limit: &str, token: &str) -> Result<(), Error> {
    if limit.is_empty() {
        if token.is_empty() {
            return Ok(());
        }
        let reason = "group_limit needs to be present in order to paginate over the groups";
        return Err(invalid("group_next_token", reason));
    }
    let number = limit.parse::<i32>();
    if let Err(error) = &number {
        let overflow = *error.kind() == std::num::IntErrorKind::PosOverflow
            || *error.kind() == std::num::IntErrorKind::NegOverflow;
        let why = if overflow { "value out of range" } else { "invalid syntax" };
        let shown = super::params::quoted(limit);
        let reason = format!(
            "group_limit needs to be a valid number: strconv.ParseInt: parsing {shown}: {why}"
        );
        return Err(invalid("group_limit", &reason));
    }
    if number.is_ok_and(|n| n <= 0) {
        return Err(invalid("group_limit", "group_limit needs to be greater than 0"));
    }
    if token.is_empty() {
        return Ok(());
    }
    let reason = format!("invalid group_next_token '{token}'. were rule groups changed?");
    Err(invalid("group_next_token", &reason))
}
