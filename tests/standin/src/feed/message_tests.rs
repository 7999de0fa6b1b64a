//! Envelopes against the literal payloads of the published documentation and tests.

use super::*;
use crate::feed::options;

fn layout(columns: &[(&str, Kind)], keys: &[usize]) -> Layout {
    let column = |(index, (name, kind)): (usize, &(&str, Kind))| Column {
        number: i16::try_from(index + 1).unwrap(),
        name: (*name).to_owned(),
        kind: kind.clone(),
        r#virtual: name.starts_with("virtual"),
    };
    Layout { columns: columns.iter().enumerate().map(column).collect(), keys: keys.to_vec() }
}

fn row(values: &[&str]) -> Row {
    values.iter().map(|value| Some((*value).to_owned())).collect()
}

fn written(given: &[(&str, &str)], layout: &Layout, before: Option<&Row>, after: Option<&Row>) -> Message {
    let given: Vec<_> = given
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()).filter(|v| !v.is_empty())))
        .collect();
    let options = options::read(&given).unwrap();
    let topic = Topic {
        name: "foo".into(),
        database: "defaultdb".into(),
        schema: "public".into(),
        table: "foo".into(),
        relation: 104,
    };
    let image = |row| Image { layout, row };
    let key = image(after.or(before).unwrap());
    let made = Change { key, before: before.map(image), after: after.map(image), updated: Hlc(1002), mvcc: Hlc(3) };
    change(&options, &topic, None, &made)
}

fn foo() -> Layout {
    layout(&[("b", Kind::Text), ("a", Kind::Int)], &[1])
}

#[test]
fn wrapped_rows_are_those_of_the_published_encoder_tests() {
    let (bar, baz) = (row(&["bar", "1"]), row(&["baz", "1"]));
    let value = |given: &[(&str, &str)], before, after| written(given, &foo(), before, after).value;
    assert_eq!(value(&[], None, Some(&bar)), r#"{"after": {"a": 1, "b": "bar"}}"#);
    assert_eq!(
        value(&[("updated", "")], None, Some(&bar)),
        r#"{"after": {"a": 1, "b": "bar"}, "updated": "1000.0000000002"}"#
    );
    assert_eq!(
        value(&[("updated", ""), ("diff", "")], None, Some(&bar)),
        r#"{"after": {"a": 1, "b": "bar"}, "before": null, "updated": "1000.0000000002"}"#
    );
    assert_eq!(
        value(&[("diff", "")], Some(&bar), Some(&baz)),
        r#"{"after": {"a": 1, "b": "baz"}, "before": {"a": 1, "b": "bar"}}"#
    );
    assert_eq!(value(&[], Some(&bar), None), r#"{"after": null}"#);
    assert_eq!(value(&[("diff", "")], Some(&bar), None), r#"{"after": null, "before": {"a": 1, "b": "bar"}}"#);
    assert_eq!(
        value(
            &[("key_in_value", ""), ("topic_in_value", ""), ("mvcc_timestamp", ""), ("updated", "")],
            None,
            Some(&bar)
        ),
        concat!(
            r#"{"after": {"a": 1, "b": "bar"}, "key": [1], "mvcc_timestamp": "0.0000000003", "#,
            r#""topic": "foo", "updated": "1000.0000000002"}"#
        )
    );
}

#[test]
fn the_office_dogs_of_the_documentation_come_out_literally() {
    let dogs = layout(&[("id", Kind::Int), ("name", Kind::Text), ("office", Kind::Text)], &[0]);
    let value = |values: &[&str]| written(&[("key_in_value", "")], &dogs, None, Some(&row(values)));
    assert_eq!(
        value(&["1", "Terry", "new york city"]).value,
        r#"{"after": {"id": 1, "name": "Terry", "office": "new york city"}, "key": [1]}"#
    );
    let gone = written(&[], &dogs, Some(&row(&["5", "Ash", "london"])), None);
    assert_eq!((gone.key.as_str(), gone.value.as_str()), ("[5]", r#"{"after": null}"#));
    let likes = layout(&[("id", Kind::Int), ("name", Kind::Text), ("likes_treats", Kind::Bool)], &[0]);
    assert_eq!(
        written(&[("envelope", "row")], &likes, None, Some(&row(&["1", "Petee H", "t"]))).value,
        r#"{"id": 1, "likes_treats": true, "name": "Petee H"}"#
    );
}

#[test]
fn keys_are_arrays_in_index_order() {
    let users = layout(&[("n", Kind::Int), ("name", Kind::Text)], &[1, 0]);
    assert_eq!(written(&[], &users, None, Some(&row(&["7", "Ann"]))).key, r#"["Ann", 7]"#);
    let hidden = layout(&[("a", Kind::Int), ("rowid", Kind::Int)], &[1]);
    let message = written(&[], &hidden, None, Some(&row(&["1", "1101234051444375553"])));
    assert_eq!(message.key, "[1101234051444375553]");
    assert_eq!(message.value, r#"{"after": {"a": 1, "rowid": 1101234051444375553}}"#);
}

#[test]
fn the_other_envelopes_have_their_published_forms() {
    let bar = row(&["bar", "1"]);
    let value = |given: &[(&str, &str)], before, after| written(given, &foo(), before, after).value;
    assert_eq!(value(&[("envelope", "row")], None, Some(&bar)), r#"{"a": 1, "b": "bar"}"#);
    assert_eq!(
        value(&[("envelope", "row"), ("updated", "")], None, Some(&bar)),
        r#"{"__crdb__": {"updated": "1000.0000000002"}, "a": 1, "b": "bar"}"#
    );
    assert_eq!(value(&[("envelope", "row")], Some(&bar), None), "");
    assert_eq!(value(&[("envelope", "bare")], Some(&bar), None), r#"{"a": 1, "b": null}"#);
    assert_eq!(value(&[("envelope", "key_only")], None, Some(&bar)), "");
    let rich = written(&[("envelope", "enriched")], &foo(), None, Some(&bar));
    assert_eq!(rich.key, r#"{"a": 1}"#);
    assert!(rich.value.starts_with(r#"{"after": {"a": 1, "b": "bar"}, "op": "c", "ts_ns": 1"#), "{}", rich.value);
    assert!(value(&[("envelope", "enriched")], Some(&bar), None).starts_with(r#"{"after": null, "op": "d", "#));
}

#[test]
fn resolved_messages_are_compact() {
    let at = Hlc::parse("1536344308033843000.0000000001").unwrap();
    assert_eq!(resolved(Envelope::Wrapped, at), r#"{"resolved":"1536344308033843000.0000000001"}"#);
    assert_eq!(resolved(Envelope::Row, at), r#"{"__crdb__":{"resolved":"1536344308033843000.0000000001"}}"#);
}

#[test]
fn virtual_columns_are_left_out_or_null() {
    let table = layout(&[("a", Kind::Int), ("virtual_b", Kind::Int)], &[0]);
    let values = row(&["1", "2"]);
    assert_eq!(written(&[], &table, None, Some(&values)).value, r#"{"after": {"a": 1}}"#);
    assert_eq!(
        written(&[("virtual_columns", "null")], &table, None, Some(&values)).value,
        r#"{"after": {"a": 1, "virtual_b": null}}"#
    );
}
