//! What a certificate says: when it ends, and whom it names.
//!
//! Four fields of X.509 (RFC 5280, 4.1) read from DER. Only certificates come here whose form and
//! signatures rustls has checked, or our own; what cannot be read names nobody.

use model::Day;
use tenancy::CertificateNames;

/// Names of one certificate that are looked at, at most.
const NAMES_MAX: usize = 100;

/// Tags of DER that occur here.
mod tag {
    pub(super) const OCTETS: u8 = 0x04;
    pub(super) const OBJECT_ID: u8 = 0x06;
    pub(super) const UTF8: u8 = 0x0c;
    pub(super) const PRINTABLE: u8 = 0x13;
    pub(super) const IA5: u8 = 0x16;
    pub(super) const UTC_TIME: u8 = 0x17;
    pub(super) const TIME: u8 = 0x18;
    pub(super) const SEQUENCE: u8 = 0x30;
    pub(super) const SET: u8 = 0x31;
    pub(super) const VERSION: u8 = 0xa0;
    pub(super) const EXTENSIONS: u8 = 0xa3;
    pub(super) const EMAIL: u8 = 0x81;
    pub(super) const DNS: u8 = 0x82;
    pub(super) const URI: u8 = 0x86;
}

/// `id-ce-subjectAltName`, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Attributes of a subject as they are shown: the last byte of 2.5.4.x.
const SHOWN: [(u8, &str); 6] = [(3, "CN"), (6, "C"), (7, "L"), (8, "ST"), (10, "O"), (11, "OU")];

/// When a certificate ends, seconds since the Unix epoch; `None` if it cannot be read.
pub(crate) fn expiry_seconds(der: &[u8]) -> Option<i64> {
    let mut validity = Fields::of(der)?.validity;
    validity.next()?;
    let (tag, text) = validity.next()?;
    seconds_of(tag, std::str::from_utf8(text).ok()?)
}

/// Whom a certificate names.
pub(crate) fn names_of(der: &[u8]) -> CertificateNames {
    let mut names = CertificateNames::default();
    let Some(fields) = Fields::of(der) else { return names };
    for (kind, text) in attributes(fields.subject.clone()).take(NAMES_MAX) {
        if kind == COMMON_NAME {
            // Of several the last one counts, as everywhere.
            names.common_name = Some(text.clone());
        }
        let shown = SHOWN.iter().find(|(last, _)| matches!(kind, [0x55, 0x04, l] if l == last));
        if let Some((_, word)) = shown {
            let comma = if names.subject.is_empty() { "" } else { ", " };
            names.subject += &format!("{comma}{word}={text}");
        }
    }
    let alternatives = fields.extension(ALTERNATIVE_NAMES).and_then(|mut e| e.inner(tag::SEQUENCE));
    for (kind, text) in alternatives.into_iter().flatten().take(NAMES_MAX) {
        let Ok(text) = std::str::from_utf8(text) else { continue };
        match kind {
            tag::URI => names.uris.push(text.to_owned()),
            tag::DNS => names.dns.push(text.to_ascii_lowercase()),
            tag::EMAIL => names.emails.push(text.to_owned()),
            _ => {}
        }
    }
    names
}

/// Types and texts of a name.
fn attributes(name: Der<'_>) -> impl Iterator<Item = (&[u8], String)> {
    let sets = name.filter(|(tag, _)| *tag == tag::SET);
    let pairs = sets.flat_map(|(_, set)| Der(set)).filter(|(tag, _)| *tag == tag::SEQUENCE);
    pairs.filter_map(|(_, pair)| {
        let mut pair = Der(pair);
        let kind = pair.expect(tag::OBJECT_ID)?;
        let (tag, text) = pair.next()?;
        let is_text = matches!(tag, tag::UTF8 | tag::PRINTABLE | tag::IA5);
        Some((kind, std::str::from_utf8(text).ok().filter(|_| is_text)?.to_owned()))
    })
}

/// Where the parts of a certificate lie.
struct Fields<'a> {
    validity: Der<'a>,
    subject: Der<'a>,
    extensions: Der<'a>,
}

impl<'a> Fields<'a> {
    fn of(der: &'a [u8]) -> Option<Self> {
        let mut signed = Der(der).inner(tag::SEQUENCE)?.inner(tag::SEQUENCE)?;
        if signed.0.first() == Some(&tag::VERSION) {
            signed.next()?;
        }
        // Serial number, algorithm, issuer.
        for _ in 0..3 {
            signed.next()?;
        }
        let (validity, subject) = (signed.inner(tag::SEQUENCE)?, signed.inner(tag::SEQUENCE)?);
        let extensions = signed.find(|(tag, _)| *tag == tag::EXTENSIONS);
        let extensions = extensions.and_then(|(_, e)| Der(e).inner(tag::SEQUENCE));
        Some(Self { validity, subject, extensions: extensions.unwrap_or(Der(&[])) })
    }

    /// The content of an extension.
    fn extension(&self, kind: &[u8]) -> Option<Der<'a>> {
        let mut all = self.extensions.clone().filter(|(tag, _)| *tag == tag::SEQUENCE);
        all.find_map(|(_, extension)| {
            let mut parts = Der(extension);
            let found = parts.expect(tag::OBJECT_ID)? == kind;
            let (_, content) = parts.find(|(tag, _)| *tag == tag::OCTETS)?;
            found.then_some(Der(content))
        })
    }
}

/// Values one after the other: each its tag and its content. Ends at what cannot be read.
#[derive(Debug, Clone)]
struct Der<'a>(&'a [u8]);

impl<'a> Iterator for Der<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // A length of one to four bytes.
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |all, byte| all << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

impl<'a> Der<'a> {
    /// The content of the next value, if it has this tag.
    fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }

    /// The values in the next one, if it has this tag.
    fn inner(&mut self, tag: u8) -> Option<Self> {
        self.expect(tag).map(Self)
    }
}

/// `YYMMDDhhmmssZ` (years 1950 to 2049) or `YYYYMMDDhhmmssZ`.
fn seconds_of(tag: u8, text: &str) -> Option<i64> {
    let digits = text.strip_suffix('Z').filter(|t| t.bytes().all(|b| b.is_ascii_digit()))?;
    let number = |text: &str| text.parse::<i64>().ok();
    let (year, rest) = match (tag, digits.len()) {
        (tag::UTC_TIME, 12) => {
            let year = number(&digits[..2])?;
            (if year < 50 { 2_000 + year } else { 1_900 + year }, &digits[2..])
        }
        (tag::TIME, 14) => (number(&digits[..4])?, &digits[4..]),
        _ => return None,
    };
    let part = |i: usize| number(&rest[2 * i..2 * i + 2]);
    let (month, day) = (part(0)?, part(1)?);
    let within_day = part(2)? * 3_600 + part(3)? * 60 + part(4)?;
    Some(Day { year, month, day }.number()? * 86_400 + within_day)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    #[test]
    fn names_and_end_are_read() {
        let mut params =
            CertificateParams::new(vec!["Collector.Example".to_owned()]).expect("name");
        params.distinguished_name.push(DnType::CommonName, "collector");
        params.distinguished_name.push(DnType::OrganizationName, "Größe");
        let uri = "spiffe://c/ns/monitoring/sa/prometheus".try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
        params.subject_alt_names.push(SanType::Rfc822Name("a@b.c".try_into().expect("ASCII")));
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        params.not_after = date_time_ymd(2030, 1, 2);
        let key = KeyPair::generate().expect("a key");
        let made = params.clone().self_signed(&key).expect("a certificate");
        let names = names_of(made.der());
        assert_eq!(names.common_name.as_deref(), Some("collector"));
        assert_eq!(names.uris, ["spiffe://c/ns/monitoring/sa/prometheus"]);
        assert_eq!(names.dns, ["collector.example"]);
        assert_eq!(names.emails, ["a@b.c"]);
        assert!(names.subject.contains("CN=collector"), "{}", names.subject);
        assert!(names.subject.contains("O=Größe"), "{}", names.subject);
        assert_eq!(expiry_seconds(made.der()), Some(1_893_542_400));
        params.not_after = date_time_ymd(2150, 3, 1);
        let late = params.self_signed(&key).expect("a certificate");
        assert_eq!(
            expiry_seconds(late.der()),
            Some(5_685_379_200),
            "past 2049 years have four digits"
        );
        // Cut or flipped anywhere: some answer, and no panic.
        for at in 0..made.der().len() {
            names_of(&made.der()[..at]);
            let mut flipped = made.der().to_vec();
            flipped[at] ^= 0xff;
            names_of(&flipped);
            expiry_seconds(&flipped);
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        for bytes in [&b""[..], b"0", &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0xff; 100]] {
            let nobody = (CertificateNames::default(), None);
            assert_eq!((names_of(bytes), expiry_seconds(bytes)), nobody);
        }
    }
}
