//! The tables of a target, as far as writing to them depends on it.

pub(crate) mod cockroach;
mod map;
mod read;
mod types;
mod value_type;

use tidegate_model::{ColumnName, TableName};

pub use map::{WantedTable, key_of, map_table};
pub use read::{read_tables, value_types};
pub use types::{Fit, Loss, fit, loss};
pub use value_type::ValueType;

/// A relation of the target that has the name of a source table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTable {
    /// Its OID.
    pub oid: u32,
    /// Its name.
    pub name: TableName,
    /// What it is.
    pub kind: TargetKind,
    /// Its columns, in the order of their numbers.
    pub columns: Vec<TargetColumn>,
    /// The columns of each valid unique index over all rows: the primary key first, then the others.
    pub unique_keys: Vec<Vec<ColumnName>>,
    /// Foreign keys of the table and of tables that reference it.
    pub foreign_keys: Vec<ForeignKey>,
    /// Triggers that are not part of a constraint.
    pub triggers: Vec<Trigger>,
    /// Rules, except those that make a view.
    pub rules: Vec<Rule>,
    /// Whether row level security holds for our role.
    pub row_security: bool,
    /// Privileges that our role lacks, of SELECT, INSERT, UPDATE, DELETE and TRUNCATE.
    pub missing_privileges: Vec<String>,
    /// Whether our role may use the schema.
    pub schema_usage: bool,
    /// How many column families it has: 1, other than at CockroachDB.
    pub families: usize,
    /// Whether CockroachDB refuses changes of its schema.
    pub schema_locked: bool,
    /// Why nobody knows what triggers it has, where that is so.
    pub triggers_unknown: Option<String>,
}

/// What a relation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// An ordinary table, or a partition that holds rows itself.
    Table,
    /// A partitioned table: its partitions hold the rows.
    Partitioned,
    /// A view, a foreign table or something else that is no table.
    Other,
}

/// A column of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetColumn {
    /// Its name.
    pub name: ColumnName,
    /// The OID of its type.
    pub type_oid: u32,
    /// Its type as SQL for a cast, without modifier: `character varying`.
    pub type_name: String,
    /// Its type as SQL, with modifier: `character varying(20)`.
    pub type_text: String,
    /// What its values are read as.
    pub value_type: ValueType,
    /// Whether NULL is refused.
    pub not_null: bool,
    /// Whether a row that does not mention it gets a value.
    pub has_default: bool,
    /// Whether it is computed from other columns.
    pub generated: bool,
    /// Whether it is GENERATED ALWAYS AS IDENTITY: an UPDATE of it is refused.
    pub identity_always: bool,
    /// Whether its type has an equality that indexes know.
    pub comparable: bool,
    /// Whether CockroachDB made it for itself, or `SELECT *` does not show it: it is never written.
    pub hidden: bool,
}

/// A foreign key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignKey {
    /// Its name.
    pub name: String,
    /// The table that references.
    pub table: TableName,
    /// The table that is referenced.
    pub references: TableName,
    /// Whether it changes or removes referencing rows by itself.
    pub has_actions: bool,
    /// Whether it can be checked at the end of a transaction.
    pub deferrable: bool,
    /// Whether it belongs to a foreign key of a partitioned table above, with which it comes and goes.
    pub inherited: bool,
    /// What restores it, without `ALTER TABLE ... ADD CONSTRAINT name`.
    pub definition: String,
}

/// When a trigger or rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firing {
    /// In sessions of applications only.
    Origin,
    /// In sessions that replicate only.
    Replica,
    /// In all sessions.
    Always,
    /// Never.
    Disabled,
}

impl Firing {
    /// Returns whether it fires in a session with `session_replication_role = replica`.
    pub fn in_replica(self) -> bool {
        matches!(self, Firing::Replica | Firing::Always)
    }

    /// Returns whether it fires in an ordinary session.
    pub fn in_origin(self) -> bool {
        matches!(self, Firing::Origin | Firing::Always)
    }
}

/// A trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub firing: Firing,
    /// The CREATE TRIGGER that restores it.
    pub definition: String,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// When it fires.
    pub firing: Firing,
    /// The CREATE RULE that restores it.
    pub definition: String,
}

impl TargetTable {
    /// Returns the column with this name.
    pub fn column(&self, name: &str) -> Option<&TargetColumn> {
        self.columns.iter().find(|column| &*column.name == name)
    }

    /// Returns the tables that this one references, itself included where it does.
    pub fn references(&self) -> Vec<TableName> {
        let own = self.foreign_keys.iter().filter(|key| key.table == self.name);
        let mut tables: Vec<TableName> = own.map(|key| key.references.clone()).collect();
        tables.sort();
        tables.dedup();
        tables
    }
}
