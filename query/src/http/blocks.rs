//! `status/tsdb/blocks`: the blocks that have rows of whoever asks, as Prometheus tells its own.

use super::Question;
use super::documents::Single;
use super::json::{comma, push_integer_field, push_string};
use super::listings::restricted;
use super::reply::Reply;
use crate::{BlockFacts, Error};

/// Answers it.
pub(super) async fn blocks(question: Question<'_>) -> Result<Reply, Error> {
    let asked = question.asked();
    let Question { querier, scope, .. } = question;
    if scope.is_restricted() {
        return Err(restricted("blocks"));
    }
    let deadline = querier.deadline(&scope, None)?;
    let found = querier
        .run(&scope, deadline, asked, async |cancel| {
            querier.executor().blocks(&scope, &cancel).await
        })
        .await?;
    Ok(Reply::document(Single::new(|out| {
        out.extend_from_slice(b"{\"blocks\":[");
        for (i, block) in found.answer.iter().enumerate() {
            comma(out, i);
            push_block(out, block);
        }
        out.extend_from_slice(b"]}");
    })))
}

fn push_block(out: &mut Vec<u8>, block: &BlockFacts) {
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let ulid = ulid(block.id);
    out.extend_from_slice(b"{\"ulid\":");
    push_string(out, &ulid);
    // The end is not in the block there.
    let end_ms = block.range.end_ms.saturating_add(1);
    for (name, value) in [("minTime", block.range.start_ms), ("maxTime", end_ms)] {
        out.push(b',');
        push_integer_field(out, name, value);
    }
    out.extend_from_slice(b",\"stats\":{");
    let stats =
        [("numSamples", block.samples), ("numSeries", block.series), ("numChunks", block.chunks)];
    for (i, (name, value)) in stats.into_iter().enumerate() {
        comma(out, i);
        push_integer_field(out, name, number(value));
    }
    // What is fresh has level 1 there.
    out.extend_from_slice(b"},\"compaction\":{");
    push_integer_field(out, "level", i64::from(block.level) + 1);
    out.extend_from_slice(b",\"sources\":[");
    push_string(out, &ulid);
    out.extend_from_slice(b"]},\"version\":1}");
}

/// A number in the form of a ULID: 26 digits of Crockford's base 32.
fn ulid(id: u128) -> String {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    (0..26).rev().map(|at| char::from(DIGITS[(id >> (5 * at)) as usize & 31])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ulids() {
        assert_eq!(ulid(0), "00000000000000000000000000");
        assert_eq!(ulid(u128::MAX), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
        // The time of the example in the specification of ULIDs.
        assert_eq!(ulid(1_469_918_176_385 << 80), "01ARYZ6S410000000000000000");
        assert_eq!(ulid(31), "0000000000000000000000000Z");
    }
}
