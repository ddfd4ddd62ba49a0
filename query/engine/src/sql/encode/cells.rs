//! One cell as JSON: what other forms show of nested values, too.
//!
//! Nothing is lost: a whole number that a double does not hold is a text of its digits, and so are
//! decimals; infinities and NaN are the texts that PromQL has for them.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    ArrowPrimitiveType, Date32Type, Date64Type, Float16Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{ArrowError, DataType, TimeUnit};
use query::http::push_json_string as push_string;
use query::number::{push_integer, push_unsigned, push_value};

/// The largest whole number up to which a double holds each: 2^53 - 1.
const WHOLE_MAX: u64 = (1 << 53) - 1;

/// A cell, by its kind.
pub(super) enum Cell<'a> {
    Null,
    Boolean(bool),
    Whole(i64),
    Unsigned(u64),
    Float(f64),
    Text(&'a str),
    /// A text that was made for it.
    Shown(String),
    /// What has parts.
    Nested(&'a dyn Array),
}

/// What a row of a column holds.
pub(super) fn cell(array: &dyn Array, row: usize) -> Result<Cell<'_>, ArrowError> {
    if array.is_null(row) {
        return Ok(Cell::Null);
    }
    fn at<T: ArrowPrimitiveType>(array: &dyn Array, row: usize) -> T::Native {
        array.as_primitive::<T>().value(row)
    }
    Ok(match array.data_type() {
        DataType::Null => Cell::Null,
        DataType::Boolean => Cell::Boolean(array.as_boolean().value(row)),
        DataType::Int8 => Cell::Whole(at::<Int8Type>(array, row).into()),
        DataType::Int16 => Cell::Whole(at::<Int16Type>(array, row).into()),
        DataType::Int32 => Cell::Whole(at::<Int32Type>(array, row).into()),
        DataType::Int64 => Cell::Whole(at::<Int64Type>(array, row)),
        DataType::UInt8 => Cell::Unsigned(at::<UInt8Type>(array, row).into()),
        DataType::UInt16 => Cell::Unsigned(at::<UInt16Type>(array, row).into()),
        DataType::UInt32 => Cell::Unsigned(at::<UInt32Type>(array, row).into()),
        DataType::UInt64 => Cell::Unsigned(at::<UInt64Type>(array, row)),
        DataType::Float16 => Cell::Float(at::<Float16Type>(array, row).into()),
        DataType::Float32 => Cell::Float(at::<Float32Type>(array, row).into()),
        DataType::Float64 => Cell::Float(at::<Float64Type>(array, row)),
        DataType::Utf8 => Cell::Text(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => Cell::Text(array.as_string::<i64>().value(row)),
        DataType::Utf8View => Cell::Text(array.as_string_view().value(row)),
        DataType::Date32 => Cell::Shown(date(i64::from(at::<Date32Type>(array, row)))),
        DataType::Date64 => Cell::Shown(date(at::<Date64Type>(array, row).div_euclid(86_400_000))),
        DataType::Timestamp(unit, zone) => {
            let (count, per_ms) = match unit {
                TimeUnit::Second => {
                    (at::<TimestampSecondType>(array, row).saturating_mul(1_000), 1)
                }
                TimeUnit::Millisecond => (at::<TimestampMillisecondType>(array, row), 1),
                TimeUnit::Microsecond => (at::<TimestampMicrosecondType>(array, row), 1_000),
                TimeUnit::Nanosecond => (at::<TimestampNanosecondType>(array, row), 1_000_000),
            };
            let mut text = query::http::rfc3339_text(count.div_euclid(per_ms));
            text.truncate(text.len() - 1);
            // As many digits as it takes: milliseconds always, what is finer where it is there.
            let nanoseconds = count.rem_euclid(per_ms) * (1_000_000 / per_ms);
            match (nanoseconds, nanoseconds % 1_000) {
                (0, _) => {}
                (finer, 0) => text.push_str(&format!("{:03}", finer / 1_000)),
                (finer, _) => text.push_str(&format!("{finer:06}")),
            }
            if zone.is_some() {
                text.push('Z');
            }
            Cell::Shown(text)
        }
        DataType::Dictionary(_, _) => {
            let dictionary = array.as_any_dictionary();
            // A null key was told above.
            return cell_of_dictionary(dictionary, row);
        }
        DataType::List(_)
        | DataType::LargeList(_)
        | DataType::FixedSizeList(_, _)
        | DataType::Map(_, _)
        | DataType::Struct(_) => Cell::Nested(array),
        _ => Cell::Shown(shown(array, row)?),
    })
}

fn cell_of_dictionary(
    dictionary: &dyn arrow_array::array::AnyDictionaryArray,
    row: usize,
) -> Result<Cell<'_>, ArrowError> {
    let key = match cell(dictionary.keys(), row)? {
        Cell::Whole(key) => usize::try_from(key).ok(),
        Cell::Unsigned(key) => usize::try_from(key).ok(),
        _ => None,
    };
    match key.filter(|key| *key < dictionary.values().len()) {
        Some(key) => cell(&**dictionary.values(), key),
        None => Ok(Cell::Null),
    }
}

fn date(days: i64) -> String {
    let mut text = query::http::rfc3339_text(days.saturating_mul(86_400_000));
    text.truncate(text.find('T').unwrap_or(text.len()));
    text
}

/// As Arrow shows it.
fn shown(array: &dyn Array, row: usize) -> Result<String, ArrowError> {
    let options = FormatOptions::default();
    Ok(ArrayFormatter::try_new(array, &options)?.value(row).to_string())
}

/// Appends a cell as JSON.
pub(super) fn push_json(
    out: &mut Vec<u8>,
    array: &dyn Array,
    row: usize,
) -> Result<(), ArrowError> {
    match cell(array, row)? {
        Cell::Null => out.extend_from_slice(b"null"),
        Cell::Boolean(truth) => out.extend_from_slice(if truth { b"true" } else { b"false" }),
        Cell::Whole(value) if value.unsigned_abs() <= WHOLE_MAX => push_integer(out, value),
        Cell::Unsigned(value) if value <= WHOLE_MAX => push_unsigned(out, value),
        Cell::Float(value) if value.is_finite() => push_value(out, value),
        Cell::Whole(value) => quoted(out, |out| push_integer(out, value)),
        Cell::Unsigned(value) => quoted(out, |out| push_unsigned(out, value)),
        Cell::Float(value) => quoted(out, |out| push_value(out, value)),
        Cell::Text(text) => push_string(out, text),
        Cell::Shown(text) => push_string(out, &text),
        Cell::Nested(array) => push_nested(out, array, row)?,
    }
    Ok(())
}

fn quoted(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'"');
    write(out);
    out.push(b'"');
}

fn push_nested(out: &mut Vec<u8>, array: &dyn Array, row: usize) -> Result<(), ArrowError> {
    match array.data_type() {
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            out.push(b'{');
            for (i, (field, column)) in fields.iter().zip(columns).enumerate() {
                comma(out, i);
                push_string(out, field.name());
                out.push(b':');
                push_json(out, column, row)?;
            }
            out.push(b'}');
            Ok(())
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            out.push(b'{');
            for i in 0..entries.len() {
                comma(out, i);
                // A name is a text in JSON, whatever it is here.
                match cell(entries.column(0), i)? {
                    Cell::Text(name) => push_string(out, name),
                    _ => push_string(out, &shown(entries.column(0), i)?),
                }
                out.push(b':');
                push_json(out, entries.column(1), i)?;
            }
            out.push(b'}');
            Ok(())
        }
        DataType::LargeList(_) => push_list(out, &array.as_list::<i64>().value(row)),
        DataType::FixedSizeList(_, _) => push_list(out, &array.as_fixed_size_list().value(row)),
        _ => push_list(out, &array.as_list::<i32>().value(row)),
    }
}

fn push_list(out: &mut Vec<u8>, items: &ArrayRef) -> Result<(), ArrowError> {
    out.push(b'[');
    for i in 0..items.len() {
        comma(out, i);
        push_json(out, items, i)?;
    }
    out.push(b']');
    Ok(())
}

/// A comma before every element but the first.
pub(super) fn comma(out: &mut Vec<u8>, index: usize) {
    if index > 0 {
        out.push(b',');
    }
}
