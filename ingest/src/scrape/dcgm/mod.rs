//! GPU telemetry as NVIDIA's dcgm-exporter gives it: every release's names become the ones that
//! dashboards know, and values that say "there is none" are no samples.

mod names;

use std::borrow::Cow;

use model::METRIC_NAME;

/// What the exporter gives where a field has no value, cannot be had, is not supported, or may not
/// be seen (`dcgm_structs.h`): 32-bit and 64-bit integers and floats, four codes each.
const BLANK_32: std::ops::RangeInclusive<f64> = 2_147_483_632.0..=2_147_483_635.0;
const BLANK_FLOAT: std::ops::RangeInclusive<f64> = 140_737_488_355_328.0..=140_737_488_355_331.0;
/// From here on: 2^63 less sixteen, which is 2^63 as a float.
const BLANK_64: f64 = 9_223_372_036_854_775_792.0;

type Pairs<'a> = [(Cow<'a, str>, Cow<'a, str>)];

/// Whether a metric is one of the exporter's.
pub(super) fn is_field(name: &str) -> bool {
    name.starts_with("DCGM_FI_") || name.starts_with("dcgm_")
}

/// The name that a field has between DCGM 2.0 and 4.5.
pub(super) fn usual_name(name: &str) -> Option<&'static str> {
    let at = names::NAMES.binary_search_by(|(other, _)| (*other).cmp(name)).ok()?;
    Some(names::NAMES[at].1)
}

/// Whether a value says that there is none.
pub(super) fn is_blank(value: f64) -> bool {
    value >= BLANK_64
        || (value.fract() == 0.0 && (BLANK_32.contains(&value) || BLANK_FLOAT.contains(&value)))
}

/// Gives name and labels of a field their usual names; says whether it is a field.
pub(super) fn normalize(labels: &mut Pairs<'_>) -> bool {
    let name = labels.iter_mut().find(|(name, _)| name == METRIC_NAME);
    let Some((_, metric)) = name.filter(|(_, metric)| is_field(metric)) else { return false };
    if let Some(usual) = usual_name(metric) {
        *metric = usual.into();
    }
    // Written small since May 2026.
    let has_old = labels.iter().any(|(name, _)| name == "Hostname");
    if let Some((name, _)) = labels.iter_mut().find(|(name, _)| name == "hostname" && !has_old) {
        *name = "Hostname".into();
    }
    true
}

#[cfg(test)]
mod tests {
    use testkit::reference;

    use super::*;

    #[track_caller]
    fn check(name: &str, usual: &str) {
        let mut labels = [
            (Cow::from(METRIC_NAME), Cow::from(name.to_owned())),
            ("gpu".into(), "0".into()),
            ("hostname".into(), "n1".into()),
        ];
        assert!(normalize(&mut labels));
        assert_eq!(labels[0].1, usual);
        assert_eq!(labels[2].0, "Hostname");
    }

    #[test]
    fn names_of_all_releases_become_the_usual_ones() {
        check("DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_GPU_UTIL");
        check("DCGM_FI_DEV_GPU_UTIL_RATIO", "DCGM_FI_DEV_GPU_UTIL");
        check("DCGM_FI_DEV_BOARD_POWER_WATTS", "DCGM_FI_DEV_POWER_USAGE");
        check("DCGM_FI_PROF_SM_UTIL_RATIO", "DCGM_FI_PROF_SM_ACTIVE");
        check("dcgm_gpu_utilization", "DCGM_FI_DEV_GPU_UTIL");
        check("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION");
        let mut other =
            [(Cow::from(METRIC_NAME), Cow::from("up")), ("hostname".into(), "n".into())];
        assert!(!normalize(&mut other));
        assert_eq!(other[1].0, "hostname");
        assert!(names::NAMES.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn blanks_are_no_values() {
        for blank in [2147483632.0, 2147483635.0, 140737488355328.0, 9223372036854775794.0] {
            assert!(is_blank(blank), "{blank}");
        }
        for value in
            [0.0, -1.0, 97.5, 2147483631.0, 2147483636.0, 1e15, 140737488355332.0, f64::NAN]
        {
            assert!(!is_blank(value), "{value}");
        }
    }

    /// Every field that was renamed is known, whatever release named it.
    #[test]
    fn the_list_of_fields_is_whole() {
        let Some(file) = reference("metering/gpu/dcgm-4.6.0-fields.csv") else { return };
        let text = std::fs::read_to_string(file).expect("the list");
        let mut renamed = 0;
        for line in text.lines().skip(1) {
            let columns: Vec<&str> = line.splitn(4, ',').collect();
            if let [_, name, old, ..] = columns[..]
                && !old.is_empty()
            {
                assert_eq!(usual_name(name), Some(old));
                renamed += 1;
            }
        }
        assert!(renamed > 200, "only {renamed}");
    }
}
