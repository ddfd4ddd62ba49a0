//! Floats as text, exactly as Go's `strconv.FormatFloat(v, 'f' or 'e', -1, 64)` writes them: the
//! shortest digits that give the same float back. Prometheus' clients compare such texts.

/// Below this magnitude answers use an exponent; so they do from [`EXPONENT_FROM`]
/// (Prometheus, `util/jsonutil`).
const EXPONENT_BELOW: f64 = 1e-6;
/// See [`EXPONENT_BELOW`].
const EXPONENT_FROM: f64 = 1e21;

/// Integers below this magnitude are all floats, so their digits are exact. 2^53.
const EXACT_INTEGERS: f64 = 9_007_199_254_740_992.0;

/// Appends a value as answers print it: `0.000001`, `1e-07`, `100`, `1e+21`, `NaN`, `+Inf`.
#[inline]
pub fn push_value(out: &mut Vec<u8>, value: f64) {
    let magnitude = value.abs();
    if magnitude < EXACT_INTEGERS && value.trunc() == value {
        push_small_integer(out, value);
    } else if magnitude != 0.0 && !(EXPONENT_BELOW..EXPONENT_FROM).contains(&magnitude) {
        push_finite(out, value, Form::Exponent);
    } else {
        push_finite(out, value, Form::Plain);
    }
}

/// Appends a value without an exponent whatever its size, as `count_values` makes label values.
pub fn push_plain(out: &mut Vec<u8>, value: f64) {
    push_finite(out, value, Form::Plain);
}

/// Appends a value as the text exposition prints it (Go's form `g`): `1e+06`, `1e-05`, `123456`.
pub fn push_exposed(out: &mut Vec<u8>, value: f64) {
    let shortest = format!("{value:e}");
    let parts = shortest.split_once('e').filter(|_| value.is_finite());
    match parts.map(|(mantissa, exponent)| (mantissa, exponent_of(exponent.as_bytes()))) {
        Some((mantissa, exponent)) if !(-4..6).contains(&exponent) => {
            push_exponent_form(out, mantissa.as_bytes(), exponent);
        }
        _ => push_finite(out, value, Form::Plain),
    }
}

/// A value as answers print it.
pub fn value_text(value: f64) -> String {
    text(|out| push_value(out, value))
}

/// A value without an exponent.
pub fn plain_text(value: f64) -> String {
    text(|out| push_plain(out, value))
}

fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::with_capacity(24);
    write(&mut out);
    String::from_utf8(out).expect("numbers are written in ASCII")
}

/// Appends an integer.
pub fn push_integer(out: &mut Vec<u8>, value: i64) {
    if value < 0 {
        out.push(b'-');
    }
    push_unsigned(out, value.unsigned_abs());
}

/// Appends an integer.
pub fn push_unsigned(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends milliseconds as seconds: no fraction, or one of three digits.
#[inline]
pub fn push_seconds(out: &mut Vec<u8>, ms: i64) {
    if ms < 0 {
        out.push(b'-');
    }
    let ms = ms.unsigned_abs();
    push_unsigned(out, ms / 1000);
    let fraction = (ms % 1000) as u16;
    if fraction != 0 {
        let digit = |n: u16| b'0' + (n % 10) as u8;
        out.extend_from_slice(&[
            b'.',
            digit(fraction / 100),
            digit(fraction / 10),
            digit(fraction),
        ]);
    }
}

fn push_small_integer(out: &mut Vec<u8>, value: f64) {
    if value.is_sign_negative() {
        out.push(b'-');
    }
    push_unsigned(out, value.abs() as u64);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    Exponent,
}

fn push_finite(out: &mut Vec<u8>, value: f64, form: Form) {
    if value.is_nan() {
        return out.extend_from_slice(b"NaN");
    }
    if value.is_infinite() {
        return out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    if value.is_sign_negative() {
        out.push(b'-');
    }
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format_finite(value.abs()).as_bytes();
    let Some(e) = shortest.iter().position(|b| *b == b'e') else {
        // `ryu` writes no exponent from 1e-5 up to 1e16, where Go's plain form looks the same but
        // for the `.0` of integers. Go's exponent form is never asked for there.
        return out.extend_from_slice(shortest.strip_suffix(b".0").unwrap_or(shortest));
    };
    let (mantissa, exponent) = (&shortest[..e], exponent_of(&shortest[e + 1..]));
    match form {
        Form::Exponent => push_exponent_form(out, mantissa, exponent),
        Form::Plain => push_plain_form(out, mantissa, exponent),
    }
}

fn exponent_of(text: &[u8]) -> i32 {
    let (negative, digits) = match text.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let magnitude = digits.iter().fold(0, |sum, digit| sum * 10 + i32::from(digit - b'0'));
    if negative { -magnitude } else { magnitude }
}

/// `1.5e-07`: at least two digits of exponent, always with a sign.
fn push_exponent_form(out: &mut Vec<u8>, mantissa: &[u8], exponent: i32) {
    out.extend_from_slice(mantissa);
    out.extend_from_slice(if exponent < 0 { b"e-" } else { b"e+" });
    let exponent = exponent.unsigned_abs();
    if exponent < 10 {
        out.push(b'0');
    }
    push_unsigned(out, u64::from(exponent));
}

/// `0.0000015`, `150000000000000000`.
fn push_plain_form(out: &mut Vec<u8>, mantissa: &[u8], exponent: i32) {
    let digits = mantissa.iter().copied().filter(|b| *b != b'.');
    let count = mantissa.len() - usize::from(mantissa.len() > 1);
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.resize(out.len() + exponent.unsigned_abs() as usize - 1, b'0');
        out.extend(digits);
        return;
    }
    let before_point = exponent as usize + 1;
    for (i, digit) in digits.enumerate() {
        if i == before_point {
            out.push(b'.');
        }
        out.push(digit);
    }
    out.resize(out.len() + before_point.saturating_sub(count), b'0');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exposed_values_are_printed_as_go_prints_them() {
        for (value, printed) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (100_000.0, "100000"),
            (123_456.0, "123456"),
            (1_000_000.0, "1e+06"),
            (-1_234_567.5, "-1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (1e300, "1e+300"),
            (0.1, "0.1"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(|out| push_exposed(out, value)), printed);
        }
    }

    #[track_caller]
    fn check(bits: u64, printed: &str) {
        assert_eq!(value_text(f64::from_bits(bits)), printed);
    }

    /// The texts were printed by Go 1.2x with Prometheus' rule for the exponent.
    #[test]
    fn values_are_printed_as_go_prints_them() {
        check(0x0000_0000_0000_0000, "0");
        check(0x8000_0000_0000_0000, "-0");
        check(0x3ff0_0000_0000_0000, "1");
        check(0xbff0_0000_0000_0000, "-1");
        check(0x3fb9_9999_9999_999a, "0.1");
        check(0x3fe0_0000_0000_0000, "0.5");
        check(0x3ff8_0000_0000_0000, "1.5");
        check(0x4059_0000_0000_0000, "100");
        check(0x419d_6f34_5400_0000, "123456789");
        check(0x412e_8480_0000_0000, "1000000");
        check(0x430c_6bf5_2634_0000, "1000000000000000");
        check(0x4341_c379_37e0_8000, "10000000000000000");
        check(0x4376_3457_85d8_a000, "100000000000000000");
        check(0x437b_69b4_ba63_0f35, "123456789012345680");
        check(0x4415_af1d_78b5_8c40, "100000000000000000000");
        check(0x444b_1ae4_d6e2_ef4f, "999999999999999900000");
        check(0x444b_1ae4_d6e2_ef50, "1e+21");
        check(0x4454_542b_a12a_337c, "1.5e+21");
        check(0x4480_f0cf_064d_d592, "1e+22");
        check(0x54b2_49ad_2594_c37d, "1e+100");
        check(0x7fef_ffff_ffff_ffff, "1.7976931348623157e+308");
        check(0x3ee4_f8b5_88e3_68f1, "0.00001");
        check(0x3eb0_c6f7_a0b5_ed8d, "0.000001");
        check(0x3eb0_c2ac_1dbb_e3d8, "9.99e-07");
        check(0x3e7a_d7f2_9abc_af48, "1e-07");
        check(0x3e84_21f5_f40d_8376, "1.5e-07");
        check(0x3de0_f5c0_6356_43a8, "1.234e-10");
        check(0x0000_0000_0000_0001, "5e-324");
        check(0x0010_0000_0000_0000, "2.2250738585072014e-308");
        check(0x3eb4_b623_1abf_d271, "0.0000012345");
        check(0x3fd5_5555_5555_5555, "0.3333333333333333");
        check(0x433f_ffff_ffff_ffff, "9007199254740991");
        check(0x4340_0000_0000_0000, "9007199254740992");
        check(0xc340_0000_0000_0000, "-9007199254740992");
        check(0x43f0_0000_0000_0000, "18446744073709552000");
        check(0x43ab_c16d_674e_c800, "1000000000000000000");
        check(0xc44b_1ae4_d6e2_ef50, "-1e+21");
        check(0xbe7a_d7f2_9abc_af48, "-1e-07");
        check(0x43fc_e97c_a0f2_1055, "33333333333333330000");
        check(0x4009_21fb_5444_2d18, "3.141592653589793");
        check(0x44b5_2d02_c7e1_4af6, "1e+23");
        check(0x441a_abdf_2145_b430, "123000000000000000000");
        check(0x7ff0_0000_0000_0000, "+Inf");
        check(0xfff0_0000_0000_0000, "-Inf");
        check(0x7ff8_0000_0000_0001, "NaN");
        check(0x7ff0_0000_0000_0002, "NaN");
        check(0x01a5_6e1f_c2f8_f359, "1e-300");
        check(0x40c8_1cd6_c8b4_3958, "12345.678");
        check(0x40f8_6a01_9999_999a, "100000.1");
    }

    #[test]
    fn plain_form_has_no_exponent() {
        assert_eq!(plain_text(1e21), "1000000000000000000000");
        assert_eq!(plain_text(-1.5e-7), "-0.00000015");
        assert_eq!(plain_text(f64::INFINITY), "+Inf");
        assert_eq!(plain_text(3.0), "3");
    }

    #[test]
    fn timestamps_have_three_decimals_or_none() {
        let check = |ms, printed: &str| assert_eq!(text(|out| push_seconds(out, ms)), printed);
        check(1_795_192_614_160, "1795192614.160");
        check(4_000, "4");
        check(-5_001, "-5.001");
        check(-1, "-0.001");
        check(10, "0.010");
        check(i64::MIN, "-9223372036854775.808");
    }

    proptest::proptest! {
        #[test]
        fn values_read_back_as_they_were(bits: u64) {
            let value = f64::from_bits(bits);
            for printed in [value_text(value), plain_text(value)] {
                let read: f64 = printed.parse().expect("a number");
                proptest::prop_assert!(read.to_bits() == bits || value.is_nan() && read.is_nan(), "{}", printed);
            }
        }
    }
}
