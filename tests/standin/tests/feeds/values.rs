//! Every type that the backing server can hold, from SQL to the message.

use crate::fixture::database;

/// Type, literal, JSON.
const VALUES: &[(&str, &str, &str)] = &[
    ("INT2", "-32768", "-32768"),
    ("INT4", "2147483647", "2147483647"),
    ("INT8", "9223372036854775807", "9223372036854775807"),
    ("FLOAT8", "120", "1.2E+2"),
    ("FLOAT8", "3.14", "3.14"),
    ("FLOAT8", "1e-7", "1E-7"),
    ("FLOAT8", "100000", "1E+5"),
    ("FLOAT8", "'NaN'", "\"NaN\""),
    ("FLOAT8", "'-Infinity'", "\"-Infinity\""),
    ("FLOAT4", "0.5", "0.5"),
    ("DECIMAL(10,2)", "26.3", "26.30"),
    ("DECIMAL", "0.0000001", "1E-7"),
    ("DECIMAL", "'NaN'", "\"NaN\""),
    ("DECIMAL", "'Infinity'", "\"Infinity\""),
    ("DECIMAL", "12345678901234567890.12345678901234567890", "12345678901234567890.12345678901234567890"),
    ("BOOL", "true", "true"),
    ("STRING", "'héllo \"x\" \\'", "\"héllo \\\"x\\\" \\\\\""),
    ("VARCHAR(10)", "'abc'", "\"abc\""),
    ("BYTES", "'\\x0102ff'", "\"\\\\x0102ff\""),
    ("DATE", "'2016-01-25'", "\"2016-01-25\""),
    ("DATE", "'infinity'", "\"infinity\""),
    ("TIMESTAMP", "'2016-01-25 10:10:10.5'", "\"2016-01-25T10:10:10.5\""),
    ("TIMESTAMPTZ", "'2025-05-09 23:20:29.203923+02'", "\"2025-05-09T21:20:29.203923Z\""),
    ("TIME", "'03:04:05.123456'", "\"03:04:05.123456\""),
    ("TIME", "'24:00:00'", "\"24:00:00\""),
    ("TIMETZ", "'03:04:05-05'", "\"03:04:05-05:00:00\""),
    ("INTERVAL", "'1 year 2 months 3 days 4 hours 5 minutes 6 seconds'", "\"1 year 2 mons 3 days 04:05:06\""),
    ("UUID", "'7f9c24e8-3b12-4fef-91e0-56a2d5a246ec'", "\"7f9c24e8-3b12-4fef-91e0-56a2d5a246ec\""),
    ("JSONB", "'{\"b\": 1.10, \"a\": [1, null]}'", "{\"a\": [1, null], \"b\": 1.10}"),
    ("JSONB", "'null'", "null"),
    ("STRING[]", "ARRAY['a', NULL]", "[\"a\", null]"),
    ("INT8[]", "ARRAY[]::INT8[]", "[]"),
    ("open_closed", "'open'", "\"open\""),
    ("INET", "'190.0.0.0/24'", "\"190.0.0.0/24\""),
    ("INET", "'192.168.0.1'", "\"192.168.0.1\""),
    ("BIT(4)", "B'0101'", "\"0101\""),
    ("VARBIT", "B'010'", "\"010\""),
    ("OID", "25", "\"25\""),
    ("STRING", "NULL", "null"),
];

#[tokio::test]
async fn every_value_has_its_published_form() {
    let db = database("every_value").await;
    db.run("CREATE TYPE open_closed AS ENUM ('open', 'closed')").await;
    let columns: Vec<String> = VALUES.iter().enumerate().map(|(at, (kind, ..))| format!("c{at:02} {kind}")).collect();
    db.run(&format!("CREATE TABLE t (id INT8 PRIMARY KEY, {})", columns.join(", "))).await;
    let cursor = db.now().await;
    let literals: Vec<&str> = VALUES.iter().map(|(_, literal, _)| *literal).collect();
    db.run(&format!("INSERT INTO t VALUES (1, {})", literals.join(", "))).await;
    let said = db.feed("t", "", &cursor).await;
    let expected: Vec<String> =
        VALUES.iter().enumerate().map(|(at, (_, _, json))| format!("\"c{at:02}\": {json}")).collect();
    assert_eq!(said[0].2, format!("{{\"after\": {{{}, \"id\": 1}}}}", expected.join(", ")));
}

#[tokio::test]
async fn keys_of_several_columns_are_in_the_order_of_the_key() {
    let db = database("several_keys").await;
    db.run("CREATE TABLE t (n INT8, name STRING, d DECIMAL, PRIMARY KEY (name, n))").await;
    let cursor = db.now().await;
    db.run("INSERT INTO t VALUES (7, 'Ann', 1)").await;
    assert_eq!(db.feed("t", "", &cursor).await[0].1.as_deref(), Some(r#"["Ann", 7]"#));
}
