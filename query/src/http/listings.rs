//! Endpoints that list what there is: `series`, `labels`, `label/{name}/values`, `metadata`.

use model::{Metadata, TimeRange};

use super::Question;
use super::documents::{List, Notes, Single};
use super::json::{comma, push_labels, push_string};
use super::params::{Selectors, invalid, quoted};
use super::reply::Reply;
use crate::{Cancel, Error, Querier, SeriesRequest};

/// `series`
pub(super) async fn series(question: Question<'_>) -> Result<Reply, Error> {
    if question.params.all("match[]").next().is_none() {
        return Err(Error::BadData("no match[] parameter provided".to_owned()));
    }
    let (asked, wanted) = (question.asked(), Wanted::of(&question)?);
    let Question { querier, scope, .. } = question;
    let deadline = querier.deadline(&scope, None)?;
    let work = async |cancel| {
        let request = wanted.read(querier, cancel, |reason| invalid("match[]", &reason)).await?;
        querier.executor().series(&scope, request).await
    };
    let found = querier.run(&scope, deadline, asked, work).await?;
    let notes = Notes::truncated(found.answer.truncated);
    Ok(Reply::document(List::new(found.answer.items, notes, push_labels)))
}

/// `labels`
pub(super) async fn label_names(question: Question<'_>) -> Result<Reply, Error> {
    let (asked, wanted) = (question.asked(), Wanted::of(&question)?);
    let Question { querier, scope, .. } = question;
    let deadline = querier.deadline(&scope, None)?;
    let work = async |cancel| {
        let request = wanted.read(querier, cancel, Error::BadData).await?;
        querier.executor().label_names(&scope, request).await
    };
    Ok(strings(querier.run(&scope, deadline, asked, work).await?.answer))
}

/// `label/{name}/values`
pub(super) async fn label_values(question: Question<'_>) -> Result<Reply, Error> {
    let name = unescaped(&question.named);
    if name.is_empty() {
        return Err(Error::BadData(format!("invalid label name: {}", quoted(&name))));
    }
    let (asked, wanted) = (question.asked(), Wanted::of(&question)?);
    let Question { querier, scope, .. } = question;
    let deadline = querier.deadline(&scope, None)?;
    let work = async |cancel| {
        let request = wanted.read(querier, cancel, Error::BadData).await?;
        querier.executor().label_values(&scope, &name, request).await
    };
    Ok(strings(querier.run(&scope, deadline, asked, work).await?.answer))
}

fn strings(listing: crate::Listing<String>) -> Reply {
    let notes = Notes::truncated(listing.truncated);
    Reply::document(List::new(listing.items, notes, |out, text| push_string(out, text)))
}

/// The parameters all three have.
struct Wanted {
    selectors: Selectors,
    range: TimeRange,
    limit: Option<usize>,
}

impl Wanted {
    fn of(question: &Question<'_>) -> Result<Self, Error> {
        let params = &question.params;
        let limit = params.limit()?;
        let range = params.range()?;
        Ok(Self { selectors: params.selectors()?, range, limit })
    }

    async fn read(
        self,
        querier: &Querier,
        cancel: Cancel,
        refused: fn(String) -> Error,
    ) -> Result<SeriesRequest, Error> {
        let Self { selectors, range, limit } = self;
        let selectors = selectors.read(querier, &cancel).await?.map_err(refused)?;
        Ok(SeriesRequest { selectors, range, limit, cancel })
    }
}

/// A label name as clients that know only the old alphabet write it: `U__http_2e_status` is
/// `http.status`, `__` an underscore. What is not well-formed stays as it is, as in Prometheus.
fn unescaped(name: &str) -> String {
    name.strip_prefix("U__").and_then(decoded).unwrap_or_else(|| name.to_owned())
}

fn decoded(escaped: &str) -> Option<String> {
    let mut out = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        let (code, after) = rest[at + 1..].split_once('_')?;
        rest = after;
        if code.is_empty() {
            out.push('_');
            continue;
        }
        let hexadecimal = code.len() <= 6 && code.bytes().all(|b| b.is_ascii_hexdigit());
        let number = hexadecimal.then(|| u32::from_str_radix(code, 16).ok()).flatten()?;
        out.push(char::from_u32(number)?);
    }
    out.push_str(rest);
    Some(out)
}

/// `metadata`
pub(super) async fn metadata(question: Question<'_>) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, params, .. } = question;
    let at_most = |name: &str| -> Result<usize, Error> {
        let number = params.number(name, &format!("{name} must be a number"))?;
        Ok(number.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX)))
    };
    let limit = at_most("limit")?;
    // Of one metric, 0 means all; of all metrics, 0 means none. So says Prometheus.
    let per_metric = Some(at_most("limit_per_metric")?).filter(|n| *n > 0).unwrap_or(usize::MAX);
    if scope.is_restricted() {
        return Err(restricted("metadata of metrics"));
    }
    let metric = Some(params.get("metric")).filter(|name| !name.is_empty());
    let deadline = querier.deadline(&scope, None)?;
    let found = querier
        .run(&scope, deadline, asked, async |cancel| {
            querier.executor().metadata(&scope, metric, &cancel).await
        })
        .await?;
    Ok(Reply::document(Single::new(|out| {
        out.push(b'{');
        for (i, (name, variants)) in found.answer.iter().take(limit).enumerate() {
            comma(out, i);
            push_string(out, name);
            out.push(b':');
            push_variants(out, &variants[..variants.len().min(per_metric)]);
        }
        out.push(b'}');
    })))
}

fn push_variants(out: &mut Vec<u8>, variants: &[Metadata]) {
    out.push(b'[');
    for (i, metadata) in variants.iter().enumerate() {
        comma(out, i);
        let fields =
            [("type", metadata.kind.as_str()), ("help", &metadata.help), ("unit", &metadata.unit)];
        out.push(b'{');
        for (i, (name, value)) in fields.into_iter().enumerate() {
            comma(out, i);
            push_string(out, name);
            out.push(b':');
            push_string(out, value);
        }
        out.push(b'}');
    }
    out.push(b']');
}

/// Answers that do not come from series cannot be cut to what a restricted scope may read.
pub(super) fn restricted(what: &str) -> Error {
    Error::Forbidden(format!(
        "{what} are not shown to credentials that may read only a part of a tenant's series; \
         use credentials for the whole tenant"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, decoded: &str) {
        assert_eq!(unescaped(name), decoded, "{name}");
    }

    #[test]
    fn label_names_are_unescaped() {
        check("job", "job");
        check("U__http_2e_status", "http.status");
        check("U__a__b", "a_b");
        check("U______name____", "__name__");
        check("U___1f600_", "😀");
        check("U__", "");
        for malformed in
            ["U__a_", "U__a_2e", "U__a_zz_", "U__a_110000_", "U__a_d800_", "U__a_0000041_"]
        {
            check(malformed, malformed);
        }
    }
}
