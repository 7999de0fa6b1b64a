//! Every statement that this crate sends to a CockroachDB server.
//!
//! In one place, so that they can be read against the server's published grammar. Names are quoted and qualified; a
//! time (`AS OF SYSTEM TIME`, `cursor`) takes no placeholder, so it is written into the text, and consists of digits
//! and a dot only.

use std::time::Duration;

use tidegate_connect::CockroachVersion;
use tidegate_model::{Hlc, TableName};

/// The clock of the cluster, as text: as a DECIMAL it would need a decoder of its own.
pub(crate) const NOW: &str = "SELECT cluster_logical_timestamp()::STRING";

/// The cluster's identifier. Some roles and versions may not read it.
pub(crate) const CLUSTER_ID: &str = "SELECT crdb_internal.cluster_id()::STRING";

/// Where we are and who we are.
pub(crate) const DATABASE_AND_ROLE: &str = "SELECT current_database()::STRING, current_user::STRING";

/// Rangefeeds carry changefeeds; they are off in a new cluster.
pub(crate) const RANGEFEED_SETTING: &str = "SHOW CLUSTER SETTING kv.rangefeed.enabled";

/// Whether an administrator lets anybody make changefeeds.
pub(crate) const CHANGEFEED_SETTING: &str = "SHOW CLUSTER SETTING feature.changefeed.enabled";

/// Reads of the copy give way to the application's.
pub(crate) const IN_THE_BACKGROUND: &str = "SET default_transaction_quality_of_service = background";

/// Tables, views and sequences of the database, the server's own left out.
pub(crate) const RELATIONS: &str = "
SELECT c.oid, n.nspname::STRING, c.relname::STRING, c.relkind::STRING, c.reltuples::FLOAT8
  FROM pg_catalog.pg_class AS c
  JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'v', 'm', 'S')
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')
 ORDER BY 2, 3";

/// The types of all columns, by table, and what the elements of arrays are. CockroachDB lists hidden columns here, too.
pub(crate) const COLUMN_TYPES: &str = "
SELECT a.attrelid, a.attname::STRING, a.atttypid, a.atttypmod, t.typtype::STRING, e.typtype::STRING
  FROM pg_catalog.pg_attribute AS a
  JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_type AS t ON t.oid = a.atttypid
  LEFT JOIN pg_catalog.pg_type AS e ON e.oid = t.typelem
 WHERE c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped";

/// What the SQL standard's view says of all columns, with what CockroachDB adds to it.
pub(crate) const COLUMNS: &str = "
SELECT table_schema::STRING, table_name::STRING, column_name::STRING, crdb_sql_type::STRING, is_hidden::STRING,
       is_generated::STRING, generation_expression::STRING, ordinal_position::INT8
  FROM information_schema.columns
 WHERE table_schema NOT IN ('pg_catalog', 'information_schema', 'crdb_internal', 'pg_extension')
 ORDER BY 1, 2, 8";

/// The columns of all primary keys, in key order.
pub(crate) const PRIMARY_KEYS: &str = "
SELECT k.table_schema::STRING, k.table_name::STRING, k.column_name::STRING, k.ordinal_position::INT8
  FROM information_schema.table_constraints AS c
  JOIN information_schema.key_column_usage AS k
    ON k.constraint_schema = c.constraint_schema AND k.constraint_name = c.constraint_name
   AND k.table_schema = c.table_schema AND k.table_name = c.table_name
 WHERE c.constraint_type = 'PRIMARY KEY'
 ORDER BY 1, 2, 4";

/// Whether our role may read tables, by their OIDs.
pub(crate) const MAY_SELECT: &str = "
SELECT t.id, has_table_privilege(t.id::OID, 'SELECT')
  FROM unnest($1::INT8[]) AS t(id)";

/// The columns of one table: names and types as the server writes them, hidden ones flagged.
pub(crate) const COLUMNS_OF_TABLE: &str = "
SELECT column_name::STRING, crdb_sql_type::STRING, is_hidden::STRING, is_generated::STRING
  FROM information_schema.columns
 WHERE table_schema = $1 AND table_name = $2
 ORDER BY ordinal_position";

/// The columns of one table's primary key, in key order.
pub(crate) const PRIMARY_KEY_OF_TABLE: &str = "
SELECT k.column_name::STRING
  FROM information_schema.table_constraints AS c
  JOIN information_schema.key_column_usage AS k
    ON k.constraint_schema = c.constraint_schema AND k.constraint_name = c.constraint_name
   AND k.table_schema = c.table_schema AND k.table_name = c.table_name
 WHERE c.constraint_type = 'PRIMARY KEY' AND k.table_schema = $1 AND k.table_name = $2
 ORDER BY k.ordinal_position";

/// Quotes an identifier.
pub(crate) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Quotes a table's name together with its schema.
pub(crate) fn table(name: &TableName) -> String {
    format!("{}.{}", identifier(&name.schema), identifier(&name.name))
}

/// Quotes a string. In CockroachDB a backslash in it is a backslash.
pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Asks for the garbage collection of a table, among other things.
pub(crate) fn zone_configuration(name: &TableName) -> String {
    format!("SHOW ZONE CONFIGURATION FROM TABLE {}", table(name))
}

/// Asks for the statement that would make a table: the only place that tells column families and storage parameters.
pub(crate) fn create_statement(name: &TableName) -> String {
    format!("SHOW CREATE TABLE {}", table(name))
}

/// Reads a row of a table as of a time, to see whether the server still can.
pub(crate) fn probe(name: &TableName, at: Hlc) -> String {
    format!("SELECT 1 FROM {} AS OF SYSTEM TIME '{at}' LIMIT 1", table(name))
}

/// What a changefeed is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Changefeed<'a> {
    /// The database of the tables.
    pub(crate) database: &'a str,
    /// All tables of the stream.
    pub(crate) tables: Vec<&'a TableName>,
    /// What was committed after it is wanted.
    pub(crate) cursor: Hlc,
    /// How often the feed says how far it is.
    pub(crate) resolved_every: Duration,
}

impl Changefeed<'_> {
    /// Returns the statement. `diff` gives the old row, `mvcc_timestamp` tells copies that a schema change sends from
    /// changes, `full_table_name` tells tables of different schemas apart.
    pub(crate) fn sql(&self, version: &CockroachVersion) -> String {
        let targets: Vec<String> =
            self.tables.iter().map(|name| format!("{}.{}", identifier(self.database), table(name))).collect();
        let every = format!("{}ms", self.resolved_every.as_millis().max(1));
        let mut options = vec![
            "format = 'json'".to_owned(),
            "envelope = 'wrapped'".to_owned(),
            "updated".to_owned(),
            "mvcc_timestamp".to_owned(),
            "diff".to_owned(),
            "full_table_name".to_owned(),
            format!("resolved = '{every}'"),
            format!("min_checkpoint_frequency = '{every}'"),
            "initial_scan = 'no'".to_owned(),
            format!("cursor = '{}'", self.cursor),
        ];
        if version.at_least(24, 2) {
            // Without it a JSON null and an SQL NULL look the same.
            options.push("encode_json_value_null_as_object".to_owned());
        }
        format!("CREATE CHANGEFEED FOR TABLE {} WITH {}", targets.join(", "), options.join(", "))
    }
}

/// A stretch of a table in the order of its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyRange {
    /// The columns of the key with the types of their literals.
    pub(crate) key: Vec<(String, String)>,
    /// Rows past this key; `None`: from the first one.
    pub(crate) after: Option<Vec<String>>,
    /// Rows up to and including this key; `None`: to the last one.
    pub(crate) until: Option<Vec<String>>,
}

impl KeyRange {
    /// Returns the statement that reads `columns` of the range as of `at`, in key order.
    pub(crate) fn read(&self, name: &TableName, columns: &[&str], at: Hlc) -> String {
        let columns: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
        format!("SELECT {} FROM {}{}", columns.join(", "), self.from(name, at), self.order())
    }

    /// Returns the statement that reads the first `rows` rows of the range.
    pub(crate) fn sample(&self, name: &TableName, columns: &[&str], rows: u64, at: Hlc) -> String {
        format!("{} LIMIT {rows}", self.read(name, columns, at))
    }

    /// Returns the statement that finds the key of the row number `rows` of the range, counted from 1.
    pub(crate) fn step(&self, name: &TableName, rows: u64, at: Hlc) -> String {
        let columns: Vec<String> = self.key.iter().map(|(column, _)| identifier(column)).collect();
        let offset = rows.saturating_sub(1);
        format!("SELECT {} FROM {}{} LIMIT 1 OFFSET {offset}", columns.join(", "), self.from(name, at), self.order())
    }

    fn from(&self, name: &TableName, at: Hlc) -> String {
        let limits = [(">", &self.after), ("<=", &self.until)];
        let limits: Vec<String> = limits
            .into_iter()
            .filter_map(|(operator, limit)| limit.as_ref().map(|values| self.compare(operator, values)))
            .collect();
        let condition = if limits.is_empty() { String::new() } else { format!(" WHERE {}", limits.join(" AND ")) };
        format!("{} AS OF SYSTEM TIME '{at}'{condition}", table(name))
    }

    fn compare(&self, operator: &str, values: &[String]) -> String {
        let columns: Vec<String> = self.key.iter().map(|(column, _)| identifier(column)).collect();
        let typed = self.key.iter().zip(values);
        let values: Vec<String> =
            typed.map(|((_, type_name), value)| format!("{}::{type_name}", literal(value))).collect();
        format!("({}) {operator} ({})", columns.join(", "), values.join(", "))
    }

    fn order(&self) -> String {
        if self.key.is_empty() {
            return String::new();
        }
        let columns: Vec<String> = self.key.iter().map(|(column, _)| identifier(column)).collect();
        format!(" ORDER BY {}", columns.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32, minor: u32) -> CockroachVersion {
        CockroachVersion { text: String::new(), major, minor, patch: 0 }
    }

    #[test]
    fn a_feed_asks_for_what_the_window_needs() {
        let (orders, odd) = (TableName::new("public", "orders"), TableName::new("S", "a\"b"));
        let feed = Changefeed {
            database: "shop",
            tables: vec![&orders, &odd],
            cursor: "1536344308033843000.0000000007".parse().unwrap(),
            resolved_every: Duration::from_millis(500),
        };
        assert_eq!(
            feed.sql(&version(23, 1)),
            "CREATE CHANGEFEED FOR TABLE \"shop\".\"public\".\"orders\", \"shop\".\"S\".\"a\"\"b\" WITH \
             format = 'json', envelope = 'wrapped', updated, mvcc_timestamp, diff, full_table_name, \
             resolved = '500ms', min_checkpoint_frequency = '500ms', initial_scan = 'no', \
             cursor = '1536344308033843000.0000000007'"
        );
    }

    #[test]
    fn only_servers_that_know_it_are_asked_to_tell_json_null_from_sql_null() {
        let name = TableName::new("public", "t");
        let feed = Changefeed {
            database: "shop",
            tables: vec![&name],
            cursor: Hlc::default(),
            resolved_every: Duration::from_secs(1),
        };
        let option = "encode_json_value_null_as_object";
        assert!(!feed.sql(&version(24, 1)).contains(option) && feed.sql(&version(24, 2)).contains(option));
        assert!(feed.sql(&version(25, 4)).contains(option));
    }

    #[test]
    fn ranges_of_a_key_neither_meet_nor_leave_a_gap() {
        let key = vec![("a".to_owned(), "INT8".to_owned()), ("B".to_owned(), "STRING".to_owned())];
        let (after, until) =
            (Some(vec!["1".to_owned(), "o'x".to_owned()]), Some(vec!["2".to_owned(), "\\".to_owned()]));
        let name = TableName::new("public", "t");
        let at = Hlc { wall: 5, logical: 1 };
        let range = KeyRange { key: key.clone(), after, until };
        assert_eq!(
            range.read(&name, &["v", "a"], at),
            "SELECT \"v\", \"a\" FROM \"public\".\"t\" AS OF SYSTEM TIME '5.0000000001' \
             WHERE (\"a\", \"B\") > ('1'::INT8, 'o''x'::STRING) AND (\"a\", \"B\") <= ('2'::INT8, '\\'::STRING) \
             ORDER BY \"a\", \"B\""
        );
        let all = KeyRange { key, ..KeyRange::default() };
        assert_eq!(
            all.step(&name, 100, at),
            "SELECT \"a\", \"B\" FROM \"public\".\"t\" AS OF SYSTEM TIME '5.0000000001' \
             ORDER BY \"a\", \"B\" LIMIT 1 OFFSET 99"
        );
        let keyless = KeyRange::default().read(&name, &["v"], at);
        assert_eq!(keyless, "SELECT \"v\" FROM \"public\".\"t\" AS OF SYSTEM TIME '5.0000000001'");
    }
}
