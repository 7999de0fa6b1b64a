//! The publication: exactly the tables of the migration.

mod mark;

use postgres_protocol::escape::escape_identifier;
use tidegate_connect::{Session, describe_sql_error};
use tidegate_model::{Problem, TableName};
use tokio_postgres::error::SqlState;
use tracing::info;

use crate::problem::{self, Asked};
use crate::{ServerVersion, version};

pub use mark::{Compared, Mark, changed, compare, mark};

const NOT_PERMITTED: &str = "PG040";
const ALL_TABLES: &str = "PG041";
const TABLE_MISSING: &str = "PG042";
const CHANGED: &str = "PG043";

/// What [`ensure`] had to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// It was as it should be.
    Unchanged,
    /// It did not exist.
    Created,
    /// It had other tables or options.
    Changed,
}

/// What is published, as the catalog shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Published {
    all_tables: bool,
    /// All four operations, and changes of partitions as changes of the partitions.
    whole: bool,
    /// Whole tables, sorted.
    tables: Vec<TableName>,
    /// Whether a table is published with a column list or a row filter, or a whole schema is.
    narrowed_or_widened: bool,
}

impl Published {
    pub(crate) fn is_exactly(&self, tables: &[TableName]) -> bool {
        let mut wanted = tables.to_vec();
        wanted.sort();
        !self.all_tables && self.whole && !self.narrowed_or_widened && self.tables == wanted
    }

    /// Whether each table that is published is published whole, and as itself.
    fn is_whole(&self) -> bool {
        self.whole && !self.narrowed_or_widened
    }
}

/// Makes the publication publish exactly `tables`, with all operations, whole rows, and partitions as themselves.
/// Repeating the call is safe. A changed set of tables holds for what is committed afterwards.
pub async fn ensure(session: &Session, publication: &str, tables: &[TableName]) -> Result<Ensured, Problem> {
    let asked = Asked::new("reading the publication");
    let current = read(session, publication).await?;
    let (statements, ensured) = match &current {
        None => (vec![create_sql(publication, tables)], Ensured::Created),
        Some(published) if published.is_exactly(tables) => return Ok(Ensured::Unchanged),
        Some(published) if published.all_tables => return Err(is_for_all_tables(publication)),
        Some(_) if tables.is_empty() => {
            return Err(asked.unexpected("a publication of a migration without tables"));
        }
        Some(_) => (vec![set_options_sql(publication), set_tables_sql(publication, tables)], Ensured::Changed),
    };
    for statement in &statements {
        session.batch_execute(statement).await.map_err(|error| refused(publication, error))?;
    }
    info!(publication, tables = tables.len(), ?ensured, "publication set");
    Ok(ensured)
}

/// Drops the publication if it exists.
pub async fn drop(session: &Session, publication: &str) -> Result<(), Problem> {
    let sql = format!("DROP PUBLICATION IF EXISTS {}", escape_identifier(publication));
    session.batch_execute(&sql).await.map_err(|error| refused(publication, error))
}

/// Returns what is published under that name; `None` if there is no such publication.
pub(crate) async fn read(session: &Session, publication: &str) -> Result<Option<Published>, Problem> {
    let asked = Asked::new("reading the publication");
    let version = version::of(session).await?;
    let head = session
        .query_opt(
            "SELECT puballtables, pubinsert AND pubupdate AND pubdelete AND pubtruncate AND NOT pubviaroot
               FROM pg_publication WHERE pubname = $1",
            &[&publication],
        )
        .await
        .map_err(|error| asked.sql(error))?;
    let Some(head) = head else { return Ok(None) };
    let members = session.query(&members_sql(version), &[&publication]).await.map_err(|error| asked.sql(error))?;
    let mut published =
        Published { all_tables: head.get(0), whole: head.get(1), tables: Vec::new(), narrowed_or_widened: false };
    for row in members {
        let name: Option<String> = row.get(1);
        if let Some(name) = name {
            published.tables.push(TableName::new(row.get::<_, String>(0), name));
        }
        published.narrowed_or_widened |= row.get::<_, bool>(2);
    }
    published.tables.sort();
    Ok(Some(published))
}

/// Row filters, column lists and whole schemas exist from PostgreSQL 15 on.
fn members_sql(version: ServerVersion) -> String {
    let from_15 = version.major() >= 15;
    let narrowed = if from_15 { "r.prqual IS NOT NULL OR r.prattrs IS NOT NULL" } else { "false" };
    let schemas = if from_15 {
        "UNION ALL
         SELECT n.nspname::text, NULL, true
           FROM pg_publication_namespace s
           JOIN pg_publication p ON p.oid = s.pnpubid
           JOIN pg_namespace n ON n.oid = s.pnnspid
          WHERE p.pubname = $1"
    } else {
        ""
    };
    format!(
        "SELECT n.nspname::text, c.relname::text, {narrowed}
           FROM pg_publication_rel r
           JOIN pg_publication p ON p.oid = r.prpubid
           JOIN pg_class c ON c.oid = r.prrelid
           JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE p.pubname = $1 {schemas}"
    )
}

const OPTIONS: &str = "publish = 'insert, update, delete, truncate', publish_via_partition_root = false";

fn create_sql(publication: &str, tables: &[TableName]) -> String {
    let publication = escape_identifier(publication);
    if tables.is_empty() {
        return format!("CREATE PUBLICATION {publication} WITH ({OPTIONS})");
    }
    format!("CREATE PUBLICATION {publication} FOR TABLE {} WITH ({OPTIONS})", list(tables))
}

fn set_options_sql(publication: &str) -> String {
    format!("ALTER PUBLICATION {} SET ({OPTIONS})", escape_identifier(publication))
}

fn set_tables_sql(publication: &str, tables: &[TableName]) -> String {
    format!("ALTER PUBLICATION {} SET TABLE {}", escape_identifier(publication), list(tables))
}

/// `ONLY`: children by inheritance are tables of their own, and come in by their own names or not at all.
fn list(tables: &[TableName]) -> String {
    let quoted: Vec<String> = tables.iter().map(|table| format!("ONLY {}", quote(table))).collect();
    quoted.join(", ")
}

/// Quotes a table's name for SQL.
pub(crate) fn quote(table: &TableName) -> String {
    format!("{}.{}", escape_identifier(&table.schema), escape_identifier(&table.name))
}

fn is_for_all_tables(publication: &str) -> Problem {
    Problem::definite(
        ALL_TABLES,
        format!("publication \"{publication}\" is FOR ALL TABLES"),
        "Tidegate lists its tables one by one, and a publication FOR ALL TABLES cannot be changed into such a one",
        format!("drop it if nobody needs it: DROP PUBLICATION {}", escape_identifier(publication)),
    )
}

fn refused(publication: &str, error: tokio_postgres::Error) -> Problem {
    let what = format!("publication \"{publication}\" could not be set");
    let message = describe_sql_error(&error);
    let problem = match error.code() {
        Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Problem::definite(
            NOT_PERMITTED,
            what,
            format!("the role may not: {message}"),
            format!(
                "GRANT CREATE ON DATABASE <database> TO <role>, and make the role a member of the owner of each table: \
                 GRANT <owner> TO <role>. Or let the owner of the tables make it: CREATE PUBLICATION {} FOR TABLE ... \
                 WITH ({})",
                escape_identifier(publication),
                OPTIONS
            ),
        ),
        Some(&SqlState::UNDEFINED_TABLE | &SqlState::INVALID_SCHEMA_NAME) => Problem::definite(
            TABLE_MISSING,
            what,
            format!("a table disappeared while the migration began: {message}"),
            "start again: the tables are listed anew",
        ),
        _ => return problem::sql("setting the publication", error),
    };
    problem.caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> Vec<TableName> {
        vec![TableName::new("public", "orders"), TableName::new("Shop", "order \"lines\"")]
    }

    #[test]
    fn names_are_quoted_and_children_not_taken_along() {
        assert_eq!(
            create_sql("tidegate_a", &tables()),
            format!(
                r#"CREATE PUBLICATION "tidegate_a" FOR TABLE ONLY "public"."orders", ONLY "Shop"."order ""lines""" {}"#,
                "WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = false)"
            )
        );
        assert!(
            set_tables_sql("a", &tables()).starts_with(r#"ALTER PUBLICATION "a" SET TABLE ONLY "public"."orders","#)
        );
        assert!(!create_sql("a", &[]).contains("FOR TABLE"));
    }

    #[test]
    fn any_difference_is_seen() {
        let mut sorted = tables();
        sorted.sort();
        let good = Published { whole: true, tables: sorted.clone(), ..Published::default() };
        assert!(good.is_exactly(&tables()));
        for bad in [
            Published { all_tables: true, ..good.clone() },
            Published { whole: false, ..good.clone() },
            Published { narrowed_or_widened: true, ..good.clone() },
            Published { tables: sorted[1..].to_vec(), ..good.clone() },
        ] {
            assert!(!bad.is_exactly(&tables()));
        }
    }

    #[test]
    fn what_a_server_does_not_have_is_not_asked_for() {
        assert!(!members_sql(ServerVersion(140_001)).contains("prqual"));
        assert!(members_sql(ServerVersion(150_001)).contains("pg_publication_namespace"));
    }
}
