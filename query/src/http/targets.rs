//! Endpoints about what is scraped. No target is scraped on anybody's behalf yet, so every list is
//! empty; parameters are checked all the same.

use super::Question;
use super::documents::Single;
use super::params::invalid;
use super::reply::Reply;
use crate::Error;

fn data(json: &'static [u8]) -> Reply {
    Reply::document(Single::new(|out| out.extend_from_slice(json)))
}

/// `targets`: any `state` that is not known shows neither list, as in Prometheus.
pub(super) fn targets(question: &Question<'_>) -> Reply {
    let state = question.params.get("state").to_lowercase();
    let counted = matches!(state.as_str(), "" | "any" | "dropped");
    data(if counted {
        b"{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":{}}"
    } else {
        b"{\"activeTargets\":[],\"droppedTargets\":[],\"droppedTargetCounts\":null}"
    })
}

/// `targets/metadata`
pub(super) async fn metadata(question: Question<'_>) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, .. } = question;
    params.number("limit", "limit must be a number")?;
    let deadline = querier.deadline(&scope, None)?;
    let selector = params.selector("match_target");
    let work = async |cancel| selector.read(querier, &cancel).await;
    querier.run(&scope, deadline, asked, work).await?.answer.map_err(Error::BadData)?;
    Ok(data(b"[]"))
}

/// `scrape_pools`
pub(super) fn pools() -> Reply {
    data(b"{\"scrapePools\":[]}")
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
