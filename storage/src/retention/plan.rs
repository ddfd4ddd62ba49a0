//! What is kept no longer: a plain function of what there is, the tenants' rules and the time.

use std::collections::BTreeMap;

use model::{Resolution, TimeRange};
use tenancy::{Retention, TenantId};

/// What a plan looks at of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockShares {
    /// The partition.
    pub partition: u16,
    /// The block.
    pub name: String,
    /// What its rows are.
    pub resolution: Resolution,
    /// Who has rows in it.
    pub shares: Vec<Share>,
}

/// What one tenant has in one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// The tenant.
    pub tenant: TenantId,
    /// First and last instant of its rows, or of what its windows are about.
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
    /// By tenant and resolution: what it has, and what of it goes.
    pub tenants: BTreeMap<(TenantId, Resolution), TenantPlan>,
}

/// A block that goes as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoingBlock {
    /// The partition.
    pub partition: u16,
    /// The block.
    pub name: String,
    /// What its rows are.
    pub resolution: Resolution,
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
    /// Rows of one resolution; `None`: of all.
    pub only: Option<Resolution>,
    /// Its rows before go; `i64::MAX`: all.
    pub before_ms: i64,
}

/// What one tenant has in blocks, at one resolution.
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
    /// Which size decided it; `None`: age.
    pub size: Option<SizeLimit>,
}

/// A limit in bytes that something is beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SizeLimit {
    /// That of one resolution.
    Own,
    /// That of all resolutions together.
    All,
}

/// Rows of shared blocks go in steps of so many milliseconds, a day: each step has a block that
/// stays for others written anew.
const STEP_MS: i64 = 24 * 3_600_000;

/// What goes at `now_ms`. The same for the same input, in whatever order blocks come.
pub fn plan(blocks: &[BlockShares], rule_of: impl Fn(TenantId) -> Rule, now_ms: i64) -> Plan {
    let mut shares: BTreeMap<TenantId, Vec<(Resolution, Share)>> = BTreeMap::new();
    for block in blocks {
        for share in &block.shares {
            shares.entry(share.tenant).or_default().push((block.resolution, *share));
        }
    }
    let mut tenants = BTreeMap::new();
    for (tenant, shares) in shares {
        let plans = plan_tenant(shares, rule_of(tenant), now_ms);
        tenants.extend(plans.into_iter().map(|(resolution, plan)| ((tenant, resolution), plan)));
    }
    let of = |block: &BlockShares, share: &Share| {
        tenants.get(&(share.tenant, block.resolution)).copied().unwrap_or_default()
    };
    let expired = |block: &BlockShares, share: &Share| {
        share.is_hidden || share.range.end_ms < of(block, share).before_ms
    };
    let mut plan = Plan::default();
    let mut cuts: BTreeMap<(TenantId, Option<Resolution>), i64> = BTreeMap::new();
    for block in blocks {
        if !block.shares.is_empty() && block.shares.iter().all(|share| expired(block, share)) {
            let ranges = block.shares.iter().map(|share| share.range);
            plan.blocks.push(GoingBlock {
                partition: block.partition,
                name: block.name.clone(),
                resolution: block.resolution,
                bytes: block.shares.iter().map(|share| share.bytes).sum(),
                range: ranges.reduce(TimeRange::union).unwrap_or(TimeRange::ALL),
            });
            continue;
        }
        for share in block.shares.iter().filter(|share| !share.is_hidden) {
            let before_ms = of(block, share).cut_ms();
            if share.range.end_ms < before_ms {
                let only = (before_ms < i64::MAX).then_some(block.resolution);
                cuts.insert((share.tenant, only), before_ms);
            }
        }
    }
    plan.blocks.sort_by(|a, b| (a.partition, &a.name).cmp(&(b.partition, &b.name)));
    let cut = |((tenant, only), before_ms)| Cut { tenant, only, before_ms };
    plan.cuts = cuts.into_iter().map(cut).collect();
    plan.tenants = tenants;
    plan
}

impl TenantPlan {
    /// Rows of blocks that stay for others go before this instant. Those that are too old are
    /// hidden in any case, so they go a day at a time.
    fn cut_ms(&self) -> i64 {
        if self.size.is_some() || self.before_ms == i64::MAX || self.before_ms == i64::MIN {
            return self.before_ms;
        }
        self.before_ms.div_euclid(STEP_MS).saturating_mul(STEP_MS)
    }
}

fn plan_tenant(
    mut shares: Vec<(Resolution, Share)>,
    rule: Rule,
    now_ms: i64,
) -> BTreeMap<Resolution, TenantPlan> {
    shares.retain(|(_, share)| !share.is_hidden);
    // The finest and of these the oldest first.
    shares.sort_by_key(|(resolution, share)| (*resolution, share.range.end_ms));
    let before_ms = |resolution| match rule {
        Rule::Gone => i64::MAX,
        Rule::Keep(retention) => Retention::oldest_ms(retention.seconds(resolution), now_ms),
    };
    let mut plans: BTreeMap<Resolution, TenantPlan> = BTreeMap::new();
    for (resolution, share) in &shares {
        let new = || TenantPlan { before_ms: before_ms(*resolution), ..TenantPlan::default() };
        plans.entry(*resolution).or_insert_with(new).bytes += share.bytes;
    }
    if let Rule::Keep(retention) = rule {
        for of_one in shares.chunk_by(|a, b| a.0 == b.0) {
            limit(of_one, &mut plans, retention.bytes_max_of(of_one[0].0), SizeLimit::Own);
        }
        limit(&shares, &mut plans, retention.bytes_max, SizeLimit::All);
    }
    for (resolution, share) in &shares {
        let Some(plan) = plans.get_mut(resolution) else { continue };
        if share.range.end_ms < plan.before_ms {
            plan.bytes_going += share.bytes;
            plan.series_going += share.series;
        }
    }
    plans
}

/// Lets the first of these go until what stays has so many bytes at most; 0: no limit.
fn limit(
    shares: &[(Resolution, Share)],
    plans: &mut BTreeMap<Resolution, TenantPlan>,
    bytes_max: u64,
    size: SizeLimit,
) {
    if bytes_max == 0 {
        return;
    }
    let stays = |plans: &BTreeMap<Resolution, TenantPlan>, (resolution, share): &(_, Share)| {
        plans.get(resolution).is_none_or(|plan| share.range.end_ms >= plan.before_ms)
    };
    let mut left: u64 =
        shares.iter().filter(|s| stays(plans, s)).map(|(_, share)| share.bytes).sum();
    let ends_together = |a: &(Resolution, Share), b: &(Resolution, Share)| {
        (a.0, a.1.range.end_ms) == (b.0, b.1.range.end_ms)
    };
    for together in shares.chunk_by(ends_together) {
        let (resolution, share) = together[0];
        if left <= bytes_max {
            return;
        }
        if !stays(plans, &together[0]) {
            continue;
        }
        if let Some(plan) = plans.get_mut(&resolution) {
            plan.before_ms = share.range.end_ms.saturating_add(1);
            plan.size = Some(size);
        }
        left -= together.iter().map(|(_, share)| share.bytes).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A midnight and an hour.
    const NOW_MS: i64 = 20_000 * STEP_MS + 3_600_000;

    /// A block: number, and shares as tenant, range in seconds before now, bytes.
    fn block(name: u32, shares: &[(u32, (i64, i64), u64)]) -> BlockShares {
        windows(name, Resolution::Raw, shares)
    }

    fn windows(
        name: u32,
        resolution: Resolution,
        shares: &[(u32, (i64, i64), u64)],
    ) -> BlockShares {
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
            resolution,
            shares: shares.iter().map(share).collect(),
        }
    }

    /// Tenant 1 keeps an hour, 2 two hours, 3 for ever, 4 a thousand bytes, 5 an hour and more of
    /// windows, 6 some bytes of each resolution and of all, 9 is gone.
    fn rule_of(tenant: TenantId) -> Rule {
        let keep = |raw_seconds, bytes_max| {
            Rule::Keep(Retention { raw_seconds, bytes_max, ..Retention::default() })
        };
        match tenant.0 {
            1 => keep(3_600, 0),
            2 => keep(7_200, 0),
            4 => keep(0, 1_000),
            5 => Rule::Keep(Retention {
                raw_seconds: 3_600,
                m5_seconds: 7_200,
                h1_seconds: 10_800,
                ..Retention::default()
            }),
            6 => Rule::Keep(Retention {
                raw_bytes_max: 1_000,
                m5_bytes_max: 500,
                h1_bytes_max: 200,
                bytes_max: 1_400,
                ..Retention::default()
            }),
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
    fn each_resolution_is_kept_for_a_time_of_its_own() {
        let (m5, h1) = (Resolution::Minutes5, Resolution::Hour1);
        let of = |resolution, from, to| windows(1, resolution, &[(5, (from, to), 5)]);
        // Tenant 5 keeps an hour as it came, two of 5 m, three of 1 h.
        check(&[of(Resolution::Raw, 9_000, 3_601)], NOW_MS, &["1"], &[]);
        check(&[of(m5, 9_000, 3_601)], NOW_MS, &[], &[]);
        check(&[of(m5, 9_000, 7_201)], NOW_MS, &["1"], &[]);
        check(&[of(h1, 9_000, 7_201)], NOW_MS, &[], &[]);
        check(&[of(h1, 20_000, 10_801)], NOW_MS, &["1"], &[]);
        let shared = windows(1, m5, &[(5, (190_000, 180_000), 5), (3, (190_000, 180_000), 5)]);
        let planned = plan(&[shared], rule_of, NOW_MS);
        let before_ms = (NOW_MS - 7_200_000).div_euclid(STEP_MS) * STEP_MS;
        assert_eq!(planned.cuts, [Cut { tenant: TenantId(5), only: Some(m5), before_ms }]);
    }

    #[test]
    fn of_too_much_the_finest_goes_first() {
        let of = |name, resolution, bytes| windows(name, resolution, &[(4, (900, 800), bytes)]);
        let all = [
            of(0, Resolution::Raw, 600),
            of(1, Resolution::Minutes5, 500),
            of(2, Resolution::Hour1, 400),
        ];
        check(&all, NOW_MS, &["0"], &[]);
        check(&all[1..], NOW_MS, &[], &[]);
        let more = [of(1, Resolution::Minutes5, 700), of(2, Resolution::Hour1, 400)];
        check(&more, NOW_MS, &["1"], &[]);
    }

    #[test]
    fn each_resolution_has_a_size_of_its_own() {
        let (raw, m5, h1) = (Resolution::Raw, Resolution::Minutes5, Resolution::Hour1);
        let of = |name, resolution, age, bytes| {
            windows(name, resolution, &[(6, (age, age - 10), bytes)])
        };
        let all = |bytes: [u64; 6]| {
            vec![
                of(0, raw, 900, bytes[0]),
                of(1, raw, 800, bytes[1]),
                of(2, m5, 900, bytes[2]),
                of(3, m5, 800, bytes[3]),
                of(4, h1, 900, bytes[4]),
                of(5, h1, 800, bytes[5]),
            ]
        };
        check(&all([400, 400, 200, 200, 100, 100]), NOW_MS, &[], &[]);
        check(&all([600, 600, 200, 200, 100, 100]), NOW_MS, &["0"], &[]);
        check(&all([10, 10, 300, 300, 100, 100]), NOW_MS, &["2"], &[]);
        check(&all([10, 10, 10, 10, 150, 150]), NOW_MS, &["4"], &[]);
        check(
            &all([1_001, 1_001, 501, 501, 201, 201]),
            NOW_MS,
            &["0", "1", "2", "3", "4", "5"],
            &[],
        );
        // Each within its own limit, all together not: the finest goes.
        check(&all([500, 500, 200, 200, 50, 50]), NOW_MS, &["0"], &[]);
        // What its own limit let go does not count for all together.
        check(&all([900, 900, 200, 200, 50, 50]), NOW_MS, &["0"], &[]);
        let planned = plan(&all([500, 500, 300, 300, 50, 50]), rule_of, NOW_MS);
        let size = |of| planned.tenants[&(TenantId(6), of)].size;
        assert_eq!((size(raw), size(m5), size(h1)), (None, Some(SizeLimit::Own), None));
        let planned = plan(&all([500, 500, 200, 200, 50, 50]), rule_of, NOW_MS);
        let raw = planned.tenants[&(TenantId(6), raw)];
        assert_eq!((raw.size, raw.bytes, raw.bytes_going), (Some(SizeLimit::All), 1_000, 500));
        // Two that end together go together, and once.
        let together = [of(0, m5, 900, 300), of(1, m5, 900, 300), of(2, m5, 800, 300)];
        check(&together, NOW_MS, &["0", "1"], &[]);
    }

    #[test]
    fn deleted_tenants_leave_everything() {
        let alone = block(1, &[(9, (10, 5), 5)]);
        let shared = block(2, &[(9, (10, 5), 5), (3, (10, 5), 5)]);
        let planned = plan(&[alone, shared], rule_of, NOW_MS);
        assert_eq!(planned.blocks.len(), 1);
        assert_eq!(planned.cuts, [Cut { tenant: TenantId(9), only: None, before_ms: i64::MAX }]);
        let nine = planned.tenants[&(TenantId(9), Resolution::Raw)];
        assert_eq!((nine.bytes, nine.bytes_going, nine.series_going), (10, 10, 2));
    }
}
