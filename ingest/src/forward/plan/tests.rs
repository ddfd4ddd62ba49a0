//! Tests of plans: who shares a request, what is left out, what stays in order.

use model::Labels;

use super::*;
use crate::Caps;
use crate::forward::record::{Payload, Writer};
use crate::forward::testing::{everything, written};
use crate::remote_write::{walk, walk_v2};
use tenancy::Limits;

fn form(protocol: Protocol) -> Form<'static> {
    Form {
        protocol,
        rows_max: 4,
        lanes: (1, 3),
        org_id: "",
        metadata_every: Some(Duration::from_secs(60)),
        now: Duration::ZERO,
        oldest_ms: None,
    }
}

/// A record of samples `name value@instant`.
fn record(tenant: u32, samples: &[(&str, f64, i64)]) -> (u64, Record) {
    let body = written(samples);
    let mut rows = MetricRows::default();
    walk(&body, &Limits::default(), &Caps::default(), &mut rows).expect("valid");
    let mut writer = Writer::default();
    rows.series.iter().for_each(|one| writer.series(&rows, one, rows.labels_of(one)));
    let payload = writer.into_payloads().remove(0);
    (0, Record { tenant: TenantId(tenant), at_ms: 0, payload })
}

fn planned(records: Vec<(u64, Record)>, form: Form<'_>) -> Plan {
    let name = |tenant: TenantId| TenantName::new(&format!("t{}", tenant.0)).ok();
    let batch = Batch { records, end: 0 };
    plan(&batch, form, &mut Known::default(), |tenant| name(tenant).filter(|_| tenant.0 != 9))
}

/// Requests as `org: name value@instant, …`, in the order of lanes.
fn shown(plan: &Plan, protocol: Protocol) -> Vec<Vec<String>> {
    let of_request = |lane: &Lane, request: &Request| {
        let body = snap::raw::Decoder::new().decompress_vec(&request.body).expect("snappy");
        let (mut rows, limits, caps) = (MetricRows::default(), Limits::default(), Caps::default());
        match protocol {
            Protocol::V1 => walk(&body, &limits, &caps, &mut rows).expect("1.0"),
            Protocol::V2 => walk_v2(&body, &limits, &caps, None, &mut rows).expect("2.0"),
        };
        let mut all = Vec::new();
        for series in &rows.series {
            let labels = Labels::from_wire(rows.labels_of(series)).expect("labels");
            let samples = samples_of(&rows, series).iter();
            all.extend(
                samples.map(|s| format!("{} {}@{}", labels.metric_name(), s.value, s.timestamp_ms)),
            );
        }
        all.extend(rows.metadata.iter().map(|(family, _)| format!("about {family}")));
        assert_eq!(request.counts.samples as usize, rows.samples.len());
        format!("{}: {}", lane.org_id, all.join(", "))
    };
    let of_lane = |lane: &Lane| lane.requests.iter().map(|one| of_request(lane, one)).collect();
    plan.lanes.iter().map(of_lane).collect()
}

#[test]
fn requests_are_filled_in_order() {
    let records = vec![
        record(1, &[("x", 1.0, 1), ("x", 2.0, 2)]),
        record(2, &[("x", 3.0, 3), ("x", 4.0, 4), ("x", 5.0, 5)]),
    ];
    for protocol in [Protocol::V1, Protocol::V2] {
        let plan = planned(records.clone(), form(protocol));
        let expected = [[": x 1@1, x 2@2, x 3@3, x 4@4", ": x 5@5"]];
        assert_eq!(shown(&plan, protocol), expected);
        assert_eq!(plan.lanes[0].requests[0].newest_ms, Some(4));
        assert_eq!(plan.left_out, LeftOut::default());
    }
}

#[test]
fn lanes_have_whole_series_and_are_no_more_than_needed() {
    let names: Vec<String> = (0..12).map(|i| format!("m{i}")).collect();
    let samples: Vec<_> = names.iter().map(|name| (name.as_str(), 1.0, 1)).collect();
    let later: Vec<_> = names.iter().map(|name| (name.as_str(), 2.0, 2)).collect();
    let plan = planned(vec![record(1, &samples), record(1, &later)], form(Protocol::V2));
    assert_eq!(plan.lanes.len(), 3);
    for name in &names {
        let lanes = shown(&plan, Protocol::V2);
        let has = |lane: &&Vec<String>| lane.join(" ").contains(&format!("{name} 1@1"));
        let lane = lanes.iter().find(has).expect("somewhere").join(" ");
        let at = |text: String| lane.find(&text).expect("in the same lane");
        assert!(at(format!("{name} 1@1")) < at(format!("{name} 2@2")), "{lane}");
    }
    let few = planned(vec![record(1, &samples[..4])], form(Protocol::V2));
    assert_eq!(few.lanes.len(), 1, "one request needs one lane");
    let least = Form { lanes: (2, 3), ..form(Protocol::V2) };
    assert_eq!(planned(vec![record(1, &samples[..4])], least).lanes.len(), 2);
}

#[test]
fn tenants_are_apart_where_the_receiver_is_told_of_them() {
    let records = || vec![record(1, &[("x", 1.0, 1)]), record(2, &[("x", 2.0, 1)])];
    let form = form(Protocol::V2);
    let by_name = planned(records(), Form { org_id: "a-{tenant}", ..form });
    assert_eq!(shown(&by_name, Protocol::V2), [["a-t1: x 1@1"], ["a-t2: x 2@1"]]);
    let together = planned(records(), Form { org_id: "all", ..form });
    assert_eq!(shown(&together, Protocol::V2), [["all: x 1@1, x 2@1"]]);
}

#[test]
fn what_cannot_be_sent_is_counted() {
    let mut damaged = record(1, &[("x", 1.0, 1)]);
    damaged.1.payload.bytes = vec![0xff; 5];
    let records =
        vec![damaged, record(9, &[("x", 1.0, 1)]), record(2, &[("x", 1.0, 1), ("x", 1.0, 9)])];
    let plan = planned(records, Form { oldest_ms: Some(5), ..form(Protocol::V1) });
    let one = Counts { samples: 1, ..Counts::default() };
    let expected =
        LeftOut { too_old: one, tenant_deleted: one, unreadable: one, ..LeftOut::default() };
    assert_eq!(plan.left_out, expected);
    assert_eq!(shown(&plan, Protocol::V1), [[": x 1@9"]]);
}

#[test]
fn metadata_goes_by_itself_in_1_0_and_with_its_series_in_2_0() {
    let rows = everything();
    let mut writer = Writer::default();
    rows.series.iter().for_each(|one| writer.series(&rows, one, rows.labels_of(one)));
    rows.metadata.iter().for_each(|(family, told)| writer.family(family, told));
    let payload: Payload = writer.into_payloads().remove(0);
    let batch = || Batch {
        records: vec![(0, Record { tenant: TenantId(1), at_ms: 0, payload: payload.clone() })],
        end: 0,
    };
    let name = |_| TenantName::new("t").ok();
    let mut known = Known::default();
    let mut families = |protocol, seconds, every: Option<u64>| -> Vec<u64> {
        let metadata_every = every.map(Duration::from_secs);
        let now = Duration::from_secs(seconds);
        let form = Form { metadata_every, now, rows_max: 99, ..form(protocol) };
        let plan = plan(&batch(), form, &mut known, name);
        plan.lanes.iter().flat_map(|lane| &lane.requests).map(|one| one.families).collect()
    };
    assert_eq!(families(Protocol::V1, 0, Some(60)), [2, 0]);
    assert_eq!(families(Protocol::V1, 59, Some(60)), [0]);
    assert_eq!(families(Protocol::V1, 60, Some(60)), [2, 0]);
    assert_eq!(families(Protocol::V1, 999, None), [0]);
    assert_eq!(families(Protocol::V2, 999, Some(60)), [0]);
    let told = |every: Option<u64>| {
        let metadata_every = every.map(Duration::from_secs);
        let form = Form { metadata_every, rows_max: 99, ..form(Protocol::V2) };
        let plan = plan(&batch(), form, &mut Known::default(), name);
        shown(&plan, Protocol::V2).concat().join(" ").contains("about x_total")
    };
    assert_eq!((told(Some(60)), told(None)), (true, false));
}
