//! Random histories of tables with the columns [`COLUMNS`]. Shared with the tests on a server.

use std::sync::Arc;

use proptest::prelude::*;
use tidegate_model::{Change, NewRow, OldRow, ReplicaIdentity, Row, TableRoute, Value};

/// A row as text.
pub type Cells = Vec<Option<String>>;

/// What tables of a random history have.
pub const COLUMNS: [&str; 3] = ["id integer", "a text", "b text"];

/// A wish; what becomes of it depends on which rows there are.
#[derive(Clone, Copy, Debug)]
pub struct Wish {
    table: usize,
    kind: Kind,
    key: u8,
    other: u8,
    value: u8,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Insert,
    Update { unchanged: bool },
    Rekey { unchanged: bool },
    Delete,
    DeleteInsert,
    Swap,
    Truncate,
}

/// Makes wishes for so many tables.
pub fn wishes(tables: usize) -> impl Strategy<Value = Vec<Wish>> {
    let kind = prop_oneof![
        4 => Just(Kind::Insert),
        4 => any::<bool>().prop_map(|unchanged| Kind::Update { unchanged }),
        4 => any::<bool>().prop_map(|unchanged| Kind::Rekey { unchanged }),
        2 => Just(Kind::Delete),
        2 => Just(Kind::DeleteInsert),
        2 => Just(Kind::Swap),
        1 => Just(Kind::Truncate),
    ];
    let wish = (0..tables, kind, 0..5_u8, 0..5_u8, any::<u8>()).prop_map(|(table, kind, key, other, value)| Wish {
        table,
        kind,
        key,
        other,
        value,
    });
    prop::collection::vec(wish, 1..40)
}

/// Rows of the tables before, what happened to them, and rows after.
pub struct History {
    pub before: Vec<Vec<Cells>>,
    pub changes: Vec<Change>,
    pub after: Vec<Vec<Cells>>,
}

impl History {
    /// Grants wishes, as far as rows allow. With `deferrable` two rows may have one key between two changes.
    pub fn of(routes: &[TableRoute], wishes: &[Wish], deferrable: bool) -> History {
        let mut source = Source { routes, tables: vec![Vec::new(); routes.len()], changes: Vec::new() };
        for table in 0..routes.len() {
            (0..3).for_each(|key| source.insert(table, key, key + 1));
        }
        source.changes.clear();
        let before = source.tables.clone();
        wishes.iter().for_each(|wish| source.grant(*wish, deferrable));
        History { before, changes: source.changes, after: source.tables }
    }
}

/// The source: rows as they are, and the changes made on the way.
struct Source<'a> {
    routes: &'a [TableRoute],
    tables: Vec<Vec<Cells>>,
    changes: Vec<Change>,
}

impl Source<'_> {
    fn position(&self, table: usize, key: u8) -> Option<usize> {
        let key = Some(key.to_string());
        self.tables[table].iter().position(|row| row[0] == key)
    }

    fn insert(&mut self, table: usize, key: u8, value: u8) {
        let keyed = !self.routes[table].map.key.is_empty();
        if keyed && self.position(table, key).is_some() {
            return;
        }
        let value = (!value.is_multiple_of(7)).then(|| (value % 5).to_string());
        let new = vec![Some(key.to_string()), value.clone(), value.map(|value| format!("long {value}"))];
        let change = Change::Insert { table: Arc::new(self.routes[table].map.source.clone()), new: cells(&new, false) };
        self.changes.push(change);
        self.tables[table].push(new);
    }

    fn update(&mut self, table: usize, key: u8, onto: u8, value: u8, unchanged: bool) {
        let Some(place) = self.position(table, key) else { return };
        let keyed = !self.routes[table].map.key.is_empty();
        if keyed && onto != key && self.position(table, onto).is_some() {
            return;
        }
        let old = self.tables[table][place].clone();
        let mut new = old.clone();
        new[0] = Some(onto.to_string());
        new[1] = (!value.is_multiple_of(7)).then(|| (value % 5).to_string());
        // A value that is not sent is never NULL.
        let unchanged = unchanged && old[2].is_some();
        if !unchanged {
            new[2] = Some(format!("long {value}"));
        }
        let full = self.routes[table].map.source.replica_identity == ReplicaIdentity::Full;
        let sent = (full || onto != key).then(|| self.old(table, &old));
        let row = NewRow::from(cells(&new, unchanged));
        let table_now = Arc::new(self.routes[table].map.source.clone());
        self.changes.push(Change::Update { table: table_now, old: sent, new: row });
        self.tables[table][place] = new;
    }

    fn delete(&mut self, table: usize, key: u8) {
        let Some(place) = self.position(table, key) else { return };
        let old = self.tables[table].remove(place);
        let old = self.old(table, &old);
        self.changes.push(Change::Delete { table: Arc::new(self.routes[table].map.source.clone()), old });
    }

    fn old(&self, table: usize, row: &[Option<String>]) -> OldRow {
        if self.routes[table].map.source.replica_identity == ReplicaIdentity::Full {
            return OldRow::Full(cells(row, false));
        }
        OldRow::Key(cells(&[row[0].clone(), None, None], false))
    }

    /// Both keys change places under a deferrable constraint: for a moment two rows have one key.
    fn swap_deferred(&mut self, table: usize, a: u8, b: u8) {
        let (Some(first), Some(second)) = (self.position(table, a), self.position(table, b)) else { return };
        for (place, onto) in [(first, b), (second, a)] {
            let old = self.tables[table][place].clone();
            let mut new = old.clone();
            new[0] = Some(onto.to_string());
            let unchanged = new[2].is_some();
            let change = Change::Update {
                table: Arc::new(self.routes[table].map.source.clone()),
                old: Some(OldRow::Full(cells(&old, false))),
                new: NewRow::from(cells(&new, unchanged)),
            };
            self.changes.push(change);
            self.tables[table][place] = new;
        }
    }

    fn grant(&mut self, wish: Wish, deferrable: bool) {
        let Wish { table, kind, key, other, value } = wish;
        match kind {
            Kind::Insert => self.insert(table, key, value),
            Kind::Update { unchanged } => self.update(table, key, key, value, unchanged),
            Kind::Rekey { unchanged } => self.update(table, key, other, value, unchanged),
            Kind::Delete => self.delete(table, key),
            Kind::DeleteInsert => {
                self.delete(table, key);
                self.insert(table, key, value);
            }
            Kind::Swap if deferrable && key != other => self.swap_deferred(table, key, other),
            Kind::Swap => {
                self.update(table, key, 9, value, true);
                self.update(table, other, key, value, true);
                self.update(table, 9, other, value, true);
            }
            Kind::Truncate => {
                let tables = vec![Arc::new(self.routes[table].map.source.clone())];
                self.changes.push(Change::Truncate { tables });
                self.tables[table].clear();
            }
        }
    }
}

fn cells(row: &[Option<String>], unchanged: bool) -> Row {
    row.iter()
        .enumerate()
        .map(|(index, cell)| match cell {
            _ if unchanged && index == 2 => Value::Unchanged,
            Some(text) => Value::Text(text.as_bytes()),
            None => Value::Null,
        })
        .collect()
}
