//! How CockroachDB writes values in a feed, and what they are.

/// One way to write a value of a type.
pub struct Case {
    /// The type, as CockroachDB names it.
    pub cockroach: &'static str,
    /// The type at the target; empty where PostgreSQL without extensions has none.
    pub postgres: &'static str,
    /// The value in a feed.
    pub json: &'static str,
    /// What is sent to the target; `None`: SQL NULL.
    pub text: Option<&'static str>,
    /// The value as a PostgreSQL expression.
    pub value: &'static str,
}

const fn case(
    cockroach: &'static str,
    postgres: &'static str,
    json: &'static str,
    text: &'static str,
    value: &'static str,
) -> Case {
    Case { cockroach, postgres, json, text: Some(text), value }
}

const fn null(cockroach: &'static str, postgres: &'static str, json: &'static str) -> Case {
    Case { cockroach, postgres, json, text: None, value: "NULL" }
}

/// One entry for each type and form. Where it is not confirmed how CockroachDB writes a type, each form that it may
/// have.
pub const CASES: &[Case] = &[
    // NULL
    null("STRING", "text", "null"),
    null("INT8", "bigint", "null"),
    null("INT8[]", "bigint[]", "null"),
    null("JSONB", "jsonb", "null"),
    // INT2, INT4, INT8
    case("INT2", "smallint", "-32768", "-32768", "-32768"),
    case("INT4", "integer", "2147483647", "2147483647", "2147483647"),
    case("INT8", "bigint", "9223372036854775807", "9223372036854775807", "9223372036854775807"),
    case("INT8", "bigint", "-9223372036854775808", "-9223372036854775808", "-9223372036854775808"),
    case("INT8", "bigint", "9007199254740993", "9007199254740993", "9007199254740993"),
    // FLOAT4, FLOAT8, with and without exponents
    case("FLOAT8", "double precision", "3.14", "3.14", "3.14"),
    case("FLOAT8", "double precision", "12", "12", "12"),
    case("FLOAT8", "double precision", "1.2E+2", "1.2E+2", "120"),
    case("FLOAT8", "double precision", "120", "120", "120"),
    case("FLOAT8", "double precision", "1.2e+02", "1.2e+02", "120"),
    case("FLOAT8", "double precision", "1E+1", "1E+1", "10"),
    case("FLOAT8", "double precision", "1E+5", "1E+5", "100000"),
    case("FLOAT8", "double precision", "1E-7", "1E-7", "1e-7"),
    case("FLOAT8", "double precision", "0.1", "0.1", "0.1"),
    case("FLOAT8", "double precision", "-0", "-0", "'-0'"),
    case("FLOAT8", "double precision", "1.7976931348623157E+308", "1.7976931348623157E+308", "1.7976931348623157e308"),
    case("FLOAT8", "double precision", "5E-324", "5E-324", "5e-324"),
    case("FLOAT4", "real", "0.1", "0.1", "0.1"),
    case("FLOAT4", "real", "0.10000000149011612", "0.10000000149011612", "0.1"),
    case("FLOAT8", "double precision", "\"NaN\"", "NaN", "'NaN'"),
    case("FLOAT8", "double precision", "\"Infinity\"", "Infinity", "'Infinity'"),
    case("FLOAT8", "double precision", "\"-Infinity\"", "-Infinity", "'-Infinity'"),
    // DECIMAL
    case("DECIMAL(10,2)", "numeric", "26.30", "26.30", "26.30"),
    case("DECIMAL", "numeric", "1E+2", "1E+2", "100"),
    case("DECIMAL", "numeric", "4E2", "4E2", "400"),
    case("DECIMAL", "numeric", "4E+2", "4E+2", "400"),
    case("DECIMAL", "numeric", "4E-2", "4E-2", "0.04"),
    case("DECIMAL", "numeric", "4.321E10", "4.321E10", "43210000000"),
    case("DECIMAL", "numeric", "1E-7", "1E-7", "0.0000001"),
    case(
        "DECIMAL",
        "numeric",
        "123456789012345678901234567890.1234567890123456789",
        "123456789012345678901234567890.1234567890123456789",
        "123456789012345678901234567890.1234567890123456789",
    ),
    case("DECIMAL", "numeric", "\"NaN\"", "NaN", "'NaN'"),
    case("DECIMAL", "numeric", "\"Infinity\"", "Infinity", "'Infinity'"),
    case("DECIMAL", "numeric", "\"-Infinity\"", "-Infinity", "'-Infinity'"),
    // BOOL
    case("BOOL", "boolean", "true", "t", "true"),
    case("BOOL", "boolean", "false", "f", "false"),
    // STRING, VARCHAR, CHAR, NAME, CITEXT, COLLATED
    case("STRING", "text", "\"héllo\"", "héllo", "'héllo'"),
    case("STRING", "text", "\"h\\u00e9llo\"", "héllo", "'héllo'"),
    case(
        "STRING",
        "text",
        r#""\ud83d\ude00 \"q\" \\ \/ \b\f\n\r\t""#,
        "😀 \"q\" \\ / \u{8}\u{c}\n\r\t",
        r#"E'😀 "q" \\ / \b\f\n\r\t'"#,
    ),
    case("STRING", "text", "\"\"", "", "''"),
    case("STRING", "text", r#""null""#, "null", "'null'"),
    case("STRING", "text", r#""\\x01""#, r"\x01", r"E'\\x01'"),
    case("VARCHAR(20)", "character varying(20)", "\"a b \"", "a b ", "'a b '"),
    case("CHAR(3)", "character(3)", "\"ab\"", "ab", "'ab '"),
    case("NAME", "name", "\"n\"", "n", "'n'"),
    case("CITEXT", "", "\"Ab\"", "Ab", ""),
    case("STRING COLLATE en", "text", "\"ä\"", "ä", "'ä'"),
    // BYTES
    case("BYTES", "bytea", r#""\\x0102ff""#, r"\x0102ff", r"'\x0102ff'"),
    case("BYTES", "bytea", r#""\\x""#, r"\x", r"''"),
    // DATE
    case("DATE", "date", "\"2016-01-25\"", "2016-01-25", "'2016-01-25'"),
    case("DATE", "date", "\"infinity\"", "infinity", "'infinity'"),
    case("DATE", "date", "\"-infinity\"", "-infinity", "'-infinity'"),
    case("DATE", "date", "\"12345-06-07\"", "12345-06-07", "'12345-06-07'"),
    case("DATE", "date", "\"0044-03-15 BC\"", "0044-03-15 BC", "'0044-03-15 BC'"),
    case("DATE", "date", "\"-0043-03-15\"", "0044-03-15 BC", "'0044-03-15 BC'"),
    // TIMESTAMP
    case("TIMESTAMP", "timestamp", "\"2016-01-25T10:10:10.5\"", "2016-01-25 10:10:10.5", "'2016-01-25 10:10:10.5'"),
    case("TIMESTAMP", "timestamp", "\"2016-01-25T10:10:10\"", "2016-01-25 10:10:10", "'2016-01-25 10:10:10'"),
    case(
        "TIMESTAMP(3)",
        "timestamp(3)",
        "\"2016-01-25T10:10:10.555\"",
        "2016-01-25 10:10:10.555",
        "'2016-01-25 10:10:10.555'",
    ),
    case("TIMESTAMP", "timestamp", "\"0000-12-31T00:00:00\"", "0001-12-31 00:00:00 BC", "'0001-12-31 BC'"),
    case("TIMESTAMP", "timestamp", "\"12345-06-07T08:09:10\"", "12345-06-07 08:09:10", "'12345-06-07 08:09:10'"),
    case(
        "TIMESTAMP",
        "timestamp",
        "\"294276-12-31T23:59:59.999999\"",
        "294276-12-31 23:59:59.999999",
        "'294276-12-31 23:59:59.999999'",
    ),
    case("TIMESTAMP", "timestamp", "\"-4713-11-24T00:00:00\"", "4714-11-24 00:00:00 BC", "'4714-11-24 00:00:00 BC'"),
    case("TIMESTAMP", "timestamp", "\"-4714-11-24T00:00:00\"", "4714-11-24 00:00:00 BC", "'4714-11-24 00:00:00 BC'"),
    case("TIMESTAMP", "timestamp", "\"infinity\"", "infinity", "'infinity'"),
    // TIMESTAMPTZ
    case(
        "TIMESTAMPTZ",
        "timestamptz",
        "\"2025-05-09T21:20:29.203923Z\"",
        "2025-05-09 21:20:29.203923+00",
        "'2025-05-09 21:20:29.203923+00'",
    ),
    case(
        "TIMESTAMPTZ",
        "timestamptz",
        "\"2025-05-09T21:20:29.203923000Z\"",
        "2025-05-09 21:20:29.203923+00",
        "'2025-05-09 21:20:29.203923+00'",
    ),
    case(
        "TIMESTAMPTZ",
        "timestamptz",
        "\"2025-05-09T21:20:29Z\"",
        "2025-05-09 21:20:29+00",
        "'2025-05-09 21:20:29+00'",
    ),
    case(
        "TIMESTAMPTZ",
        "timestamptz",
        "\"2025-05-09T21:20:29.5+05:30\"",
        "2025-05-09 21:20:29.5+05:30",
        "'2025-05-09 15:50:29.5+00'",
    ),
    case(
        "TIMESTAMPTZ",
        "timestamptz",
        "\"-0043-03-15T10:00:00Z\"",
        "0044-03-15 10:00:00+00 BC",
        "'0044-03-15 10:00:00+00 BC'",
    ),
    // TIME
    case("TIME", "time", "\"03:04:05.123456\"", "03:04:05.123456", "'03:04:05.123456'"),
    case("TIME", "time", "\"24:00:00\"", "24:00:00", "'24:00:00'"),
    case("TIME", "time", "\"00:00:00\"", "00:00:00", "'00:00:00'"),
    // TIMETZ
    case("TIMETZ", "timetz", "\"03:04:05-05:00:00\"", "03:04:05-05:00:00", "'03:04:05-05'"),
    case("TIMETZ", "timetz", "\"03:04:05-05\"", "03:04:05-05", "'03:04:05-05'"),
    case("TIMETZ", "timetz", "\"03:04:05.5+05:30\"", "03:04:05.5+05:30", "'03:04:05.5+05:30'"),
    case("TIMETZ", "timetz", "\"03:04:05+05:30:15\"", "03:04:05+05:30:15", "'03:04:05+05:30:15'"),
    case("TIMETZ", "timetz", "\"24:00:00+00:00:00\"", "24:00:00+00:00:00", "'24:00:00+00'"),
    // INTERVAL
    case(
        "INTERVAL",
        "interval",
        "\"1 year 2 mons 3 days 04:05:06\"",
        "1 year 2 mons 3 days 04:05:06",
        "'1 year 2 mons 3 days 04:05:06'",
    ),
    case(
        "INTERVAL",
        "interval",
        "\"-1 years -2 mons +3 days -04:05:06.789\"",
        "-1 years -2 mons +3 days -04:05:06.789",
        "'-14 mons +3 days -4 hours -5 mins -6.789 secs'",
    ),
    case("INTERVAL", "interval", "\"00:00:00\"", "00:00:00", "'0'"),
    case("INTERVAL", "interval", "\"P1Y2M3DT4H5M6S\"", "P1Y2M3DT4H5M6S", "'1 year 2 mons 3 days 04:05:06'"),
    // UUID
    case(
        "UUID",
        "uuid",
        "\"7f9c24e8-3b12-4fef-91e0-56a2d5a246ec\"",
        "7f9c24e8-3b12-4fef-91e0-56a2d5a246ec",
        "'7f9c24e8-3b12-4fef-91e0-56a2d5a246ec'",
    ),
    // JSONB
    case("JSONB", "jsonb", r#"{"a": [1, null]}"#, r#"{"a": [1, null]}"#, r#"'{"a": [1, null]}'"#),
    case("JSONB", "jsonb", r#"{"n": 1E+1, "m": 1.10}"#, r#"{"n": 1E+1, "m": 1.10}"#, r#"'{"n": 10, "m": 1.10}'"#),
    case(
        "JSONB",
        "jsonb",
        "[9007199254740993, 0.1234567890123456789012345]",
        "[9007199254740993, 0.1234567890123456789012345]",
        "'[9007199254740993, 0.1234567890123456789012345]'",
    ),
    case("JSONB", "jsonb", r#""a string""#, r#""a string""#, r#"'"a string"'"#),
    case("JSONB", "jsonb", "12", "12", "'12'"),
    case("JSONB", "jsonb", "true", "true", "'true'"),
    case("JSONB", "jsonb", r#"{"__crdb_json_null__": true}"#, "null", "'null'"),
    case("JSONB", "jsonb", r#"{"__crdb_json_null__":true}"#, "null", "'null'"),
    case(
        "JSONB",
        "jsonb",
        r#"{"__crdb_json_null__": false}"#,
        r#"{"__crdb_json_null__": false}"#,
        r#"'{"__crdb_json_null__": false}'"#,
    ),
    // ARRAY
    case("STRING[]", "text[]", r#"["a", null]"#, "{a,NULL}", "ARRAY['a', NULL]"),
    case("STRING[]", "text[]", "[]", "{}", "'{}'"),
    case(
        "STRING[]",
        "text[]",
        r#"["", "null", "NULL", "a b", "a,b", "{}", "q\"q", "b\\s", "\t\u000b", "é"]"#,
        "{\"\",\"null\",\"NULL\",\"a b\",\"a,b\",\"{}\",\"q\\\"q\",\"b\\\\s\",\"\t\u{b}\",é}",
        r#"ARRAY['', 'null', 'NULL', 'a b', 'a,b', '{}', 'q"q', E'b\\s', E'\t\x0b', 'é']"#,
    ),
    case("INT8[]", "bigint[]", "[1, -2, null]", "{1,-2,NULL}", "ARRAY[1, -2, NULL]"),
    case("BOOL[]", "boolean[]", "[true, false]", "{t,f}", "ARRAY[true, false]"),
    case("FLOAT8[]", "double precision[]", r#"[1E+1, "NaN"]"#, "{1E+1,NaN}", "ARRAY[10, 'NaN'::float8]"),
    case(
        "DECIMAL[]",
        "numeric[]",
        r#"[1E+2, 26.30, "Infinity"]"#,
        "{1E+2,26.30,Infinity}",
        "ARRAY[100, 26.30, 'Infinity'::numeric]",
    ),
    case(
        "BYTES[]",
        "bytea[]",
        r#"["\\x01", "\\x", null]"#,
        r#"{"\\x01","\\x",NULL}"#,
        r"ARRAY['\x01'::bytea, ''::bytea, NULL]",
    ),
    case(
        "TIMESTAMP[]",
        "timestamp[]",
        r#"["2016-01-25T10:10:10.5", null]"#,
        r#"{"2016-01-25 10:10:10.5",NULL}"#,
        "ARRAY['2016-01-25 10:10:10.5'::timestamp, NULL]",
    ),
    case(
        "JSONB[]",
        "jsonb[]",
        r#"[{"a": "b\"c"}, {"__crdb_json_null__": true}, null]"#,
        r#"{"{\"a\": \"b\\\"c\"}","null",NULL}"#,
        r#"ARRAY['{"a": "b\"c"}'::jsonb, 'null'::jsonb, NULL]"#,
    ),
    case(
        "DATE[]",
        "date[]",
        r#"["2016-01-25", "infinity"]"#,
        "{2016-01-25,infinity}",
        "ARRAY['2016-01-25'::date, 'infinity']",
    ),
    // ENUM: the catalog tells that the type is one
    case("STRING", "mood", "\"open\"", "open", "'open'"),
    case("STRING[]", "mood[]", r#"["open", "it's"]"#, "{open,it's}", "ARRAY['open'::mood, 'it''s'::mood]"),
    // INET
    case("INET", "inet", "\"190.0.0.0/24\"", "190.0.0.0/24", "'190.0.0.0/24'"),
    case("INET", "inet", "\"192.168.0.1\"", "192.168.0.1", "'192.168.0.1'"),
    case("INET", "inet", "\"2001:4f8:3:ba::/64\"", "2001:4f8:3:ba::/64", "'2001:4f8:3:ba::/64'"),
    // BIT, VARBIT
    case("BIT(4)", "bit(4)", "\"0101\"", "0101", "B'0101'"),
    case("VARBIT", "bit varying", "\"\"", "", "B''"),
    // GEOMETRY, GEOGRAPHY
    case(
        "GEOMETRY",
        "",
        r#"{"coordinates": [1, 2.50], "type": "Point"}"#,
        r#"{"coordinates": [1, 2.50], "type": "Point"}"#,
        "",
    ),
    case(
        "GEOGRAPHY(POINT,4326)",
        "",
        r#"{"type":"Point","coordinates":[1E+1,2]}"#,
        r#"{"type":"Point","coordinates":[1E+1,2]}"#,
        "",
    ),
    null("GEOMETRY", "", "null"),
    // BOX2D
    case("BOX2D", "", "\"BOX(1 2,3 4)\"", "BOX(1 2,3 4)", ""),
    // OID, REG*
    case("OID", "oid", "\"25\"", "25", "25"),
    case("OID", "oid", "25", "25", "25"),
    case("REGTYPE", "regtype", "\"25\"", "25", "'text'"),
    case("REGTYPE", "regtype", "\"text\"", "text", "'text'"),
    // TSVECTOR, TSQUERY, LTREE, PG_LSN, REFCURSOR
    case("TSVECTOR", "tsvector", "\"'a':1\"", "'a':1", "'a:1'"),
    case("TSQUERY", "tsquery", "\"'a' & 'b'\"", "'a' & 'b'", "'a & b'"),
    case("LTREE", "", "\"a.b\"", "a.b", ""),
    case("PG_LSN", "pg_lsn", "\"16/B374D848\"", "16/B374D848", "'16/B374D848'"),
    case("REFCURSOR", "refcursor", "\"c\"", "c", "'c'"),
    // VECTOR
    case("VECTOR(3)", "", "\"[1,0,0]\"", "[1,0,0]", ""),
    case("VECTOR(3)", "", "[1, 0.5, 1E-7]", "[1,0.5,1E-7]", ""),
];

/// Values that PostgreSQL cannot be given exactly, or that are not of their type: type, value, what the error says.
pub const REFUSED: &[(&str, &str, &str)] = &[
    ("INT8", "1.5", "a number, and a whole number was expected"),
    ("INT8", "1E+2", "a number, and a whole number was expected"),
    ("INT8", "\"1\"", "a string, and a whole number was expected"),
    ("FLOAT8", "\"1\"", "a string, and a number"),
    ("DECIMAL", "\"nan\"", "a string, and a number"),
    ("DECIMAL", "[1]", "an array, and a number"),
    ("BOOL", "\"true\"", "a string, and true or false was expected"),
    ("STRING", "1", "a whole number, and a string was expected"),
    ("STRING", "{}", "an object, and a string was expected"),
    ("STRING", "\"a\\u0000b\"", "U+0000"),
    ("STRING", "\"\\ud800\"", "not valid JSON"),
    ("STRING[]", "[\"a\\u0000b\"]", "U+0000"),
    ("BYTES", "\"abc\"", "\\x and hexadecimal digits"),
    ("BYTES", "\"\\\\x012\"", "\\x and hexadecimal digits"),
    ("BYTES", "\"\\\\x0g\"", "\\x and hexadecimal digits"),
    ("DATE", "\"01/25/2016\"", "a date"),
    ("DATE", "\"16-01-25\"", "a date"),
    ("DATE", "\"\"", "a date"),
    ("TIMESTAMP", "\"2016-01-25\"", "a timestamp"),
    ("TIMESTAMP", "\"2016-01-25T10:10:10.1234567\"", "finer than microseconds"),
    ("TIMESTAMPTZ", "\"2016-01-25T10:10:10.000000001Z\"", "finer than microseconds"),
    ("TIMESTAMP", "\"99999999999999999999-01-01T00:00:00\"", "a date"),
    ("TIMESTAMP", "\"-9223372036854775807-01-01T00:00:00\"", "a date"),
    ("TIME", "\"03:04:05.1234567\"", "finer than microseconds"),
    ("TIME", "\"noon\"", "a time"),
    ("INT8[]", "1", "an array was expected"),
    ("INT8[]", "[[1]]", "an array, and a whole number was expected"),
    ("INT8[]", "{}", "an object, and an array was expected"),
    ("GEOMETRY", "\"0101\"", "a GeoJSON object was expected"),
    ("OID", "true", "true or false, and a string was expected"),
    ("VECTOR", "[\"1\"]", "a string, and a number"),
    ("VECTOR", "{}", "an object, and a string was expected"),
];
