//! Sequences of messages as CockroachDB's documentation shows them, from the bytes of the feed to a table's contents.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegate_model::{
    Change, Event, Hlc, Problem, RelationId, ReplicaIdentity, Row, SourceColumn, SourceTable, TableName, Value,
};
use tidegate_source_cockroach::message::{Decoder, Envelope, Message};
use tidegate_source_cockroach::spool::Spool;
use tidegate_source_cockroach::table::TableInfo;
use tidegate_source_cockroach::value::Kind;
use tidegate_source_cockroach::window::Window;

/// Per-key order, no order across keys.
const ONE_FEED: [&str; 4] = [
    r#"{"after": {"id": 1, "name": "Terry", "office": "new york city"}, "key": [1], "updated": "1701102296662969433.0000000000"}"#,
    r#"{"after": {"id": 1, "name": "Terri", "office": "new york city"}, "key": [1], "updated": "1701102311425045162.0000000000"}"#,
    r#"{"after": {"id": 2, "name": "Alex", "office": "los angeles"}, "key": [2], "updated": "1701102305519323705.0000000000"}"#,
    r#"{"after": {"id": 3, "name": "Ash", "office": "london"}, "key": [3], "updated": "1701102316388801052.0000000000"}"#,
];

/// What follows them, with a restart after a checkpoint: the first two lines come again.
const RESTARTED: [&str; 6] = [
    r#"{"after": {"id": 3, "name": "Ash", "office": "london"}, "key": [3], "updated": "1701102316388801052.0000000000"}"#,
    r#"{"after": {"id": 1, "name": "Terri", "office": "amsterdam"}, "key": [1], "updated": "1701102320607990564.0000000000"}"#,
    r#"{"after": {"id": 3, "name": "Ash", "office": "london"}, "key": [3], "updated": "1701102316388801052.0000000000"}"#,
    r#"{"after": {"id": 1, "name": "Terri", "office": "amsterdam"}, "key": [1], "updated": "1701102320607990564.0000000000"}"#,
    r#"{"after": {"id": 2, "name": "Alex", "office": "boston"}, "key": [2], "updated": "1701102325724272373.0000000000"}"#,
    r#"{"after": {"id": 5, "name": "Sam", "office": "dallas"}, "key": [5], "updated": "1701102330377135318.0000000000"}"#,
];

fn office_dogs(columns: &[(&str, Kind)]) -> Arc<TableInfo> {
    let column = |(name, _): &(&str, Kind)| SourceColumn {
        name: (*name).into(),
        type_oid: 25,
        type_modifier: -1,
        identity: *name == "id",
    };
    let table = SourceTable {
        id: RelationId(104),
        name: TableName::new("public", "office_dogs"),
        replica_identity: ReplicaIdentity::Default,
        columns: columns.iter().map(column).collect(),
    };
    let kinds = columns.iter().map(|(_, kind)| kind.clone()).collect();
    Arc::new(TableInfo::new("movr", Arc::new(table), kinds, Vec::new(), vec!["id".into()]))
}

fn with_office() -> Arc<TableInfo> {
    office_dogs(&[("id", Kind::Int), ("name", Kind::Text), ("office", Kind::Text)])
}

fn with_treats() -> Arc<TableInfo> {
    office_dogs(&[("id", Kind::Int), ("likes_treats", Kind::Bool), ("name", Kind::Text)])
}

/// A feed that is followed into a table.
struct Follower {
    decoder: Decoder,
    window: Window,
    /// By the first column.
    rows: BTreeMap<String, String>,
}

impl Follower {
    fn new(table: Arc<TableInfo>, diff: bool) -> Self {
        let spool = Spool::new(std::env::temp_dir(), None, 1 << 20).unwrap();
        let decoder = Decoder::new(Envelope::Wrapped { diff }, [table]);
        Follower { decoder, window: Window::new(Hlc::default(), spool), rows: BTreeMap::new() }
    }

    fn line(&mut self, table: &str, key: Option<&str>, value: &str) -> Result<(), Problem> {
        let message = self.decoder.decode(Some(table.as_bytes()), key.map(str::as_bytes), value.as_bytes())?;
        self.window.take(message)
    }

    fn lines(&mut self, values: &[&str]) {
        values.iter().for_each(|value| self.line("office_dogs", None, value).unwrap());
    }

    fn resolved(&mut self, at: &str) -> Result<(), Problem> {
        let value = format!(r#"{{"resolved":"{at}"}}"#);
        let message = self.decoder.decode(None, None, value.as_bytes())?;
        assert!(matches!(message, Message::Resolved(_)));
        self.window.take(message)?;
        while let Some(event) = self.window.next_event()? {
            if let Event::Commit(transaction) = event {
                transaction.changes.read()?.try_for_each(|change| change.map(|change| self.apply(&change)))?;
            }
        }
        Ok(())
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Insert { new, .. } => drop(self.rows.insert(text(new, 0), all(new))),
            Change::Update { new, .. } => drop(self.rows.insert(text(new.row(), 0), all(new.row()))),
            Change::Delete { old, .. } => drop(self.rows.remove(&text(old.row(), 0))),
            Change::Truncate { .. } | Change::Message { .. } => panic!("a feed has none: {change:?}"),
        }
    }

    fn contents(&self) -> Vec<&str> {
        self.rows.values().map(String::as_str).collect()
    }
}

fn text(row: &Row, column: usize) -> String {
    match row.value(column) {
        Value::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        Value::Null => "NULL".to_owned(),
        other => panic!("{other:?}"),
    }
}

fn all(row: &Row) -> String {
    (0..row.len()).map(|column| text(row, column)).collect::<Vec<_>>().join(", ")
}

#[test]
fn rows_without_order_across_keys_end_in_the_newest() {
    let mut follower = Follower::new(with_office(), false);
    follower.lines(&ONE_FEED);
    assert!(follower.contents().is_empty());
    follower.resolved("1701102310000000000.0000000000").unwrap();
    assert_eq!(follower.contents(), ["1, Terry, new york city", "2, Alex, los angeles"]);
    follower.resolved("1701102316388801052.0000000000").unwrap();
    assert_eq!(follower.contents(), ["1, Terri, new york city", "2, Alex, los angeles", "3, Ash, london"]);
}

#[test]
fn lines_that_come_again_after_a_restart_change_nothing() {
    let mut follower = Follower::new(with_office(), false);
    follower.lines(&ONE_FEED);
    follower.resolved("1701102316000000000.0000000000").unwrap();
    follower.lines(&RESTARTED);
    follower.resolved("1701102331000000000.0000000000").unwrap();
    follower.lines(&RESTARTED);
    follower.resolved("1701102332000000000.0000000000").unwrap();
    assert_eq!(follower.contents(), ["1, Terri, amsterdam", "2, Alex, boston", "3, Ash, london", "5, Sam, dallas"]);
}

#[test]
fn a_deletion_takes_the_row_away() {
    let mut follower = Follower::new(with_office(), false);
    follower.lines(&RESTARTED);
    // With default options nothing says when it was: it cannot be put into order, and is not guessed at.
    let problem = follower.line("office_dogs", Some("[5]"), r#"{"after": null}"#).unwrap_err();
    assert!(problem.code == "CR100" && problem.why.contains("\"updated\""), "{problem}");
    let value = r#"{"after": null, "updated": "1701102340000000000.0000000000"}"#;
    follower.line("office_dogs", Some("[5]"), value).unwrap();
    follower.resolved("1701102340000000000.0000000000").unwrap();
    assert_eq!(follower.contents(), ["1, Terri, amsterdam", "2, Alex, boston", "3, Ash, london"]);
}

#[test]
fn lines_of_another_envelope_are_refused() {
    let mut follower = Follower::new(with_treats(), false);
    for value in [r#"{"id": 1, "name": "Petee H"}"#, r#"{"id": 1, "likes_treats": true, "name": "Petee H"}"#] {
        let problem = follower.line("office_dogs", Some("[1]"), value).unwrap_err();
        assert!(problem.code == "CR100" && problem.why.contains("\"after\""), "{problem}");
    }
}

const DOGS: [(u32, &str); 3] = [(1, "Petee H"), (2, "Carl"), (3, "Ernie")];

/// What `ADD COLUMN likes_treats BOOL DEFAULT TRUE` makes a feed send: the old copies (some schema changes do), then
/// the new ones.
fn backfill() -> Vec<(String, String)> {
    let members = r#""mvcc_timestamp": "1701102300000000000.0000000000", "updated": "1701102400000000000.0000000000""#;
    let line = |treats: &'static str| {
        move |(id, name): (u32, &str)| {
            let value = format!(
                r#"{{"after": {{"id": {id}, {treats}"name": "{name}"}}, "before": {{"id": {id}, "name": "{name}"}}, {members}}}"#
            );
            (format!("[{id}]"), value)
        }
    };
    let old = DOGS.into_iter().map(line(""));
    old.chain(DOGS.into_iter().map(line(r#""likes_treats": true, "#))).collect()
}

#[test]
fn a_schema_change_ends_the_stream_where_it_was_made() {
    let known = office_dogs(&[("id", Kind::Int), ("name", Kind::Text)]);
    let mut follower = Follower::new(known, true);
    for (id, name) in DOGS {
        let value = format!(
            r#"{{"after": {{"id": {id}, "name": "{name}"}}, "before": null, "mvcc_timestamp": "1701102300000000000.0000000000", "updated": "1701102300000000000.0000000000"}}"#
        );
        follower.line("movr.public.office_dogs", Some(&format!("[{id}]")), &value).unwrap();
    }
    for (key, value) in backfill() {
        follower.line("movr.public.office_dogs", Some(&key), &value).unwrap();
    }
    let problem = follower.resolved("1701102500000000000.0000000000").unwrap_err();
    assert_eq!(follower.contents(), ["1, Petee H", "2, Carl", "3, Ernie"]);
    assert_eq!(problem.code, "CR102");
    for part in ["public.office_dogs", "\"likes_treats\" is new", "1701102400000000000.0000000000"] {
        assert!(problem.what.contains(part), "{problem}");
    }
    assert!(problem.next.contains("--recopy public.office_dogs"), "{problem}");
}

#[test]
fn a_table_copied_after_the_schema_change_is_not_touched_by_its_backfill() {
    let mut follower = Follower::new(with_treats(), true);
    // Copied with the new column; then one row changed and one went, before the backfill's lines come.
    follower.rows = DOGS.iter().map(|(id, name)| (id.to_string(), format!("{id}, t, {name}"))).collect();
    let later = r#""mvcc_timestamp": "1701102450000000000.0000000000", "updated": "1701102450000000000.0000000000""#;
    let change = format!(
        r#"{{"after": {{"id": 1, "likes_treats": false, "name": "Petee"}}, "before": {{"id": 1, "likes_treats": true, "name": "Petee H"}}, {later}}}"#
    );
    let delete = format!(r#"{{"after": null, "before": {{"id": 2, "likes_treats": true, "name": "Carl"}}, {later}}}"#);
    follower.line("office_dogs", Some("[1]"), &change).unwrap();
    follower.line("office_dogs", Some("[2]"), &delete).unwrap();
    for (key, value) in backfill().into_iter().skip(DOGS.len()) {
        follower.line("office_dogs", Some(&key), &value).unwrap();
    }
    follower.resolved("1701102500000000000.0000000000").unwrap();
    assert_eq!(follower.contents(), ["1, f, Petee", "3, t, Ernie"]);
}

#[test]
fn a_table_of_two_column_families_is_refused() {
    let mut follower = Follower::new(office_dogs(&[("id", Kind::Int), ("name", Kind::Text)]), false);
    for value in [
        r#"{"after":{"id":4,"name":"Toby"},"key":[4],"topic":"office_dogs.primary","updated":"1.0000000000"}"#,
        r#"{"after":{"owner":"Ashley"},"key":[4],"topic":"office_dogs.secondary","updated":"1.0000000000"}"#,
    ] {
        let message = follower.decoder.decode(None, None, value.as_bytes());
        let problem = message.unwrap_err();
        assert!(problem.code == "CR101" && problem.next.contains("column families"), "{problem}");
    }
}

#[test]
fn numbers_keep_their_exponents() {
    let mut follower = Follower::new(office_dogs(&[("id", Kind::Int), ("weight", Kind::Decimal)]), false);
    for (id, number) in ["4E2", "4E+2", "4E-2", "4.321E10"].into_iter().enumerate() {
        let value = format!(r#"{{"after": {{"id": {id}, "weight": {number}}}, "key": [{id}], "updated": "1.0"}}"#);
        follower.line("office_dogs", None, &value).unwrap();
    }
    follower.resolved("1.0").unwrap();
    assert_eq!(follower.contents(), ["0, 4E2", "1, 4E+2", "2, 4E-2", "3, 4.321E10"]);
}

/// Lines in an order in which a feed may send them: rows of one key keep theirs, the first time.
fn as_sent() -> impl Strategy<Value = Vec<&'static str>> {
    let lines: Vec<&str> = ONE_FEED.into_iter().chain(RESTARTED).collect();
    let repeats = proptest::collection::vec(0..lines.len(), 0..20);
    let order = Just((0..lines.len()).collect::<Vec<_>>()).prop_shuffle();
    (order, repeats).prop_map(move |(mut order, repeats)| {
        let key = |index: usize| lines[index].split("\"key\": ").nth(1).unwrap().split(']').next().unwrap();
        // Sorts the lines of each key among the places that they have.
        for chosen in ["[1", "[2", "[3", "[5"] {
            let places: Vec<usize> = (0..order.len()).filter(|&place| key(order[place]) == chosen).collect();
            let mut indices: Vec<usize> = places.iter().map(|&place| order[place]).collect();
            indices.sort_unstable();
            places.into_iter().zip(indices).for_each(|(place, index)| order[place] = index);
        }
        let mut sent: Vec<&str> = order.iter().map(|&index| lines[index]).collect();
        sent.extend(repeats.into_iter().map(|index| lines[index]));
        sent
    })
}

proptest! {
    #[test]
    fn any_order_across_keys_and_any_repetition_end_in_the_same_table(lines in as_sent()) {
        let mut follower = Follower::new(with_office(), false);
        follower.lines(&lines);
        follower.resolved("1701102312000000000.0000000000").unwrap();
        prop_assert_eq!(follower.contents(), ["1, Terri, new york city", "2, Alex, los angeles"]);
        follower.lines(&lines);
        follower.resolved("1701102331000000000.0000000000").unwrap();
        prop_assert_eq!(
            follower.contents(),
            ["1, Terri, amsterdam", "2, Alex, boston", "3, Ash, london", "5, Sam, dallas"]
        );
    }
}
