use proptest::prelude::*;
use tidegate_model::Value;

use super::*;
use crate::table::tests::table;

const AT: &str = "1701102296662969433.0000000000";

fn dogs() -> Arc<TableInfo> {
    table(1, "dogs", &[("name", "STRING"), ("*id", "INT8"), ("weight", "DECIMAL")])
}

/// Only the hidden `rowid` tells its rows.
fn notes() -> Arc<TableInfo> {
    table(2, "notes", &[("note", "STRING")])
}

fn decoder() -> Decoder {
    Decoder::new(Envelope::Wrapped { diff: true }, [dogs(), notes()])
}

fn decode(table: &str, key: &str, value: &str) -> Result<Message, Problem> {
    decoder().decode(Some(table.as_bytes()), Some(key.as_bytes()), value.as_bytes())
}

fn row(table: &str, key: &str, value: &str) -> FeedRow {
    match decode(table, key, value).unwrap() {
        Message::Row(row) => row,
        other => panic!("{other:?}"),
    }
}

fn refused(table: &str, key: &str, value: &str) -> Problem {
    match decode(table, key, value).unwrap() {
        Message::Refused(Refusal { updated, problem, .. }) => {
            assert_eq!(updated, AT.parse().unwrap());
            assert!(problem.what.contains(AT) && problem.what.contains(table), "{problem}");
            problem
        }
        other => panic!("{other:?}"),
    }
}

fn values<const N: usize>(texts: [Option<&str>; N]) -> Row {
    texts.into_iter().map(|text| text.map_or(Value::Null, |text| Value::Text(text.as_bytes()))).collect()
}

#[test]
fn what_became_of_a_row_is_told_by_its_images() {
    let change = |value: &str| row("bank.public.dogs", "[1]", &value.replace('@', AT)).change;
    let old = values([Some("a"), Some("1"), None]);
    let new = values([Some("b"), Some("1"), Some("26.30")]);
    assert_eq!(
        change(r#"{"after": {"id": 1, "name": "b", "weight": 26.30}, "before": null, "updated": "@"}"#),
        RowChange::Insert(new.clone())
    );
    assert_eq!(
        change(
            r#"{"after": {"id": 1, "name": "b", "weight": 26.30}, "before": {"id": 1, "name": "a", "weight": null}, "updated": "@"}"#
        ),
        RowChange::Update { old: None, new }
    );
    assert_eq!(
        change(r#"{"after": null, "before": {"id": 1, "name": "a", "weight": null}, "updated": "@"}"#),
        RowChange::Delete(OldRow::Full(old))
    );
    assert_eq!(change(r#"{"after": null, "before": null, "updated": "@"}"#), RowChange::Nothing);
}

#[test]
fn a_table_without_a_key_carries_its_old_rows() {
    let change = |value: &str| row("bank.public.notes", "[900]", &value.replace('@', AT)).change;
    let (old, new) = (values([Some("a")]), values([Some("b")]));
    let update = r#"{"after": {"note": "b", "rowid": 900}, "before": {"note": "a", "rowid": 900}, "updated": "@"}"#;
    assert_eq!(change(update), RowChange::Update { old: Some(old.clone()), new });
    let delete = r#"{"after": null, "before": {"note": "a", "rowid": 900}, "updated": "@"}"#;
    assert_eq!(change(delete), RowChange::Delete(OldRow::Full(old)));
}

#[test]
fn without_diff_a_row_is_an_update_and_a_deletion_its_key() {
    let mut decoder = Decoder::new(Envelope::Wrapped { diff: false }, [dogs(), notes()]);
    let mut decode = |table: &str, key: &str, value: &str| {
        decoder.decode(Some(table.as_bytes()), Some(key.as_bytes()), value.replace('@', AT).as_bytes()).unwrap()
    };
    let update = decode("dogs", "[1]", r#"{"after": {"id": 1, "name": "b", "weight": 2}, "updated": "@"}"#);
    let new = values([Some("b"), Some("1"), Some("2")]);
    assert!(matches!(update, Message::Row(row) if row.change == RowChange::Update { old: None, new: new.clone() }));
    let delete = decode("dogs", "[1]", r#"{"after": null, "updated": "@"}"#);
    let key = values([None, Some("1"), None]);
    assert!(matches!(delete, Message::Row(row) if row.change == RowChange::Delete(OldRow::Key(key.clone()))));
    let delete = decode("notes", "[900]", r#"{"after": null, "updated": "@"}"#);
    assert!(matches!(delete, Message::Refused(Refusal { problem, .. }) if problem.code == "CR103"));
}

#[test]
fn space_order_and_escapes_make_no_difference() {
    let spaced = r#"{"after": {"id": 1, "name": "é", "weight": 1E+2}, "before": null, "mvcc_timestamp": "1.0000000002", "updated": "@"}"#;
    let compact =
        r#"{"after":{"id":1,"name":"é","weight":1E+2},"before":null,"mvcc_timestamp":"1.0000000002","updated":"@"}"#;
    let shuffled =
        "\r\n{\t\"updated\" :\"@\" , \"op\": {\"x\": [[]]}, \"before\":null,\"mvcc_timestamp\":\"1.0000000002\",
        \"aft\\u0065r\":{ \"weight\":1E+2 ,\"n\\u0061me\":\"\\u00e9\", \"id\":1 } } ";
    let known = row("dogs", "[1]", &spaced.replace('@', AT));
    assert_eq!((known.updated, known.mvcc), (AT.parse().unwrap(), Some(Hlc { wall: 1, logical: 2 })));
    assert!(known.is_copy());
    for other in [compact, shuffled] {
        assert_eq!(row("public.dogs", " [ 1\n] ", &other.replace('@', AT)), known);
    }
}

#[test]
fn while_old_rows_are_wanted_both_images_are_told_whole() {
    let wanted: std::sync::Arc<std::sync::atomic::AtomicBool> = std::sync::Arc::default();
    let mut decoder = decoder().changed_only(true).old_rows(wanted.clone());
    let value = format!(
        r#"{{"after": {{"id": 1, "name": "b", "weight": 2}}, "before": {{"id": 1, "name": "a", "weight": 2}}, "updated": "{AT}"}}"#
    );
    let mut change = || match decoder.decode(Some(b"public.dogs"), Some(b"[1]"), value.as_bytes()).unwrap() {
        Message::Row(row) => row.change,
        other => panic!("{other:?}"),
    };
    assert!(matches!(change(), RowChange::Update { old: None, .. }));
    wanted.store(true, std::sync::atomic::Ordering::Relaxed);
    let image = |name: &'static [u8]| [Value::Text(name), Value::Text(b"1"), Value::Text(b"2")].into_iter().collect();
    assert_eq!(change(), RowChange::Update { old: Some(image(b"a")), new: image(b"b") });
}

#[test]
fn where_it_is_wanted_only_changed_columns_are_told() {
    let mut decoder = decoder().changed_only(true);
    let mut change = |table: &str, key: &str, value: &str| {
        let value = value.replace('@', AT);
        match decoder.decode(Some(table.as_bytes()), Some(key.as_bytes()), value.as_bytes()).unwrap() {
            Message::Row(row) => row.change,
            other => panic!("{other:?}"),
        }
    };
    let update = |new: [Value<'_>; 3]| RowChange::Update { old: None, new: new.into_iter().collect() };
    let (a, b, one, two) = (Value::Text(b"a"), Value::Text(b"b"), Value::Text(b"1"), Value::Text(b"2"));
    let images = |before: &str, after: &str| format!(r#"{{"after": {after}, "before": {before}, "updated": "@"}}"#);
    let row = |name: &str, weight: &str| format!(r#"{{"id": 1, "name": "{name}", "weight": {weight}}}"#);
    for (before, after, told) in [
        (row("a", "2"), row("b", "2"), update([b, one, Value::Unchanged])),
        (row("a", "null"), row("a", "2"), update([Value::Unchanged, one, two])),
        (row("a", "2"), row("a", "null"), update([Value::Unchanged, one, Value::Null])),
        (row("a", "2"), row("a", "2"), update([Value::Unchanged, one, Value::Unchanged])),
        (r#"{"id": 1, "name": "a"}"#.to_owned(), row("a", "2"), update([a, one, two])),
    ] {
        assert_eq!(change("dogs", "[1]", &images(&before, &after)), told, "{before} {after}");
    }
    let keyless = images(r#"{"note": "a", "rowid": 9}"#, r#"{"note": "a", "rowid": 9}"#);
    let same = values([Some("a")]);
    assert_eq!(change("notes", "[9]", &keyless), RowChange::Update { old: Some(same.clone()), new: same });
}

#[test]
fn a_schema_change_that_gives_rows_other_values_is_refused() {
    let copy = |before: &str| {
        format!(
            r#"{{"after": {{"id": 1, "name": "b", "weight": 2}}, "before": {before}, "mvcc_timestamp": "1.0000000002", "updated": "{AT}"}}"#
        )
    };
    for same in [r#"{"id": 1, "name": "b", "weight": 2}"#, r#"{"id": 1, "name": "b"}"#, "null"] {
        assert!(row("dogs", "[1]", &copy(same)).is_copy(), "{same}");
    }
    for other in [r#"{"id": 1, "name": "a", "weight": 2}"#, r#"{"id": 1, "name": [], "weight": 2}"#] {
        assert_eq!(refused("dogs", "[1]", &copy(other)).code, "CR108", "{other}");
    }
}

#[test]
fn resolved_timestamps_come_without_a_table() {
    for value in
        [r#"{"resolved":"1536344308033843000.0000000001"}"#, "{ \"resolved\" : \"1536344308033843000.0000000001\" }"]
    {
        let message = decoder().decode(None, None, value.as_bytes()).unwrap();
        assert!(matches!(message, Message::Resolved(at) if at == Hlc { wall: 1_536_344_308_033_843_000, logical: 1 }));
    }
}

#[test]
fn table_and_key_may_be_in_the_value() {
    let value = r#"{"after": {"id": 1, "name": "b", "weight": 2}, "before": null, "key": [1], "topic": "bank.public.dogs", "updated": "@"}"#;
    let message = decoder().decode(None, Some(b""), value.replace('@', AT).as_bytes()).unwrap();
    assert!(matches!(message, Message::Row(row) if row.table.table.id.0 == 1 && &row.key[..] == b"[1]"));
}

#[test]
fn a_hidden_part_of_the_key_tells_rows_apart() {
    let plain = dogs();
    let hidden = vec!["crdb_region".into()];
    let key = vec!["crdb_region".into(), "id".into()];
    let regional = TableInfo::new("bank", Arc::clone(&plain.table), plain.kinds.clone(), hidden, key);
    let mut decoder = Decoder::new(Envelope::Wrapped { diff: true }, [Arc::new(regional)]);
    let value =
        r#"{"after": {"crdb_region": "eu", "id": 1, "name": "b", "weight": 2}, "before": null, "updated": "@"}"#;
    let message = decoder.decode(Some(b"dogs"), Some(br#"["eu", 1]"#), value.replace('@', AT).as_bytes()).unwrap();
    let new = values([Some("b"), Some("1"), Some("2")]);
    assert!(
        matches!(message, Message::Row(row) if &row.key[..] == br#"["eu",1]"# && row.change == RowChange::Insert(new))
    );
}

#[test]
fn messages_of_another_form_are_refused_without_their_values() {
    let good = r#"{"after": {"id": 1, "name": "secret", "weight": 2}, "before": null, "updated": "@"}"#;
    let all = [
        ("", "empty"),
        ("secret", "not a JSON object"),
        ("\"secret\"", "not a JSON object"),
        ("[\"secret\"]", "not a JSON object"),
        ("{}", "no \"after\""),
        (r#"{"id": 1, "name": "secret"}"#, "no \"after\""),
        (r#"{"__crdb__": {"updated": "1.0000000002"}, "id": 1, "name": "secret"}"#, "no \"after\""),
        (r#"{"after": {"id": 1, "name": "secret"}, "before": null}"#, "no \"updated\""),
        (r#"{"after": {"name": "secret"}, "updated": "@"}"#, "no \"before\""),
        (r#"{"after": null, "before": null, "updated": "@", "resolved": "@"}"#, "at once"),
        (r#"{"after": null, "before": null, "updated": "1.5"}"#, "not a position"),
        (r#"{"after": null, "before": null, "updated": 1701102296662969433.0000000000}"#, "expected"),
        (r#"{"after": null, "after": null, "before": null, "updated": "@"}"#, "duplicate field `after`"),
        (r#"{"after": null, "before": null, "updated": "@", "mvcc_timestamp": "9701102296662969433.0"}"#, "after its"),
        (r#"{"after": null, "before": null, "updated": "@"} secret"#, "trailing characters"),
        (r#"{"after": {"name": "\xsecret"}, "before": null, "updated": "@"}"#, "invalid escape"),
        ("{\"after\": {\"name\": \"secret\n\"}, \"before\": null, \"updated\": \"@\"}", "control character"),
    ];
    for (value, says) in all {
        let problem = decode("bank.public.dogs", "[1]", &value.replace('@', AT)).unwrap_err();
        assert_eq!(problem.code, "CR100", "{value}");
        assert!(problem.why.contains(says), "{value}: {problem}");
        assert!(problem.what.contains("bank.public.dogs") && problem.what.contains("[1]"), "{problem}");
        assert!(!format!("{problem} {:?}", problem.source).contains("secret"), "{problem:?}");
    }
    let good = good.replace('@', AT);
    for end in 1..good.len() {
        assert_eq!(decode("dogs", "[1]", &good[..end]).unwrap_err().code, "CR100");
    }
    let mut bytes = good.clone().into_bytes();
    bytes[30] = 0xff;
    let problem = decoder().decode(Some(b"dogs"), Some(b"[1]"), &bytes).unwrap_err();
    assert!(problem.why.contains("not UTF-8"), "{problem}");
    for key in ["", "1", "{}", "[1", "[1]]"] {
        assert_eq!(decode("dogs", key, &good).unwrap_err().code, "CR100", "{key}");
    }
}

#[test]
fn a_table_nobody_asked_for_is_refused() {
    let value = r#"{"after": null, "before": null, "updated": "@"}"#.replace('@', AT);
    for name in ["cats", "dogs.primary", "other.public.dogs", ""] {
        let problem = decode(name, "[1]", &value).unwrap_err();
        assert_eq!(problem.code, "CR101");
        assert!(problem.why.contains(&format!("\"{name}\"")), "{problem}");
    }
}

#[test]
fn another_set_of_columns_is_refused_at_its_place() {
    let problem = |after: &str| {
        let value = format!(r#"{{"after": {after}, "before": null, "updated": "{AT}"}}"#);
        let problem = refused("public.dogs", "[1]", &value);
        assert!(!problem.to_string().contains("secret"), "{problem}");
        (problem.code, problem.what)
    };
    let (code, what) = problem(r#"{"good": true, "id": 1, "name": "secret", "weight": 2}"#);
    assert!(code == "CR102" && what.contains("column \"good\" is new"), "{what}");
    let (code, what) = problem(r#"{"id": 1, "name": "secret"}"#);
    assert!(code == "CR102" && what.contains("column \"weight\" is gone"), "{what}");
    let (code, _) = problem(r#"{"id": 1, "id": 1, "name": "secret", "weight": 2}"#);
    assert_eq!(code, "CR103");
    let (code, _) = problem("[1, \"secret\"]");
    assert_eq!(code, "CR103");
    let (code, _) = problem("\"secret\"");
    assert_eq!(code, "CR103");
}

#[test]
fn a_copy_with_another_set_of_columns_is_refused_too() {
    let value = r#"{"after": {"id": 1, "name": "x", "weight": 2, "new": 1}, "before": null, "mvcc_timestamp": "5.0", "updated": "@"}"#;
    assert_eq!(refused("public.dogs", "[1]", &value.replace('@', AT)).code, "CR102");
}

#[test]
fn values_that_cannot_be_carried_are_refused_at_their_place() {
    let problem = |after: &str| {
        let value = format!(r#"{{"after": {after}, "before": null, "updated": "{AT}"}}"#);
        refused("public.dogs", "[1]", &value)
    };
    let nul = problem(r#"{"id": 1, "name": "sec\u0000ret", "weight": 2}"#);
    assert!(nul.code == "CR104" && nul.what.contains("key [1]") && nul.why.contains("\"name\""), "{nul}");
    let form = problem(r#"{"id": 1, "name": "x", "weight": "secret"}"#);
    assert!(form.code == "CR103" && form.why.contains("\"weight\"") && !form.to_string().contains("secret"), "{form}");
    let surrogate = problem(r#"{"id": 1, "name": "\ud800", "weight": 2}"#);
    assert_eq!(surrogate.code, "CR103");
}

#[test]
fn a_key_that_is_not_the_rows_is_refused() {
    let value = format!(r#"{{"after": {{"id": 1, "name": "x", "weight": 2}}, "before": null, "updated": "{AT}"}}"#);
    for key in ["[2]", "[1, 2]", "[]", "[null]"] {
        let problem = refused("public.dogs", key, &value);
        assert_eq!(problem.code, "CR105", "{problem}");
        assert!(problem.what.contains(&key.replace(' ', "")), "{problem}");
    }
    let deleted = format!(r#"{{"after": null, "before": {{"id": 1, "name": "x", "weight": 2}}, "updated": "{AT}"}}"#);
    assert_eq!(refused("public.dogs", "[1, 2]", &deleted).code, "CR105");
}

#[test]
fn the_key_of_a_deletion_need_not_be_written_as_the_row_was() {
    let prices = table(4, "prices", &[("*price", "DECIMAL")]);
    let mut decoder = Decoder::new(Envelope::Wrapped { diff: true }, [prices]);
    let value = format!(r#"{{"after": null, "before": {{"price": 1.00}}, "updated": "{AT}"}}"#);
    let message = decoder.decode(Some(b"prices"), Some(b"[1]"), value.as_bytes()).unwrap();
    let old = values([Some("1.00")]);
    assert!(matches!(message, Message::Row(row) if row.change == RowChange::Delete(OldRow::Full(old))));
}

#[test]
fn long_and_unprintable_keys_are_shown_in_part() {
    let value = format!(r#"{{"after": {{"id": 1}}, "before": null, "updated": "{AT}"}}"#);
    let problem = refused("public.dogs", &format!("[\"{}\u{7f}\"]", "k".repeat(10_000)), &value);
    assert!(problem.what.len() < 600 && problem.what.contains("kkk..."), "{problem}");
    let problem = decoder().decode(Some(b"a\x1b[31m\xff"), Some(b"[1]"), value.as_bytes()).unwrap_err();
    assert!(!problem.to_string().contains('\x1b'), "{problem:?}");
}

#[test]
fn nesting_takes_no_stack() {
    let depth = 200_000;
    let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let documents = table(3, "documents", &[("*id", "INT8"), ("document", "JSONB")]);
    let mut decoder = Decoder::new(Envelope::Wrapped { diff: true }, [documents]);
    let value =
        format!(r#"{{"after": {{"document": {deep}, "id": 1}}, "before": null, "op": {deep}, "updated": "{AT}"}}"#);
    let message = decoder.decode(Some(b"documents"), Some(b"[1]"), value.as_bytes()).unwrap();
    let Message::Row(FeedRow { change: RowChange::Insert(new), .. }) = message else { panic!("{message:?}") };
    assert_eq!(new.value(1), Value::Text(deep.as_bytes()));
    for value in [deep.as_str(), &"{\"after\":".repeat(depth)] {
        assert_eq!(
            decoder.decode(Some(b"documents"), Some(deep.as_bytes()), value.as_bytes()).unwrap_err().code,
            "CR100"
        );
    }
}

#[test]
fn a_decoder_goes_on_after_a_bad_row() {
    let mut decoder = decoder();
    let mut decode = |value: &str| decoder.decode(Some(b"dogs"), Some(b"[1]"), value.replace('@', AT).as_bytes());
    let good = r#"{"after": {"id": 1, "name": "a", "weight": 2}, "before": null, "updated": "@"}"#;
    let Message::Row(known) = decode(good).unwrap() else { panic!() };
    assert!(matches!(
        decode(r#"{"after": {"id": 1, "name": "abc", "x": 2}, "before": null, "updated": "@"}"#),
        Ok(Message::Refused(_))
    ));
    assert!(decode("{").is_err());
    assert!(matches!(decode(good).unwrap(), Message::Row(row) if row == known));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_it_panic(
        table in proptest::option::of(any::<Vec<u8>>()),
        key in proptest::option::of(any::<Vec<u8>>()),
        value in any::<Vec<u8>>(),
    ) {
        let _ = decoder().decode(table.as_deref(), key.as_deref(), &value);
    }

    #[test]
    fn no_damage_makes_it_panic(
        at in 0_usize..200, byte in any::<u8>(), cut in 0_usize..200, piece in "[\\[\\]{}\",:\\\\u0-9eE+.-]{0,6}",
    ) {
        let mut value = format!(
            r#"{{"after": {{"id": 1, "name": "a\u00e9b", "weight": -1.5E+2}}, "before": null, "key": [1], "updated": "{AT}"}}"#
        )
        .into_bytes();
        let cut = cut.min(value.len());
        value.splice(cut..cut, piece.into_bytes());
        let at = at % value.len();
        value[at] = byte;
        let _ = decoder().decode(Some(b"dogs"), None, &value);
        let _ = decoder().decode(Some(b"dogs"), Some(&value), &value);
    }

    #[test]
    fn strings_and_numbers_come_through_exactly(
        name in "[^\\x00]{0,20}", id in any::<i64>(), weight in any::<(i64, u8)>(),
    ) {
        let weight = format!("{}.{:03}E{}", weight.0, weight.1, weight.1);
        let quoted = serde_json::to_string(&name).unwrap();
        let after = format!(r#"{{"id": {id}, "name": {quoted}, "weight": {weight}}}"#);
        let value = format!(r#"{{"after": {after}, "before": null, "updated": "{AT}"}}"#);
        let new = values([Some(&name), Some(&id.to_string()), Some(&weight)]);
        prop_assert_eq!(row("dogs", &format!("[{id}]"), &value).change, RowChange::Insert(new));
    }
}
