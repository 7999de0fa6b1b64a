use proptest::prelude::*;

use super::*;

fn canonical(type_name: &str, text: &str, equality: Equality) -> Vec<u8> {
    let mut out = Vec::new();
    Kind::of_type(type_name).unwrap_or(Kind::Text).canonical(text.as_bytes(), equality, &mut out);
    out
}

fn same(type_name: &str, texts: &[&str]) {
    for equality in [Equality::Meaning, Equality::Exact] {
        same_by(equality, type_name, texts);
    }
}

fn same_by(equality: Equality, type_name: &str, texts: &[&str]) {
    for text in texts {
        let (a, b) = (canonical(type_name, texts[0], equality), canonical(type_name, text, equality));
        assert_eq!(a, b, "{type_name} {:?} and {text:?} by {equality:?}", texts[0]);
    }
}

fn apart(type_name: &str, texts: &[&str]) {
    for equality in [Equality::Meaning, Equality::Exact] {
        apart_by(equality, type_name, texts);
    }
}

fn apart_by(equality: Equality, type_name: &str, texts: &[&str]) {
    for (index, a) in texts.iter().enumerate() {
        for b in &texts[index + 1..] {
            let (one, other) = (canonical(type_name, a, equality), canonical(type_name, b, equality));
            assert_ne!(one, other, "{type_name} {a:?} and {b:?} by {equality:?}");
        }
    }
}

#[test]
fn numbers_are_equal_by_value_and_exactly_by_scale() {
    same("numeric", &["100", "1E+2", "1e2", "+100", "0100"]);
    same("numeric", &["0.0000001", "1E-7"]);
    same("numeric", &["-12.50", "-1.250E+1"]);
    same("numeric", &["0", "-0", "0E+3"]);
    same("numeric", &["NaN", "nan"]);
    same("numeric", &["Infinity", "inf", "+Inf"]);
    same_by(Equality::Meaning, "numeric", &["1", "1.0", "1.00", "10E-1"]);
    same_by(Equality::Meaning, "numeric", &["0", "0.00", "-0.0"]);
    apart_by(Equality::Exact, "numeric", &["1", "1.0", "1.00"]);
    same_by(Equality::Exact, "numeric", &["1.00", "100E-2"]);
    apart("numeric", &["1", "-1", "10", "0.1", "NaN", "Infinity", "-Infinity", "0"]);
    apart("numeric", &["9007199254740993", "9007199254740992", "9007199254740992.0000000000000001"]);
    apart("bigint", &["9223372036854775807", "9223372036854775806"]);
}

#[test]
fn floating_point_numbers_are_equal_by_value() {
    same("double precision", &["0.1", "0.10000000000000001", "1e-1"]);
    same("real", &["0.1", "0.10000000149011612"]);
    same("real", &["NaN", "nan", "-NaN"]);
    same("double precision", &["Infinity", "inf", "+Inf"]);
    same_by(Equality::Meaning, "double precision", &["0", "-0", "-0.0"]);
    apart_by(Equality::Exact, "double precision", &["0", "-0"]);
    apart("double precision", &["0.1", "0.10000000000000002", "Infinity", "-Infinity", "NaN"]);
}

#[test]
fn json_is_equal_by_value() {
    for type_name in ["json", "jsonb", "JSONB"] {
        same(type_name, &[r#"{"b": [1E+2, "é"], "a": null}"#, "{\"a\":null,\t\"b\":[100,\"\\u00e9\"]}"]);
        same(type_name, &[r#""\ud83d\ude00\n\/""#, "\"\u{1f600}\\n/\""]);
        same(type_name, &[r#"{"a": 1, "a": 2}"#, r#"{"a": 2}"#]);
        same(type_name, &["{}", " { } "]);
        same_by(Equality::Meaning, type_name, &[r#"{"a": 1.0}"#, r#"{"a": 1.00}"#]);
        apart_by(Equality::Exact, type_name, &[r#"{"a": 1.0}"#, r#"{"a": 1.00}"#]);
        apart(type_name, &["1", "\"1\"", "[1]", "{\"1\": 1}", "null", "true", "[]", "{}", "\"\""]);
        apart(type_name, &["[1, 2]", "[2, 1]", "[12]", "[[1], 2]", "[[1, 2]]"]);
        apart(type_name, &[r#"["a", "b"]"#, r#"["a\", \"b"]"#, r#"{"a": "b"}"#, r#"{"a": "b", "c": "b"}"#]);
        apart(type_name, &[r#"{"a": {"b": 1}, "c": 2}"#, r#"{"a": {"b": 1, "c": 2}}"#]);
    }
    // Not JSON: as it is printed.
    apart("json", &["{", "{ ", "01x", r#""\ud800""#]);
}

#[test]
fn deep_json_neither_overflows_nor_is_lost() {
    let nested = |depth: usize, leaf: &str| format!("{}{leaf}{}", "[".repeat(depth), "]".repeat(depth));
    same("jsonb", &[&nested(4000, "1e1"), &nested(4000, " 10")]);
    apart("jsonb", &[&nested(100_000, "1"), &nested(100_000, "2")]);
}

#[test]
fn times_are_equal_by_instant() {
    same(
        "timestamp with time zone",
        &["2020-01-01 00:00:00+00", "2020-01-01 00:00:00+00:00", "2020-01-01 05:30:00+05:30"],
    );
    same("timestamptz", &["2020-02-29 23:59:59.5-01", "2020-03-01 00:59:59.500000+00"]);
    same("timestamp without time zone", &["2020-01-01 00:00:00", "2020-01-01T00:00:00", "2020-01-01"]);
    same("time with time zone", &["12:00:00+00", "12:00:00+00:00", "12:00:00.000+00:00:00"]);
    apart("time with time zone", &["12:00:00+00", "13:00:00+01", "12:00:00+01"]);
    apart("time", &["24:00:00", "00:00:00", "00:00:00.000001"]);
    apart("timestamptz", &["2020-01-01 00:00:00+00", "2020-01-01 00:00:00+01", "2020-01-01 00:00:00.000001+00"]);
    apart("timestamptz", &["0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00", "infinity", "-infinity"]);
    same_by(Equality::Meaning, "timestamptz", &["infinity", "294276-12-31 23:59:59.999999+00"]);
    same_by(Equality::Meaning, "timestamp", &["-infinity", "4714-11-24 00:00:00 BC"]);
    apart_by(Equality::Exact, "timestamp", &["infinity", "294276-12-31 23:59:59.999999"]);
    apart("timestamp", &["0001-12-31 00:00:00 BC", "0001-01-01 00:00:00", "294276-12-31 23:59:59.999999"]);
    assert_eq!(canonical("timestamp", "1970-01-02 00:00:00", Equality::Meaning), 86_400_000_000_i128.to_be_bytes());
    assert_eq!(
        canonical("timestamp", "2000-01-01 00:00:00", Equality::Meaning),
        946_684_800_000_000_i128.to_be_bytes()
    );
}

#[test]
fn intervals_are_months_days_and_time() {
    same("interval", &["1 year 2 mons", "14 mons", "1 years 2 mon 00:00:00"]);
    same("interval", &["-1 days +02:03:00", "-1 day 02:03:00.000"]);
    same("interval", &["00:00:00", "0 days"]);
    apart("interval", &["1 mon", "30 days", "720:00:00", "-720:00:00", "00:00:00.000001", "-00:00:00.000001"]);
}

#[test]
fn other_types_are_equal_however_they_are_printed() {
    same("boolean", &["t", "true"]);
    apart("boolean", &["t", "f"]);
    same("inet", &["1.2.3.4", "1.2.3.4/32"]);
    same("inet", &["::1", "0:0:0:0:0:0:0:1/128"]);
    apart("inet", &["1.2.3.4", "1.2.3.4/24", "::102:304", "::ffff:1.2.3.4"]);
    same("uuid", &["A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]);
    same("bpchar", &["a", "a  "]);
    apart("bpchar", &["a", " a", "A"]);
    apart("text", &["a", "a ", "A", "1E+2", "100", ""]);
    apart("bytea", &["\\x00", "\\x0000", "\\x"]);
    apart("public.mood", &["1", "1.0"]);
}

#[test]
fn arrays_are_equal_element_by_element() {
    same("numeric[]", &["{1E+2,NULL}", "{100,null}", "{\"100\",NULL}"]);
    same("_timestamptz", &["{\"2020-01-01 00:00:00+00\"}", "{\"2020-01-01 00:00:00+00:00\"}"]);
    same("text[]", &[r#"{a,"b c"}"#, r#"{"a","b\ c"}"#]);
    apart("text[]", &["{NULL}", "{\"NULL\"}", "{}", "{\"\"}", "{a,b}", "{\"a,b\"}", "{ab}", "{{a,b}}", "{{a},{b}}"]);
    apart("int[]", &["{1,2}", "[0:1]={1,2}", "{12}"]);
    same("public.mood[]", &["{sad,\"ok\"}", "{\"sad\",ok}"]);
    apart("jsonb[]", &[r#"{"{\"a\": 1}"}"#, r#"{"{\"a\": 2}"}"#]);
}

#[test]
fn the_target_decides_what_a_value_is() {
    let of = |source: Type, target: &str| Kind::of_pair(source.oid(), target);
    assert_eq!(of(Type::INT4, "bigint"), Kind::Number);
    assert_eq!(of(Type::JSON, "JSONB"), Kind::Json);
    assert_eq!(of(Type::JSON, "text"), Kind::Text);
    assert_eq!(of(Type::BPCHAR, "STRING"), Kind::Padded);
    assert_eq!(of(Type::NUMERIC, "public.amount"), Kind::Number);
    assert_eq!(of(Type::NUMERIC_ARRAY, "DECIMAL[]"), Kind::Array(Box::new(Kind::Number)));
    assert_eq!(Kind::of_pair(123_456, "public.mood"), Kind::Text);
    assert_eq!(Kind::of_pair(123_456, "numeric"), Kind::Number);
}

const TYPES: [&str; 10] =
    ["numeric", "jsonb", "timestamptz", "timetz", "interval", "text[]", "jsonb[]", "inet", "float8", "bool"];

proptest! {
    #[test]
    fn no_text_panics_and_no_two_become_one_by_accident(text in ".{0,40}", index in 0..TYPES.len()) {
        canonical(TYPES[index], &text, Equality::Meaning);
        canonical(TYPES[index], &text, Equality::Exact);
    }

    #[test]
    fn a_number_is_its_digits_whatever_its_exponent(
        digits in "[1-9][0-9]{0,30}",
        shift in 0_usize..20,
        more in 0_usize..5,
    ) {
        let exact = |text: &str| canonical("numeric", text, Equality::Exact);
        let meaning = |text: &str| canonical("numeric", text, Equality::Meaning);
        let plain = format!("{digits}{}", "0".repeat(shift));
        let scaled = format!("{digits}E+{shift}");
        prop_assert_eq!(exact(&plain), exact(&scaled));
        let long = format!("{plain}.{}", "0".repeat(more));
        prop_assert_eq!(meaning(&plain), meaning(&long));
        let small = format!("{digits}E-{shift}");
        let point = format!("{digits:0>width$}", width = shift + 1);
        let (whole, fraction) = point.split_at(point.len() - shift);
        let written = if shift == 0 { point.clone() } else { format!("{whole}.{fraction}") };
        prop_assert_eq!(exact(&small), exact(&written));
    }

    #[test]
    fn strings_in_json_survive(text in any::<String>(), other in any::<String>()) {
        let printed = |text: &str| serde_json::to_string(text).unwrap();
        let escaped: String =
            text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let escaped = format!("\"{escaped}\"");
        let same = canonical("jsonb", &printed(&text), Equality::Exact);
        prop_assert_eq!(&same, &canonical("jsonb", &escaped, Equality::Exact));
        prop_assert_eq!(text == other, same == canonical("jsonb", &printed(&other), Equality::Exact));
    }

    #[test]
    fn members_may_come_in_any_order(members in prop::collection::btree_map(any::<String>(), any::<i64>(), 0..6)) {
        let printed = |members: Vec<(&String, &i64)>| {
            let one = |(name, value): (&String, &i64)| format!("{}: {value}", serde_json::to_string(name).unwrap());
            format!("{{{}}}", members.into_iter().map(one).collect::<Vec<_>>().join(", "))
        };
        let (up, down) = (printed(members.iter().collect()), printed(members.iter().rev().collect()));
        prop_assert_eq!(canonical("jsonb", &up, Equality::Exact), canonical("jsonb", &down, Equality::Exact));
    }
}
