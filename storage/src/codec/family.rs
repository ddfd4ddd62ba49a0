//! The buckets of one classic histogram over the same instants, in one payload. They are
//! cumulative: what a bucket has above the one below says nearly everything of it.

use model::varint;

use super::integer::RELATIVE;
use super::{Codec, Damaged, Decoder, Encoder, take_byte, take_bytes, take_varint};

/// Most buckets in one payload: bounds what one read may have to decode.
pub const MEMBERS_MAX: usize = 256;

/// Appends the payload of buckets in order of their bounds, each with the place it is found by.
/// They have the same number of samples, and no bucket is constant.
pub fn encode(members: &[(u32, &[f64])], encoder: &mut Encoder, out: &mut Vec<u8>) {
    varint::put(out, members.len() as u64);
    let mut bodies = Vec::new();
    let mut below: Option<&[f64]> = None;
    for (place, values) in members {
        let start = bodies.len();
        let mut codec = encoder.encode(values, &mut bodies).codec;
        if let Some(base) = below {
            let mut relative = Vec::new();
            let encoded = encoder.encode_relative(values, base, &mut relative);
            if let Some(encoded) = encoded.filter(|_| relative.len() < bodies.len() - start) {
                codec = encoded.codec;
                bodies.truncate(start);
                bodies.extend_from_slice(&relative);
            }
        }
        varint::put(out, u64::from(*place));
        out.push(codec as u8);
        varint::put(out, (bodies.len() - start) as u64);
        below = Some(values);
    }
    out.extend_from_slice(&bodies);
}

/// A payload taken apart; buckets are decoded when they are asked for, and then kept for those
/// that build on them.
#[derive(Debug)]
pub struct Family<'a> {
    samples: usize,
    /// In order of their bounds.
    members: Vec<Member<'a>>,
}

#[derive(Debug)]
struct Member<'a> {
    place: u32,
    codec: Codec,
    body: &'a [u8],
    values: Option<Vec<f64>>,
}

impl<'a> Family<'a> {
    /// Reads where the buckets lie, of so many samples each.
    pub fn read(mut payload: &'a [u8], samples: usize) -> Result<Self, Damaged> {
        let bytes = &mut payload;
        let count = take_varint(bytes)?;
        let count = usize::try_from(count).ok().filter(|count| *count <= MEMBERS_MAX);
        let count = count.ok_or(Damaged("too many buckets in one payload"))?;
        let mut places = Vec::with_capacity(count);
        for _ in 0..count {
            let place = u32::try_from(take_varint(bytes)?);
            let place = place.map_err(|_| Damaged("place of a bucket out of bounds"))?;
            let codec = Codec::from_number(take_byte(bytes)?);
            let codec = codec.ok_or(Damaged("unknown codec of a bucket"))?;
            let length = usize::try_from(take_varint(bytes)?).map_err(|_| Damaged("cut short"))?;
            places.push((place, codec, length));
        }
        let mut members = Vec::with_capacity(count);
        for (place, codec, length) in places {
            members.push(Member { place, codec, body: take_bytes(bytes, length)?, values: None });
        }
        if !bytes.is_empty() {
            return Err(Damaged("bytes after the last bucket"));
        }
        Ok(Self { samples, members })
    }

    /// The values of one bucket.
    pub fn values(&mut self, place: u32, decoder: &mut Decoder) -> Result<&[f64], Damaged> {
        let wanted = self.members.iter().position(|member| member.place == place);
        let wanted = wanted.ok_or(Damaged("a bucket is missing"))?;
        let known = |member: &Member<'_>| member.values.is_some() || !member.is_relative();
        let first = self.members[..=wanted].iter().rposition(known);
        let first = first.ok_or(Damaged("the lowest bucket is relative"))?;
        for at in first..=wanted {
            let (before, rest) = self.members.split_at_mut(at);
            let Some(member) = rest.first_mut().filter(|member| member.values.is_none()) else {
                continue;
            };
            let base = before.last().and_then(|below| below.values.as_deref());
            let base = if member.is_relative() { base } else { None };
            let mut values = vec![0.0; self.samples];
            decoder.decode_relative(member.codec, 0.0, member.body, base, &mut values)?;
            member.values = Some(values);
        }
        self.members[wanted].values.as_deref().ok_or(Damaged("a bucket is missing"))
    }
}

impl Family<'_> {
    /// The places of stale markers in one bucket.
    pub fn markers<'d>(
        &mut self,
        place: u32,
        decoder: &'d mut Decoder,
    ) -> Result<&'d [u32], Damaged> {
        let wanted = self.members.iter().find(|member| member.place == place);
        let wanted = wanted.ok_or(Damaged("a bucket is missing"))?;
        decoder.markers(wanted.codec, wanted.body, self.samples)
    }
}

impl Member<'_> {
    /// Whether it is what it has above the one before it.
    fn is_relative(&self) -> bool {
        self.codec == Codec::Multiples && self.body.first().is_some_and(|f| f & RELATIVE != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Effort;

    /// Buckets of a service whose requests fall into them as `shares` say, of so many samples.
    fn buckets(shares: &[u64], samples: u64) -> Vec<Vec<f64>> {
        let mut totals = vec![0u64; shares.len()];
        let mut all: Vec<Vec<f64>> = shares.iter().map(|_| Vec::new()).collect();
        for i in 0..samples {
            let mut sum = 0;
            for (at, share) in shares.iter().enumerate() {
                totals[at] += (i * 7919 + at as u64 * 31) % (share + 1);
                sum += totals[at];
                all[at].push(sum as f64);
            }
        }
        all
    }

    /// Every bucket comes back bit for bit, asked alone and all in any order; the payload is below
    /// so many hundredths of the buckets' own.
    #[track_caller]
    fn check(all: &[Vec<f64>], effort: Effort, hundredths: usize) {
        let mut encoder = Encoder::new(effort);
        let mut payload = Vec::new();
        let members: Vec<(u32, &[f64])> =
            all.iter().enumerate().map(|(i, v)| (i as u32 * 3, v.as_slice())).collect();
        encode(&members, &mut encoder, &mut payload);
        let mut own = Vec::new();
        for values in all {
            encoder.encode(values, &mut own);
        }
        assert!(
            payload.len() * 100 <= own.len() * hundredths,
            "{} of {}",
            payload.len(),
            own.len()
        );
        let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let mut decoder = Decoder::default();
        let mut whole = Family::read(&payload, all[0].len()).expect("what was written");
        for (place, values) in members.iter().rev() {
            let mut alone = Family::read(&payload, all[0].len()).expect("what was written");
            let read = alone.values(*place, &mut decoder).expect("what was written");
            assert_eq!(bits(read), bits(values), "bucket {place} alone");
            let read = whole.values(*place, &mut decoder).expect("what was written");
            assert_eq!(bits(read), bits(values), "bucket {place} of all");
        }
        assert!(whole.values(1, &mut decoder).is_err(), "nothing has this place");
        for end in 0..payload.len() {
            let cut = Family::read(&payload[..end], all[0].len());
            let Ok(mut cut) = cut else { continue };
            assert!(cut.values(0, &mut decoder).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn buckets_cost_what_they_have_above_the_one_below() {
        let all = buckets(&[40, 9, 3, 0, 1], 960);
        check(&all, Effort::Cold, 62);
        check(&all, Effort::Young, 62);
        check(&buckets(&[3, 500], 100), Effort::Cold, 100);
        check(&buckets(&[3, 5], 2), Effort::Cold, 300);
    }

    #[test]
    fn what_is_no_histogram_comes_back_too() {
        let mut all = buckets(&[5, 5, 5, 5], 200);
        all[1][7] = f64::NAN;
        all[1][9] = f64::from_bits(0x7ff8_dead_beef_0001);
        all[2][7] = model::stale_nan();
        all[2][20..].iter_mut().for_each(|v| *v -= 1e6); // falls, and below the one before
        all[3][3] = -0.0;
        all[3][5] = f64::INFINITY;
        check(&all, Effort::Cold, 110);
        let mut noise = buckets(&[5, 5], 200);
        noise[0].iter_mut().for_each(|v| *v = (*v + 0.1).sqrt());
        noise[1].iter_mut().for_each(|v| *v *= 1e300);
        check(&noise, Effort::Cold, 110);
    }

    #[test]
    fn damage_is_found() {
        let check = |payload: &[u8], reason: &str| {
            let found = Family::read(payload, 2);
            let found =
                found.and_then(|mut f| f.values(0, &mut Decoder::default()).map(<[f64]>::len));
            assert_eq!(found.map_err(|e| e.0), Err(reason));
        };
        check(&[], "cut short or too long number");
        check(&[0x81, 2], "too many buckets in one payload");
        check(&[1, 0, 99, 0], "unknown codec of a bucket");
        check(&[1, 0, 4, 17], "cut short");
        check(&[1, 0, 4, 0, 1], "bytes after the last bucket");
        check(&[1, 0, 4, 0], "length does not fit the count");
        check(&[1, 0, 5, 1, RELATIVE], "the lowest bucket is relative");
        check(&[1, 0, 7, 0], "buckets where floats were expected");
    }
}
