//! Audit records: of the Kubernetes API server (`audit.k8s.io/v1`, `v1beta1`) and of KubeSphere,
//! whose names begin with capitals and which adds workspace and cluster.

use model::{Level, Signal, SourceKind};
use storage::entries::EntryReason;

use super::mask;
use super::pick::{Picked, Wanted};
use crate::caps::WalkError;
use crate::logs::builder::{Entries, Line};
use crate::logs::document::{Taken, refuse};
use crate::logs::time;

const WANTED: &[Wanted] = &[
    ("auditID", "", "auditID"),
    ("stage", "", "stage"),
    ("level", "", "level"),
    ("verb", "", "verb"),
    ("requestURI", "", "requestURI"),
    ("userAgent", "", "userAgent"),
    ("sourceIPs", "", "sourceIPs"),
    ("user", "username", "user_username"),
    ("user", "uid", "user_uid"),
    ("user", "groups", "user_groups"),
    ("impersonatedUser", "username", "impersonatedUser_username"),
    ("objectRef", "resource", "objectRef_resource"),
    ("objectRef", "subresource", "objectRef_subresource"),
    ("objectRef", "namespace", "objectRef_namespace"),
    ("objectRef", "name", "objectRef_name"),
    ("objectRef", "uid", "objectRef_uid"),
    ("objectRef", "apiGroup", "objectRef_apiGroup"),
    ("objectRef", "apiVersion", "objectRef_apiVersion"),
    ("responseStatus", "code", "responseStatus_code"),
    ("responseStatus", "status", "responseStatus_status"),
    ("responseStatus", "reason", "responseStatus_reason"),
    ("annotations", "authorization.k8s.io/decision", "authorization_decision"),
    ("workspace", "", "workspace"),
    ("devops", "", "devops"),
    ("message", "", "message"),
    ("cluster", "", ""),
    ("requestObject", "", ""),
    ("responseObject", "", ""),
    ("requestReceivedTimestamp", "", ""),
    ("stageTimestamp", "", ""),
    ("timestamp", "", ""),
    ("metadata", "creationTimestamp", ""),
];

/// When it happened: the first of these that says a time.
const TIMES: [(&str, &str); 4] = [
    ("requestReceivedTimestamp", ""),
    ("stageTimestamp", ""),
    ("timestamp", ""),
    ("metadata", "creationTimestamp"),
];

/// Takes one record apart.
pub(crate) fn audit(text: &[u8], out: &mut Entries<'_, '_>) -> Result<Taken, WalkError> {
    let picked = match Picked::of(text, WANTED) {
        Ok(picked) => picked,
        Err(why) => return Ok(refuse(out, (EntryReason::InvalidEntry, why.to_string()))),
    };
    if picked.str("auditID", "").is_empty() || picked.str("verb", "").is_empty() {
        let text = "the object is no audit record: it lacks auditID or verb".to_owned();
        return Ok(refuse(out, (EntryReason::InvalidEntry, text)));
    }
    let at_ns = TIMES
        .iter()
        .find_map(|(outer, inner)| time::rfc3339_ns(picked.str(outer, inner).as_bytes()));
    let level = match picked.str("responseStatus", "code").parse::<u32>() {
        Ok(500..) => Level::Error,
        Ok(400..) => Level::Warn,
        _ => Level::Info,
    };
    let is_platform =
        ["workspace", "devops", "cluster"].iter().any(|n| picked.get(n, "").is_some());
    let kind = if is_platform { SourceKind::PlatformAudit } else { SourceKind::Audit };
    let (cluster, namespace) = (picked.str("cluster", ""), picked.str("objectRef", "namespace"));
    let mut pairs =
        vec![("cluster", &*cluster), ("namespace", &*namespace), ("source", kind.as_str())];
    match out.stream_of(&mut pairs, Signal::Audits, kind)? {
        Ok(stream) => {
            picked.fields(out)?;
            let has_body =
                ["requestObject", "responseObject"].iter().any(|n| picked.get(n, "").is_some());
            let masked = match has_body {
                true => mask::secrets(text, &picked.str("objectRef", "resource")),
                false => None,
            };
            let place = match &masked {
                Some(masked) => {
                    out.masked += 1;
                    out.put(masked)?
                }
                None => out.place(text)?,
            };
            let number = out.entry(Line { at_ns, place, level: Some(level) })?;
            out.of_stream(&stream)?;
            Ok(Ok(number))
        }
        Err(refused) => Ok(refuse(out, refused)),
    }
}
