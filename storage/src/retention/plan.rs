//! What is kept no longer: a plain function of what there is, the tenants' rules and the time.

use std::collections::BTreeMap;

use model::TimeRange;
use tenancy::{Retention, TenantId};

/// What a plan looks at of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockShares {
    /// The partition.
    pub partition: u16,
    /// The block.
    pub name: String,
    /// Who has rows in it.
    pub shares: Vec<Share>,
}

/// What one tenant has in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The tenant.
    pub tenant: TenantId,
    /// First and last instant of its rows.
    pub range: TimeRange,
    /// Its part of the block's bytes.
    pub bytes: u64,
    /// Its series in the block.
    pub series: u64,
    /// Whether all of it is deleted already and only waits for compaction.
    pub is_hidden: bool,
}

/// How long one tenant's rows are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The tenant is there.
    Keep(Retention),
    /// It was deleted by somebody who may.
    Gone,
}

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Whole blocks: nothing in them is kept.
    pub blocks: Vec<GoingBlock>,
    /// Tenants whose rows before an instant go while their blocks stay for others.
    pub cuts: Vec<Cut>,
    /// By tenant: what it has, and what of it goes.
    pub tenants: BTreeMap<TenantId, TenantPlan>,
}

/// A block that goes as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoingBlock {
    /// The partition.
    pub partition: u16,
    /// The block.
    pub name: String,
    /// Bytes of it.
    pub bytes: u64,
    /// First and last instant.
    pub range: TimeRange,
}

/// Rows of one tenant in blocks that stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The tenant.
    pub tenant: TenantId,
    /// Its rows before go; `i64::MAX`: all.
    pub before_ms: i64,
}

/// What one tenant has in blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantPlan {
    /// All its bytes.
    pub bytes: u64,
    /// Bytes that go.
    pub bytes_going: u64,
    /// Its series in blocks that it leaves, each block counted.
    pub series_going: u64,
    /// Its rows before go; `i64::MIN`: none.
    pub before_ms: i64,
    /// Whether size, not age, decided it.
    pub by_size: bool,
}

/// Rows of shared blocks go in steps of so many milliseconds, a day: each step has a block that
/// stays for others written anew.
const STEP_MS: i64 = 24 * 3_600_000;

/// What goes at `now_ms`. The same for the same input, in whatever order blocks come.
pub fn plan(blocks: &[BlockShares], rule_of: impl Fn(TenantId) -> Rule, now_ms: i64) -> Plan {
    let mut shares: BTreeMap<TenantId, Vec<Share>> = BTreeMap::new();
    for share in blocks.iter().flat_map(|b| &b.shares) {
        shares.entry(share.tenant).or_default().push(*share);
    }
    let tenants: BTreeMap<TenantId, TenantPlan> = shares
        .into_iter()
        .map(|(tenant, shares)| (tenant, plan_tenant(shares, rule_of(tenant), now_ms)))
        .collect();
    let before = |share: &Share| tenants.get(&share.tenant).map_or(i64::MIN, |p| p.before_ms);
    let expired = |share: &Share| share.is_hidden || share.range.end_ms < before(share);
    let mut plan = Plan::default();
    let mut cuts: BTreeMap<TenantId, i64> = BTreeMap::new();
    for block in blocks {
        if !block.shares.is_empty() && block.shares.iter().all(expired) {
            let ranges = block.shares.iter().map(|share| share.range);
            plan.blocks.push(GoingBlock {
                partition: block.partition,
                name: block.name.clone(),
                bytes: block.shares.iter().map(|share| share.bytes).sum(),
                range: ranges.reduce(TimeRange::union).unwrap_or(TimeRange::ALL),
            });
            continue;
        }
        for share in block.shares.iter().filter(|share| !share.is_hidden) {
            let Some(plan) = tenants.get(&share.tenant) else { continue };
            let before_ms = plan.cut_ms();
            if share.range.end_ms < before_ms {
                cuts.insert(share.tenant, before_ms);
            }
        }
    }
    plan.blocks.sort_by(|a, b| (a.partition, &a.name).cmp(&(b.partition, &b.name)));
    plan.cuts = cuts.into_iter().map(|(tenant, before_ms)| Cut { tenant, before_ms }).collect();
    plan.tenants = tenants;
    plan
}

impl TenantPlan {
    /// Rows of blocks that stay for others go before this instant. Those that are too old are
    /// hidden in any case, so they go a day at a time.
    fn cut_ms(&self) -> i64 {
        if self.by_size || self.before_ms == i64::MAX || self.before_ms == i64::MIN {
            return self.before_ms;
        }
        self.before_ms.div_euclid(STEP_MS).saturating_mul(STEP_MS)
    }
}

fn plan_tenant(mut shares: Vec<Share>, rule: Rule, now_ms: i64) -> TenantPlan {
    shares.retain(|share| !share.is_hidden);
    let bytes = shares.iter().map(|share| share.bytes).sum();
    let retention = match rule {
        Rule::Gone => {
            let series_going = shares.iter().map(|share| share.series).sum();
            let before_ms = i64::MAX;
            return TenantPlan {
                bytes,
                bytes_going: bytes,
                series_going,
                before_ms,
                by_size: false,
            };
        }
        Rule::Keep(retention) => retention,
    };
    let by_age_ms = Retention::oldest_ms(retention.raw_seconds, now_ms);
    let mut plan = TenantPlan { bytes, before_ms: by_age_ms, ..TenantPlan::default() };
    // The oldest first; ties by size, so that order does not matter.
    shares.sort_by_key(|s| (s.range.end_ms, s.range.start_ms, s.bytes, s.series));
    let mut left = bytes;
    for share in &shares {
        let too_old = share.range.end_ms < by_age_ms;
        let too_much = retention.bytes_max > 0 && left > retention.bytes_max;
        if !too_old && !too_much && share.range.end_ms >= plan.before_ms {
            break;
        }
        left -= share.bytes;
        plan.bytes_going += share.bytes;
        plan.series_going += share.series;
        if !too_old && too_much {
            plan.before_ms = plan.before_ms.max(share.range.end_ms.saturating_add(1));
            plan.by_size = true;
        }
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A midnight and an hour.
    const NOW_MS: i64 = 20_000 * STEP_MS + 3_600_000;

    /// A block: number, and shares as tenant, range in seconds before now, bytes.
    fn block(name: u32, shares: &[(u32, (i64, i64), u64)]) -> BlockShares {
        let share = |&(tenant, (from, to), bytes): &(u32, (i64, i64), u64)| Share {
            tenant: TenantId(tenant),
            range: TimeRange { start_ms: NOW_MS - from * 1000, end_ms: NOW_MS - to * 1000 },
            bytes,
            series: 1,
            is_hidden: false,
        };
        BlockShares {
            partition: 0,
            name: name.to_string(),
            shares: shares.iter().map(share).collect(),
        }
    }

    /// Tenant 1 keeps an hour, 2 two hours, 3 for ever, 4 a thousand bytes, 9 is gone.
    fn rule_of(tenant: TenantId) -> Rule {
        let keep = |raw_seconds, bytes_max| {
            Rule::Keep(Retention { raw_seconds, bytes_max, ..Retention::default() })
        };
        match tenant.0 {
            1 => keep(3_600, 0),
            2 => keep(7_200, 0),
            4 => keep(0, 1_000),
            9 => Rule::Gone,
            _ => keep(0, 0),
        }
    }

    /// Blocks that go, and cuts as tenant and seconds before now.
    #[track_caller]
    fn check(blocks: &[BlockShares], now_ms: i64, going: &[&str], cuts: &[(u32, i64)]) {
        let planned = plan(blocks, rule_of, now_ms);
        let mut reversed = blocks.to_vec();
        reversed.reverse();
        assert_eq!(plan(&reversed, rule_of, now_ms), planned, "in any order");
        let names: Vec<&str> = planned.blocks.iter().map(|b| b.name.as_str()).collect();
        let found: Vec<(u32, i64)> = planned
            .cuts
            .iter()
            .map(|c| (c.tenant.0, (now_ms.saturating_sub(c.before_ms)) / 1000))
            .collect();
        assert_eq!((names.as_slice(), found.as_slice()), (going, cuts));
    }

    #[test]
    fn blocks_go_once_all_in_them_is_too_old() {
        check(&[], NOW_MS, &[], &[]);
        check(&[block(1, &[(1, (9_000, 3_601), 5)])], NOW_MS, &["1"], &[]);
        check(&[block(1, &[(1, (9_000, 3_600), 5)])], NOW_MS, &[], &[]); // the last row is kept
        check(&[block(1, &[(3, (900_000, 800_000), 5)])], NOW_MS, &[], &[]);
        let shared = block(1, &[(1, (9_000, 5_000), 5), (2, (9_000, 5_000), 5)]);
        check(std::slice::from_ref(&shared), NOW_MS, &[], &[(1, 3_600)]);
        check(std::slice::from_ref(&shared), NOW_MS + 2_300_000, &["1"], &[]);
        // Shared blocks are cut at midnights.
        check(std::slice::from_ref(&shared), NOW_MS - 1_000, &[], &[]);
        let mut hidden = shared.clone();
        hidden.shares[0].is_hidden = true;
        check(&[hidden], NOW_MS, &[], &[]);
        // The clock went back: nothing is too old.
        check(&[shared], NOW_MS - 9_000_000, &[], &[]);
        check(&[block(1, &[])], NOW_MS, &[], &[]); // damage is no reason
    }

    #[test]
    fn of_too_much_the_oldest_goes() {
        let sized = |sizes: &[u64]| -> Vec<BlockShares> {
            let one = |(i, bytes): (usize, &u64)| {
                let from = 10_000 - i as i64 * 1_000;
                block(i as u32, &[(4, (from, from - 999), *bytes)])
            };
            sizes.iter().enumerate().map(one).collect()
        };
        check(&sized(&[400, 400, 200]), NOW_MS, &[], &[]);
        check(&sized(&[400, 400, 201]), NOW_MS, &["0"], &[]);
        check(&sized(&[400, 400, 900]), NOW_MS, &["0", "1"], &[]);
        check(&sized(&[1_001]), NOW_MS, &["0"], &[]);
        let mut shared = sized(&[600, 600]);
        shared[0].shares.extend(block(0, &[(3, (9_000, 8_000), 7)]).shares);
        check(&shared, NOW_MS, &[], &[(4, 9_000)]);
        shared[0].shares[0].is_hidden = true;
        check(&shared, NOW_MS, &[], &[]);
    }

    #[test]
    fn deleted_tenants_leave_everything() {
        let alone = block(1, &[(9, (10, 5), 5)]);
        let shared = block(2, &[(9, (10, 5), 5), (3, (10, 5), 5)]);
        let planned = plan(&[alone, shared], rule_of, NOW_MS);
        assert_eq!(planned.blocks.len(), 1);
        assert_eq!(planned.cuts, [Cut { tenant: TenantId(9), before_ms: i64::MAX }]);
        let nine = planned.tenants[&TenantId(9)];
        assert_eq!((nine.bytes, nine.bytes_going, nine.series_going), (10, 10, 2));
    }
}
