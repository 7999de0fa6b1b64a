//! Values of the published documentation, sources and samples, from PostgreSQL's text to the literal JSON.

use super::*;

fn json(kind: &Kind, text: &str) -> String {
    let mut out = String::new();
    value(kind, Some(text), Style::default(), &mut out);
    out
}

#[test]
fn integers_keep_all_their_digits() {
    assert_eq!(json(&Kind::Int, "9223372036854775807"), "9223372036854775807");
    assert_eq!(json(&Kind::Int, "-9223372036854775808"), "-9223372036854775808");
}

#[test]
fn floats_are_printed_as_decimals_of_their_shortest_digits() {
    let cases = [
        ("12", "12"),
        ("120", "1.2E+2"),
        ("10", "1E+1"),
        ("0.1", "0.1"),
        ("1e-07", "1E-7"),
        ("3.14", "3.14"),
        ("100000", "1E+5"),
        ("1e+300", "1E+300"),
        ("0", "0"),
        ("-0", "-0"),
        ("-1234.5", "-1234.5"),
        ("0.000001", "0.000001"),
        ("1.7976931348623157e+308", "1.7976931348623157E+308"),
        ("NaN", "\"NaN\""),
        ("Infinity", "\"Infinity\""),
        ("-Infinity", "\"-Infinity\""),
    ];
    for (text, expected) in cases {
        assert_eq!(json(&Kind::Float { single: false }, text), expected, "{text}");
    }
    assert_eq!(json(&Kind::Float { single: true }, "3.14"), "3.140000104904175");
    assert_eq!(json(&Kind::Float { single: true }, "0.5"), "0.5");
}

#[test]
fn decimals_keep_their_trailing_zeros() {
    let cases = [
        ("26.30", "26.30"),
        ("1E+2", "1E+2"),
        ("0.0000001", "1E-7"),
        ("0.00000010", "1.0E-7"),
        ("0.000001", "0.000001"),
        ("0.00", "0.00"),
        ("0.0000000", "0E-7"),
        ("-12345678901234567890.123456789", "-12345678901234567890.123456789"),
        ("NaN", "\"NaN\""),
        ("-Infinity", "\"-Infinity\""),
    ];
    for (text, expected) in cases {
        assert_eq!(json(&Kind::Decimal, text), expected, "{text}");
    }
}

#[test]
fn strings_are_escaped_as_go_escapes_them() {
    assert_eq!(json(&Kind::Text, "héllo"), "\"héllo\"");
    assert_eq!(json(&Kind::Text, "a\"b\\c\n\r\t\u{1}\u{8}"), "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u0008\"");
    assert_eq!(json(&Kind::Text, "<&>\u{7f}\u{2028}😀"), "\"<&>\u{7f}\\u2028😀\"");
}

#[test]
fn what_has_a_text_form_is_a_string() {
    for text in [
        "2016-01-25",
        "infinity",
        "03:04:05.123456",
        "24:00:00",
        "1 year 2 mons 3 days 04:05:06",
        "7f9c24e8-3b12-4fef-91e0-56a2d5a246ec",
        "open",
        "190.0.0.0/24",
        "192.168.0.1",
        "0101",
        "25",
        "'a':1",
    ] {
        assert_eq!(json(&Kind::Text, text), format!("\"{text}\""));
    }
    assert_eq!(json(&Kind::Text, "\\x0102ff"), r#""\\x0102ff""#);
}

#[test]
fn times_have_a_t_and_utc_a_z() {
    assert_eq!(json(&Kind::Timestamp, "2016-01-25 10:10:10.5"), "\"2016-01-25T10:10:10.5\"");
    assert_eq!(json(&Kind::Timestamp, "infinity"), "\"294276-12-31T23:59:59.999999\"");
    assert_eq!(json(&Kind::TimestampTz, "2025-05-09 21:20:29.203923+00"), "\"2025-05-09T21:20:29.203923Z\"");
    assert_eq!(json(&Kind::TimestampTz, "2025-05-09 21:20:29+00"), "\"2025-05-09T21:20:29Z\"");
    assert_eq!(json(&Kind::TimeTz, "03:04:05-05"), "\"03:04:05-05:00:00\"");
    assert_eq!(json(&Kind::TimeTz, "03:04:05.5+05:30"), "\"03:04:05.5+05:30:00\"");
}

#[test]
fn booleans_are_booleans() {
    assert_eq!((json(&Kind::Bool, "t"), json(&Kind::Bool, "f")), ("true".to_owned(), "false".to_owned()));
}

#[test]
fn documents_are_embedded_with_sorted_keys_and_decimal_numbers() {
    assert_eq!(json(&Kind::Json, r#"{"a": [1, null]}"#), r#"{"a": [1, null]}"#);
    assert_eq!(
        json(&Kind::Json, r#"{"b": 1.10, "aa": "x\"\u00e9", "c": {}}"#),
        r#"{"aa": "x\"é", "b": 1.10, "c": {}}"#
    );
    assert_eq!(json(&Kind::Json, "[1e2, true, [], -0.00000001]"), "[1E+2, true, [], -1E-8]");
    assert_eq!(json(&Kind::Json, "\"x\""), "\"x\"");
    assert_eq!(json(&Kind::Json, "null"), "null");
    let mut out = String::new();
    value(&Kind::Json, Some("null"), Style { json_null_as_object: true }, &mut out);
    assert_eq!(out, r#"{"__crdb_json_null__": true}"#);
}

#[test]
fn arrays_hold_values_as_columns_do() {
    let texts = Kind::Array(Arc::new(Kind::Text));
    assert_eq!(json(&texts, "{a,NULL}"), r#"["a", null]"#);
    assert_eq!(json(&texts, r#"{"a b","NULL","x\"y\\z",""}"#), r#"["a b", "NULL", "x\"y\\z", ""]"#);
    assert_eq!(json(&texts, "{}"), "[]");
    assert_eq!(json(&Kind::Array(Arc::new(Kind::Decimal)), "{1.50,NaN}"), r#"[1.50, "NaN"]"#);
}

#[test]
fn composites_are_objects_by_label() {
    let kind = Kind::Composite(Arc::new(vec![("f2".to_owned(), Kind::Text), ("f1".to_owned(), Kind::Int)]));
    assert_eq!(json(&kind, r#"("a ""b"", c",1)"#), r#"{"f1": 1, "f2": "a \"b\", c"}"#);
    assert_eq!(json(&kind, "(,)"), r#"{"f1": null, "f2": null}"#);
}

#[test]
fn null_is_null() {
    let mut out = String::new();
    value(&Kind::Text, None, Style::default(), &mut out);
    assert_eq!(out, "null");
}
