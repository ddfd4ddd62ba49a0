//! A source: the lines that one program wrote, as templates with places for values.

use std::collections::HashMap;

use super::stamp::Stamp;
use crate::SeededRandom;

/// Values of one place that a pod remembers.
const RECENT_MAX: usize = 6;

/// Values seen in order from which on a place that only grows counts.
const COUNTED_MIN: usize = 4;

/// Lines to be written again and again with other values.
#[derive(Debug, Default)]
pub(super) struct Source {
    templates: Vec<Vec<Piece>>,
    places: Vec<Place>,
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Stamp(Stamp),
    /// A number in [`Source::places`].
    Value(usize),
}

/// Where a template has values, and which were seen there.
#[derive(Debug, Default)]
struct Place {
    /// Each once, as they came.
    pool: Vec<Vec<u8>>,
    /// The usual step, where it only grows.
    step: Option<u64>,
    /// What was seen, in order, while the source is read.
    seen: Vec<u64>,
    /// Whether all that was seen are numbers.
    is_numeric: bool,
}

#[derive(Debug)]
struct Line {
    template: usize,
    /// Of each place of the template, a place in its pool.
    values: Vec<usize>,
}

/// Values that a pod used lately, by place.
#[derive(Debug, Default)]
pub(super) struct Recent(HashMap<usize, OfPlace>);

#[derive(Debug, Default)]
struct OfPlace {
    values: Vec<Vec<u8>>,
    oldest: usize,
    count: u64,
}

impl Source {
    /// Takes lines apart.
    pub(super) fn of(lines: &[Vec<u8>]) -> Self {
        let mut source = Self::default();
        let (mut known, mut pools) = (HashMap::new(), Vec::new());
        for line in lines {
            let (pieces, values) = split(line);
            let template = *known.entry(key(&pieces)).or_insert_with(|| {
                let first = source.places.len();
                source.places.extend(values.iter().map(|_| Place::new()));
                pools.resize_with(source.places.len(), HashMap::<Vec<u8>, usize>::new);
                source.templates.push(numbered(pieces.clone(), first));
                source.templates.len() - 1
            });
            let numbers = source.templates[template].iter().filter_map(|piece| match piece {
                Piece::Value(place) => Some(*place),
                Piece::Text(_) | Piece::Stamp(_) => None,
            });
            let add = |(place, value): (usize, Vec<u8>)| {
                source.places[place].see(&value, &mut pools[place])
            };
            let values = numbers.zip(values).map(add).collect();
            source.lines.push(Line { template, values });
        }
        source.places.iter_mut().for_each(Place::settle);
        source
    }

    /// How many lines it has.
    pub(super) fn lines(&self) -> usize {
        self.lines.len()
    }

    /// Writes one of its lines as a pod writes it now.
    pub(super) fn write(
        &self,
        line: usize,
        at_ns: i64,
        recent: &mut Recent,
        random: &SeededRandom,
        out: &mut Vec<u8>,
    ) {
        let Line { template, values } = &self.lines[line];
        let mut values = values.iter();
        for piece in &self.templates[*template] {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Stamp(stamp) => stamp.write(at_ns, out),
                Piece::Value(number) => {
                    let place = &self.places[*number];
                    let seen = values.next().and_then(|at| place.pool.get(*at));
                    let recent = recent.0.entry(*number).or_default();
                    place.write(seen.map_or(&[], Vec::as_slice), recent, random, out);
                }
            }
        }
    }
}

impl Place {
    fn new() -> Self {
        Self { is_numeric: true, ..Self::default() }
    }

    /// Notes a value, and says where it lies in the pool.
    fn see(&mut self, value: &[u8], pool: &mut HashMap<Vec<u8>, usize>) -> usize {
        match number_of(value) {
            Some(number) if self.is_numeric => self.seen.push(number),
            _ => self.is_numeric = false,
        }
        if let Some(at) = pool.get(value) {
            return *at;
        }
        pool.insert(value.to_vec(), self.pool.len());
        self.pool.push(value.to_vec());
        self.pool.len() - 1
    }

    /// All was seen: what only grows is a counter.
    fn settle(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        let grows = self.is_numeric && seen.len() >= COUNTED_MIN && seen.is_sorted();
        if let (true, Some(first), Some(last)) = (grows, seen.first(), seen.last())
            && last > first
        {
            self.step = Some(((last - first) / seen.len() as u64).max(1));
        }
    }

    fn write(&self, seen: &[u8], recent: &mut OfPlace, random: &SeededRandom, out: &mut Vec<u8>) {
        if let Some(step) = self.step {
            let first = self.pool.first().and_then(|value| number_of(value)).unwrap_or(0);
            recent.count = recent.count.max(first).wrapping_add(random.below(2 * step + 1));
            out.extend_from_slice(recent.count.to_string().as_bytes());
            return;
        }
        if self.pool.len() < 2 && random.chance(97) {
            out.extend_from_slice(seen);
            return;
        }
        let lately = random.below(100);
        if lately < 74 && !recent.values.is_empty() {
            let at = random.below(recent.values.len() as u64) as usize;
            out.extend_from_slice(&recent.values[at]);
            return;
        }
        let value = match lately {
            0..74 => seen.to_vec(),
            74..90 => self.pool[random.below(self.pool.len() as u64) as usize].clone(),
            _ => fresh(seen, random),
        };
        out.extend_from_slice(&value);
        recent.note(value);
    }
}

impl OfPlace {
    fn note(&mut self, value: Vec<u8>) {
        if self.values.len() < RECENT_MAX {
            self.values.push(value);
            return;
        }
        self.values[self.oldest] = value;
        self.oldest = (self.oldest + 1) % RECENT_MAX;
    }
}

/// A number that is written as it would be counted on.
fn number_of(value: &[u8]) -> Option<u64> {
    let is_plain = value.len() <= 18 && (value.first() != Some(&b'0') || value.len() == 1);
    let text = std::str::from_utf8(value).ok().filter(|_| is_plain)?;
    text.parse().ok()
}

/// A value of the same shape: other digits, and other letters where those are none of a word.
fn fresh(value: &[u8], random: &SeededRandom) -> Vec<u8> {
    let is_hexadecimal = value.iter().all(|b| b.is_ascii_hexdigit() || b".-".contains(b));
    let is_identifier =
        value.len() >= 12 && value.iter().filter(|b| b.is_ascii_digit()).count() > 2;
    let letter = |first: u8, count: u64| first + random.below(count) as u8;
    let other = |(at, byte): (usize, &u8)| match byte {
        b'1'..=b'9' if at == 0 => letter(b'1', 9),
        b'0'..=b'9' => letter(b'0', 10),
        b'a'..=b'f' if is_hexadecimal => letter(b'a', 6),
        b'A'..=b'F' if is_hexadecimal => letter(b'A', 6),
        b'a'..=b'z' if is_identifier => letter(b'a', 26),
        b'A'..=b'Z' if is_identifier => letter(b'A', 26),
        byte => *byte,
    };
    value.iter().enumerate().map(other).collect()
}

/// Takes a line apart: texts, timestamps, and the tokens that hold a digit.
fn split(line: &[u8]) -> (Vec<Piece>, Vec<Vec<u8>>) {
    let (mut pieces, mut values, mut text) = (Vec::new(), Vec::new(), Vec::new());
    let mut at = 0;
    let end_text = |text: &mut Vec<u8>, pieces: &mut Vec<Piece>| {
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(text)));
        }
    };
    while at < line.len() {
        if let Some((stamp, length)) = Stamp::find(line, at) {
            end_text(&mut text, &mut pieces);
            pieces.push(Piece::Stamp(stamp));
            at += length;
            continue;
        }
        let length = token(&line[at..]);
        let token = &line[at..at + length.max(1)];
        // A letter before a date is not in one token with it.
        let is_level = at == 0 && Stamp::find(line, 1).is_some();
        if is_level {
            text.push(line[0]);
            at = 1;
        } else if length > 0 && token.iter().any(u8::is_ascii_digit) {
            end_text(&mut text, &mut pieces);
            pieces.push(Piece::Value(0));
            values.push(token.to_vec());
            at += length;
        } else {
            text.extend_from_slice(token);
            at += token.len();
        }
    }
    end_text(&mut text, &mut pieces);
    (pieces, values)
}

/// How long the token is that a text begins with: letters, digits and underscores, and what stands
/// between hexadecimal digits in addresses, fractions and identifiers.
fn token(text: &[u8]) -> usize {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut length = 0;
    while let Some(&byte) = text.get(length) {
        let is_hexadecimal =
            |at: Option<usize>| at.and_then(|at| text.get(at)).is_some_and(u8::is_ascii_hexdigit);
        let joins = b".-".contains(&byte)
            && is_hexadecimal(length.checked_sub(1))
            && is_hexadecimal(Some(length + 1));
        if !is_part(byte) && !joins {
            break;
        }
        length += 1;
    }
    length
}

/// Tells templates apart.
fn key(pieces: &[Piece]) -> Vec<u8> {
    let mut key = Vec::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                key.push(0);
                key.extend_from_slice(text);
            }
            Piece::Value(_) => key.push(1),
            Piece::Stamp(stamp) => {
                key.push(2);
                key.extend_from_slice(&stamp.key());
            }
        }
    }
    key
}

/// Numbers the places of values from `first` on.
fn numbered(pieces: Vec<Piece>, first: usize) -> Vec<Piece> {
    let mut next = first..;
    let number = |piece| match piece {
        Piece::Value(_) => Piece::Value(next.next().unwrap_or_default()),
        other => other,
    };
    pieces.into_iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, shown: &str) {
        let (pieces, values) = split(line.as_bytes());
        let mut values = values.iter();
        let pieces = pieces.iter().map(|piece| match piece {
            Piece::Text(text) => String::from_utf8_lossy(text).into_owned(),
            Piece::Stamp(_) => "<T>".to_owned(),
            Piece::Value(_) => {
                format!("<{}>", String::from_utf8_lossy(values.next().expect("a value")))
            }
        });
        assert_eq!(pieces.collect::<String>(), shown);
    }

    #[test]
    fn what_holds_a_digit_is_a_value() {
        check("", "");
        check("no digits, none", "no digits, none");
        check("I0507 12:04:17.596973       1 x.go:202] ok", "I<T>       <1> x.go:<202>] ok");
        check("to /10.251.71.193:80 blk_-667", "to /<10.251.71.193>:<80> blk_-<667>");
        check("req-939eb332-c1c1-4e67 took 0.25s", "req-<939eb332-c1c1-4e67> took <0.25s>");
        check("ts=2024-05-02T12:17:25Z id=a1", "ts=<T>Z id=<a1>");
    }

    #[test]
    fn values_grow_stay_or_change_in_shape() {
        let lines: Vec<Vec<u8>> = (0..50)
            .map(|i| format!("n={} host=h{} kind=v1", 100 + 3 * i, i % 4).into_bytes())
            .collect();
        let (source, random) = (Source::of(&lines), SeededRandom::new(1));
        assert_eq!((source.templates.len(), source.places.len()), (1, 3));
        let (mut recent, mut last, mut same) = (Recent::default(), 0, 0);
        for _ in 0..1_000 {
            let mut out = Vec::new();
            source.write(7, 0, &mut recent, &random, &mut out);
            let text = String::from_utf8(out).expect("text");
            let rest = text.strip_prefix("n=").expect("the same template");
            let (number, rest) = rest.split_once(" host=h").expect("the same shape");
            let number: u64 = number.parse().expect("a number");
            assert!(number >= last && number - last <= 106, "{number} behind {last}");
            last = number;
            let (digit, kind) = rest.split_once(" kind=v").expect("the same shape");
            assert!(digit.parse::<u8>().is_ok_and(|d| d < 10), "{digit}");
            same += u32::from(kind == "1");
        }
        assert!((940..1_000).contains(&same), "constants stay mostly: {same}");
    }
}
