//! How many series are alive at an instant, by group, told by the heads alone: what dashboards of
//! cardinality ask over everything there is.
//!
//! Where the heads cannot tell, nothing is answered, and samples have to be looked at.

use hashbrown::HashMap;
use model::{Cancel, Labels, Matcher, Pace, Resolution, TENANT_LABEL, TimeRange};
use tenancy::{ReadScope, TenantRead};

pub use crate::head::{GroupBy, Groups as LiveGroups};
use crate::head::{Groups, Verdicts};
use crate::place::visible_in_head;
use crate::select::check_series;
use crate::{Error, Storage};

/// Which series are counted, and when.
#[derive(Debug, Clone)]
pub struct CountLive {
    /// All must hold.
    pub matchers: Vec<Matcher>,
    /// A series is alive if the newest sample in it is no stale marker.
    pub window: TimeRange,
    /// What tells groups apart.
    pub by: GroupBy,
}

impl Storage {
    /// Counts series that are alive. CPU work in proportion to the series that match: belongs on
    /// the CPU pool. `None` if heads cannot tell, or if series of several tenants may be twins.
    pub fn count_live(
        &self,
        scope: &ReadScope,
        request: &CountLive,
        cancel: &Cancel,
    ) -> Result<Option<LiveGroups>, Error> {
        let are_apart = scope.is_labelled() || scope.tenants().len() == 1;
        // After a change of the map a series may be in two partitions.
        if !are_apart || self.map.has_changed() || request.window.start_ms > request.window.end_ms {
            return Ok(None);
        }
        let mut pace = Pace::new(cancel);
        let now_ms = self.retention_now_ms();
        let mut counts: HashMap<Labels, u64> = HashMap::new();
        let mut all = 0;
        for partition in &self.partitions {
            partition.check_blocks(request.window, Resolution::Raw)?;
            let mut verdicts = Verdicts::default();
            for tenant in scope.tenants() {
                let oldest_ms = tenant.oldest_ms(Resolution::Raw, now_ms);
                let TimeRange { start_ms, end_ms } = request.window;
                let window = TimeRange { start_ms: start_ms.max(oldest_ms), end_ms };
                let of = std::slice::from_ref(&request.matchers);
                let by = (&mut verdicts, &mut pace);
                let (head, series) = visible_in_head(&partition.head, scope, tenant, of, by)?;
                let found = head.count_live(&series, window, &request.by, &mut pace)?;
                drop(head);
                let Some(Groups { groups, series }) = found else { return Ok(None) };
                all += series;
                check_series(scope, all)?;
                for (labels, count) in groups {
                    pace.work(20)?;
                    *counts.entry(shown(scope, tenant, &request.by, labels)).or_default() += count;
                }
            }
        }
        let mut groups: Vec<(Labels, u64)> = counts.into_iter().collect();
        pace.look()?;
        groups.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        Ok(Some(LiveGroups { groups, series: all }))
    }
}

/// A group's labels as the asker sees them.
fn shown(scope: &ReadScope, tenant: &TenantRead, by: &GroupBy, labels: Labels) -> Labels {
    let named = by.labels.iter().any(|name| name == TENANT_LABEL);
    if scope.is_labelled() && named != by.without {
        return labels.with(TENANT_LABEL, tenant.name.as_str());
    }
    labels
}
