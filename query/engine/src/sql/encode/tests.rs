//! What answers look like, form by form.

use std::sync::Arc;

use arrow_array::builder::{MapBuilder, StringBuilder};
use arrow_array::types::{Float64Type, Int32Type};
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float64Array,
    Int64Array, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
    TimestampMillisecondArray, TimestampNanosecondArray, UInt64Array,
};
use arrow_ipc::reader::StreamReader;
use query::{SqlFormat, Used};

use super::Encoder;

fn encoded(format: SqlFormat, batch: &RecordBatch) -> Vec<u8> {
    let mut encoder = Encoder::new(format, &batch.schema()).expect("a writer");
    let rows = encoder.rows(batch).expect("rows");
    let end = encoder.end(&[], Used::default()).expect("an end");
    [rows, end].concat()
}

#[track_caller]
fn check(column: ArrayRef, json: &str, csv: &str) {
    let batch = RecordBatch::try_from_iter([("c", column)]).expect("a batch");
    let found = String::from_utf8(encoded(SqlFormat::Json, &batch)).expect("text");
    let rows = found.split_once("\"rows\":[").and_then(|(_, rest)| rest.split_once("],\"stats\""));
    assert_eq!(rows.map(|(rows, _)| rows), Some(json), "{found}");
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(&found);
    assert!(parsed.is_ok(), "{found}");
    let found = String::from_utf8(encoded(SqlFormat::Csv, &batch)).expect("text");
    assert_eq!(found.strip_prefix("c\r\n"), Some(csv));
    let bytes = encoded(SqlFormat::Arrow, &batch);
    let mut read = StreamReader::try_new(bytes.as_slice(), None).expect("a stream");
    assert_eq!(read.next().expect("a batch").expect("read"), batch);
    assert!(read.next().is_none());
}

#[test]
fn numbers_lose_nothing() {
    let whole = vec![Some(9_007_199_254_740_991), Some(-9_007_199_254_740_992), None, Some(-7)];
    check(
        Arc::new(Int64Array::from(whole)),
        "[9007199254740991],[\"-9007199254740992\"],[null],[-7]",
        "9007199254740991\r\n-9007199254740992\r\n\r\n-7\r\n",
    );
    check(
        Arc::new(UInt64Array::from(vec![u64::MAX, 1])),
        "[\"18446744073709551615\"],[1]",
        "18446744073709551615\r\n1\r\n",
    );
    let floats = vec![0.1, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300];
    check(
        Arc::new(Float64Array::from(floats)),
        "[0.1],[-0],[\"NaN\"],[\"+Inf\"],[\"-Inf\"],[1e+300]",
        "0.1\r\n-0\r\nNaN\r\n+Inf\r\n-Inf\r\n1e+300\r\n",
    );
    let decimals = Decimal128Array::from(vec![1_234]).with_precision_and_scale(9, 3);
    check(Arc::new(decimals.expect("a decimal")), "[\"1.234\"]", "1.234\r\n");
}

#[test]
fn texts_are_escaped() {
    let texts = vec![Some("a,\"b\"\n"), Some(""), None, Some("é\u{1}")];
    let json = r#"["a,\"b\"\n"],[""],[null],["é\u0001"]"#;
    let csv = "\"a,\"\"b\"\"\n\"\r\n\"\"\r\n\r\né\u{1}\r\n";
    check(Arc::new(StringArray::from(texts.clone())), json, csv);
    check(Arc::new(StringViewArray::from(texts.clone())), json, csv);
    check(Arc::new(texts.into_iter().collect::<DictionaryArray<Int32Type>>()), json, csv);
    check(Arc::new(BooleanArray::from(vec![true, false])), "[true],[false]", "true\r\nfalse\r\n");
}

#[test]
fn instants_have_their_digits_and_zone() {
    let ms = TimestampMillisecondArray::from(vec![1_795_219_200_007, -1]);
    check(
        Arc::new(ms.with_timezone("UTC")),
        "[\"2026-11-21T00:00:00.007Z\"],[\"1969-12-31T23:59:59.999Z\"]",
        "2026-11-21T00:00:00.007Z\r\n1969-12-31T23:59:59.999Z\r\n",
    );
    check(
        Arc::new(TimestampNanosecondArray::from(vec![1, 2_000, 3_000_000])),
        "[\"1970-01-01T00:00:00.000000001\"],[\"1970-01-01T00:00:00.000002\"],[\"1970-01-01T00:00:00.003\"]",
        "1970-01-01T00:00:00.000000001\r\n1970-01-01T00:00:00.000002\r\n1970-01-01T00:00:00.003\r\n",
    );
    check(Arc::new(Date32Array::from(vec![20_000])), "[\"2024-10-04\"]", "2024-10-04\r\n");
}

#[test]
fn parts_are_json() {
    let list = ListArray::from_iter_primitive::<Float64Type, _, _>([Some([Some(1.0), None])]);
    check(Arc::new(list.clone()), "[[1,null]]", "\"[1,null]\"\r\n");
    let parts: StructArray = vec![
        (
            Arc::new(arrow_schema::Field::new("a", arrow_schema::DataType::Int64, true)),
            Arc::new(Int64Array::from(vec![1])) as ArrayRef,
        ),
        (
            Arc::new(arrow_schema::Field::new("b", list_type(&list), true)),
            Arc::new(list) as ArrayRef,
        ),
    ]
    .into();
    check(
        Arc::new(parts),
        "[{\"a\":1,\"b\":[1,null]}]",
        "\"{\"\"a\"\":1,\"\"b\"\":[1,null]}\"\r\n",
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("job");
    map.values().append_value("a");
    map.append(true).expect("a row");
    check(Arc::new(map.finish()), "[{\"job\":\"a\"}]", "\"{\"\"job\"\":\"\"a\"\"}\"\r\n");
}

fn list_type(list: &ListArray) -> arrow_schema::DataType {
    use arrow_array::Array;
    list.data_type().clone()
}

#[test]
fn an_answer_without_rows_has_its_columns() {
    let empty: ArrayRef = Arc::new(Int64Array::from(Vec::<i64>::new()));
    check(empty, "", "");
}
