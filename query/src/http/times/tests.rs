//! What Prometheus 2.42 made of each text is in the tables; where we differ on purpose is said.

use super::*;

#[track_caller]
fn instant(text: &str, ms: impl Into<Option<i64>>) {
    assert_eq!(instant_ms(text), ms.into(), "{text}");
}

#[test]
fn seconds_are_instants() {
    instant("0", 0);
    instant("4", 4_000);
    instant(".5", 500);
    instant("5.", 5_000);
    instant("+5", 5_000);
    instant("-5", -5_000);
    instant("1e3", 1_000_000);
    instant("1435781451.781", 1_435_781_451_781);
    instant("1795192614160", 1_795_192_614_160_000); // Grafana's exemplar probe sends milliseconds
    instant("1.0004", 1_000);
    instant("1.9996", 2_000);
    instant("-0.0004", 0);
    for text in [
        "", " 5", "5 ", "x", "0x10", "1e400", "1e30", "NaN", "Inf", "-Inf", "infinity", "1_0", ".",
        "-",
    ] {
        instant(text, None); // Prometheus takes NaN, Inf, 1e30 and 1_0; the first three as nonsense
    }
}

#[test]
fn dates_are_instants() {
    instant("1970-01-01T00:00:00Z", 0);
    instant("2020-01-01T00:00:00Z", 1_577_836_800_000);
    instant("2020-02-29T23:59:59Z", 1_583_020_799_000);
    instant("2020-01-01T00:00:00.5+01:00", 1_577_833_200_500);
    instant("2020-01-01T00:00:00,25Z", 1_577_836_800_250);
    instant("2020-01-01T00:00:00.9999Z", 1_577_836_800_999);
    instant("2020-01-01T00:00:00.123456789-05:30", 1_577_856_600_123);
    instant("2020-01-01T00:00:00+24:00", 1_577_750_400_000);
    instant("1969-12-31T23:59:59.999Z", -1);
    instant("0000-01-01T00:00:00Z", -62_167_219_200_000);
    instant("9999-12-31T23:59:59Z", 253_402_300_799_000);
    instant("-292273086-05-16T16:47:06Z", i64::MIN);
    instant("+292277025-08-18T07:12:54.999999999Z", i64::MAX);
    for text in [
        "2020-02-30T00:00:00Z",
        "2019-02-29T00:00:00Z",
        "2020-13-01T00:00:00Z",
        "2020-00-01T00:00:00Z",
        "2020-01-00T00:00:00Z",
        "2020-01-01t00:00:00z",
        "2020-01-01T00:00:00",
        "2020-01-01 00:00:00Z",
        "2020-01-01T24:00:00Z",
        "2020-01-01T00:60:00Z",
        "2020-01-01T00:00:60Z",
        "2020-01-01T00:00:00.Z",
        "2020-01-01T00:00:00+25:00",
        "2020-01-01T00:00:00+01",
        "2020-01-01T00:00:00Zx",
        "20200-01-01T00:00:00Z",
        "２020-01-01T00:00:00Z",
    ] {
        instant(text, None);
    }
}

#[test]
fn dates_are_printed() {
    for text in ["1970-01-01T00:00:00.000Z", "2020-02-29T23:59:59.250Z", "1969-12-31T23:59:59.999Z"]
    {
        assert_eq!(rfc3339_text(instant_ms(text).expect("valid")), text);
    }
    assert_eq!(rfc3339_text(1_795_264_337_053), "2026-11-21T12:32:17.053Z");
}

#[track_caller]
fn duration(text: &str, ms: Result<i64, DurationRefused>) {
    assert_eq!(read_duration_ms(text), ms, "{text}");
}

#[test]
fn durations_are_seconds_or_have_units() {
    duration("1", Ok(1_000));
    duration("1.5", Ok(1_500));
    duration("1e2", Ok(100_000));
    duration("0.001", Ok(1));
    duration("0.0001", Ok(0));
    duration("-1", Ok(-1_000));
    duration("+5", Ok(5_000));
    duration("9e9", Ok(9_000_000_000_000));
    duration("5m", Ok(300_000));
    duration("1h30m", Ok(5_400_000));
    duration("0s", Ok(0));
    duration("1ms", Ok(1));
    duration("1y2w3d4h5m6s7ms", Ok(31_536_000_000 + 1_209_600_000 + 259_200_000 + 14_706_007));
    duration("292y", Ok(292 * 31_536_000_000));
    for text in [
        "",
        "x",
        "1m1h",
        "1m1m",
        "1.5m",
        "-5m",
        "5 m",
        "m",
        "5mm",
        "1e400",
        "0x10",
        "293y",
        "100000000y",
        "NaN",
    ] {
        duration(text, Err(DurationRefused::Syntax));
    }
    for text in ["1e10", "1e30", "-1e10", "9223372036854775807"] {
        duration(text, Err(DurationRefused::Overflow));
    }
}
