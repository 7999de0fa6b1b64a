//! The names under which feeds tell tables.

use std::collections::HashMap;
use std::sync::Arc;

use super::TableInfo;

/// Between the parts of a name that was taken apart: in no name.
const SEPARATOR: &str = "\0";

/// The tables of a feed, by every name that it may use: `db.schema.table` with `full_table_name`, the bare name
/// without, each part quoted or not.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    /// `None`: several tables answer to that name.
    named: HashMap<String, Option<Arc<TableInfo>>>,
}

impl Tables {
    /// Finds a table by the name that a feed gave. `None`: there is none, or several answer to it.
    pub fn find(&self, name: &str) -> Option<&Arc<TableInfo>> {
        match self.named.get(name) {
            Some(found) => found.as_ref(),
            None => self.named.get(&unquoted(name)?)?.as_ref(),
        }
    }

    fn add(&mut self, name: String, table: &Arc<TableInfo>) {
        self.named
            .entry(name)
            .and_modify(|known| {
                if known.as_ref().is_some_and(|known| !Arc::ptr_eq(known, table)) {
                    *known = None;
                }
            })
            .or_insert_with(|| Some(Arc::clone(table)));
    }
}

impl FromIterator<Arc<TableInfo>> for Tables {
    fn from_iter<I: IntoIterator<Item = Arc<TableInfo>>>(tables: I) -> Self {
        let mut named = Tables::default();
        for table in tables {
            let name = &table.table.name;
            let parts = [&*table.database, &*name.schema, &*name.name];
            for from in 0..parts.len() {
                named.add(parts[from..].join("."), &table);
                named.add(parts[from..].join(SEPARATOR), &table);
            }
        }
        named
    }
}

/// Takes a name apart as SQL does, where it has quotes.
fn unquoted(name: &str) -> Option<String> {
    let mut parts = String::new();
    let mut rest = name.chars().peekable();
    loop {
        if rest.next_if_eq(&'"').is_some() {
            loop {
                match rest.next()? {
                    '"' if rest.next_if_eq(&'"').is_none() => break,
                    letter => parts.push(letter),
                }
            }
        } else {
            while let Some(letter) = rest.next_if(|letter| !matches!(letter, '.' | '"')) {
                parts.push(letter);
            }
        }
        match rest.next() {
            None => return Some(parts),
            Some('.') => parts.push_str(SEPARATOR),
            Some(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{RelationId, ReplicaIdentity, SourceTable, TableName};

    use super::*;

    fn table(id: u32, schema: &str, name: &str) -> Arc<TableInfo> {
        let table = SourceTable {
            id: RelationId(id),
            name: TableName::new(schema, name),
            replica_identity: ReplicaIdentity::Default,
            columns: Vec::new(),
        };
        Arc::new(TableInfo::new("bank", Arc::new(table), Vec::new(), Vec::new(), Vec::new()))
    }

    #[test]
    fn a_table_is_found_by_every_form_of_its_name() {
        let tables: Tables = [
            table(1, "public", "accounts"),
            table(2, "public", "Weird \"one\".x"),
            table(3, "public", "both"),
            table(4, "other", "both"),
        ]
        .into_iter()
        .collect();
        let id = |name: &str| tables.find(name).map(|found| found.table.id.0);
        for name in ["accounts", "public.accounts", "bank.public.accounts", "bank.\"public\".accounts", "\"accounts\""]
        {
            assert_eq!(id(name), Some(1), "{name}");
        }
        for name in ["bank.public.Weird \"one\".x", "bank.public.\"Weird \"\"one\"\".x\"", "\"Weird \"\"one\"\".x\""] {
            assert_eq!(id(name), Some(2), "{name}");
        }
        assert_eq!((id("bank.public.both"), id("other.both"), id("both")), (Some(3), Some(4), None));
        for name in
            ["", "\"", "\"accounts", "\"accounts\"x", "accounts.", "accounts.primary", "Accounts", "x.public.accounts"]
        {
            assert_eq!(id(name), None, "{name}");
        }
    }
}
