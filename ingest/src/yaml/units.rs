//! Durations and sizes as Prometheus writes them.

/// Units of durations from large to small, in milliseconds (`common/model/time.go`).
const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Milliseconds of `1h30m`: each unit at most once, from large to small; `0` needs none.
pub(crate) fn duration_ms(text: &str) -> Result<i64, String> {
    let wrong = || format!("not a valid duration string: {text:?}");
    match text {
        "0" => return Ok(0),
        "" => return Err("empty duration string".to_owned()),
        _ => {}
    }
    let (mut rest, mut next, mut total) = (text, 0, 0i64);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        let at = UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(wrong)?;
        if at < next {
            return Err(wrong());
        }
        next = at + 1;
        let number: i64 = number.parse().map_err(|_| wrong())?;
        let part = number.checked_mul(UNITS[at].1);
        let sum = part.and_then(|part| total.checked_add(part));
        // Prometheus counts nanoseconds in 64 bits.
        total = sum.filter(|ms| *ms <= i64::MAX / 1_000_000).ok_or("duration out of range")?;
        rest = after;
    }
    Ok(total)
}

/// A duration as Prometheus writes it: `1h30m`; the largest unit that leaves nothing over for weeks
/// and years.
pub fn shown_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".to_owned();
    }
    let (mut rest, mut text) = (ms, String::new());
    for (unit, length) in UNITS {
        let must_be_whole = matches!(unit, "y" | "w");
        if must_be_whole && rest % length != 0 {
            continue;
        }
        if rest >= length {
            text += &format!("{}{unit}", rest / length);
            rest %= length;
        }
    }
    text
}

/// Bytes of `10MB`; all units are powers of 1,024, with and without `i`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("not a valid size: {text:?}, expected for instance 10MB");
    if text == "0" {
        return Ok(0);
    }
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
    let (number, unit) = text.split_at(end);
    let power = match unit {
        "B" => 0,
        "KB" | "KiB" => 1,
        "MB" | "MiB" => 2,
        "GB" | "GiB" => 3,
        "TB" | "TiB" => 4,
        "PB" | "PiB" => 5,
        _ => return Err(wrong()),
    };
    let number: f64 = number.parse().map_err(|_| wrong())?;
    Ok((number * 1024f64.powi(power)) as u64)
}
