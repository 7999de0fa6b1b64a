//! CockroachDB's SQL in PostgreSQL's words: what each statement becomes, or why it is refused.
//!
//! All of it is pure: what has to be known besides the text is asked for first ([`needs()`]), then the statement is
//! rewritten ([`rewrite()`]). It works on words, not on a grammar: what is not recognised is passed on, unless a list
//! forbids it ([`allow`]).

pub mod allow;
mod column;
mod control;
mod copying;
mod ddl;
mod dml;
mod edits;
pub mod lexer;
pub mod names;
mod needs;
mod objects;
mod privileges;
mod queries;
pub mod refusal;
mod settings;
mod show;
mod table;
mod types;
pub mod variables;
mod words;

use std::collections::BTreeMap;

use crate::error::SqlError;
use crate::history::Hlc;
use crate::jobs;
use crate::knobs::Zone;
use crate::options::Version;
use crate::server::Builtins;
use lexer::Statement;

pub use control::BEGIN_PAST;
pub use copying::copies_out;
pub use needs::{Needs, needs};

/// What a statement becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The statement as the client wrote it.
    pub source: String,
    /// One statement for the backing session. For those that the stand-in executes itself: one with the same parameters
    /// and result columns.
    pub sql: String,
    /// The command tag in place of PostgreSQL's.
    pub tag: Option<Tag>,
    pub action: Action,
    /// Its first word, in upper case.
    pub verb: String,
    pub ddl: bool,
    /// Depends on when it was rewritten: on settings, on jobs, on what tables there are.
    pub of_moment: bool,
    /// Reads the past: must not run in a serializable transaction, where it would abort writers.
    pub past: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tag {
    Fixed(String),
    /// This verb, then PostgreSQL's number of rows.
    Counted(String),
}

/// What the stand-in does itself, in place of the backing session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing: the statement is passed on.
    None,
    Begin {
        sql: String,
        as_of: Option<String>,
    },
    Commit,
    Rollback,
    Savepoint(String),
    Release(String),
    RollbackTo(String),
    /// SET TRANSACTION AS OF SYSTEM TIME.
    ReadAsOf(String),
    /// A variable of CockroachDB's own that the stand-in goes by; the statement keeps it in the backing session too.
    SetVariable {
        name: &'static str,
        value: String,
        sql: String,
    },
    SetClusterSetting {
        name: String,
        value: Option<String>,
    },
    ConfigureZone {
        zone: Zone,
        values: Vec<(String, String)>,
    },
    CreateDatabase {
        name: String,
        if_not_exists: bool,
    },
    DropDatabase {
        name: String,
        if_exists: bool,
    },
    /// CREATE CHANGEFEED without a sink.
    Feed,
    /// CREATE CHANGEFEED with one.
    CreateJob,
    ControlJobs {
        control: jobs::Control,
        ids: Vec<i64>,
    },
    /// Nothing at all happens; this is the tag.
    Nothing(String),
}

/// A name of a table, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    pub schema: Option<String>,
    pub table: String,
}

/// What the rewriting has to know about a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableInfo {
    pub schema: String,
    pub table: String,
    pub columns: Vec<Column>,
    /// The columns of the primary key, with their places in it.
    pub key: Vec<(usize, String)>,
    /// Whether its schema must not be changed.
    pub locked: bool,
    /// Whether it has rows of its own, as views have not.
    pub stored: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    pub name: String,
    pub hidden: bool,
    pub generated: bool,
}

impl TableInfo {
    pub fn visible(&self) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(|column| !column.hidden)
    }

    pub fn has_hidden(&self) -> bool {
        self.columns.iter().any(|column| column.hidden)
    }
}

/// What a statement is rewritten for.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    pub database: &'a str,
    pub user: &'a str,
    pub version: Version,
    pub banner: &'a str,
    pub builtins: &'a Builtins,
    /// Names the cluster, as `crdb_internal.cluster_id()` gives it.
    pub cluster_id: &'a str,
    /// The time that the statement reads at, if it is not the present.
    pub as_of: Option<Hlc>,
}

/// What was found out for a statement.
#[derive(Debug, Default)]
pub struct Known {
    pub tables: BTreeMap<TableName, TableInfo>,
    /// Row sources that stand in for tables: of the past, or with their rows' timestamps.
    pub sources: BTreeMap<TableName, String>,
    /// Cluster settings, by name: type and value.
    pub setting: Option<(crate::knobs::SettingKind, String)>,
    pub zone: Option<(String, String)>,
    pub jobs: Option<jobs::Table>,
    /// The backing process of each client, and who the client is.
    pub clients: Vec<(i32, String)>,
}

impl Rewritten {
    /// A statement that is passed on as it is.
    pub fn plain(sql: String) -> Rewritten {
        let verb = sql.split_whitespace().next().unwrap_or_default().to_uppercase();
        let source = sql.clone();
        Rewritten { source, sql, tag: None, action: Action::None, verb, ddl: false, of_moment: false, past: false }
    }

    /// A statement that the stand-in executes itself, and that has neither parameters nor columns.
    fn of_action(statement: &Statement<'_>, action: Action) -> Rewritten {
        let source = whole(statement).to_owned();
        Rewritten { sql: NOTHING.to_owned(), action, ..Rewritten::plain(source) }
    }

    /// Returns whether it can be sent together with others.
    pub fn is_plain(&self) -> bool {
        self.action == Action::None && !self.ddl && !self.past
    }
}

/// Stands in for statements without columns.
const NOTHING: &str = "SET crdb.nothing = ''";

fn whole<'a>(statement: &Statement<'a>) -> &'a str {
    statement.span(0..statement.len())
}

/// Returns whether a statement changes a schema.
pub fn is_ddl(statement: &Statement<'_>) -> bool {
    let words = ["create", "alter", "drop", "truncate", "comment", "grant", "revoke", "reassign", "refresh"];
    statement.is_any(0, &words) && !statement.is(1, "changefeed")
}

/// Rewrites one statement.
pub fn rewrite(statement: &Statement<'_>, context: &Context<'_>, known: &Known) -> Result<Rewritten, SqlError> {
    if let Some(rewritten) = control::rewrite(statement)? {
        return Ok(rewritten);
    }
    if let Some(rewritten) = settings::rewrite(statement, context)? {
        return Ok(rewritten);
    }
    if let Some(rewritten) = show::rewrite(statement, context, known)? {
        return Ok(rewritten);
    }
    if let Some(rewritten) = objects::rewrite(statement, context)? {
        return Ok(rewritten);
    }
    if statement.is(0, "copy") {
        return copying::rewrite(statement, context, known);
    }
    if is_ddl(statement) {
        return ddl::rewrite(statement, context, known);
    }
    dml::rewrite(statement, context, known)
}

#[cfg(test)]
mod tests;
