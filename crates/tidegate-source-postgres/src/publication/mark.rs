//! Whether the publication has carried every change of a table ever since the stream began.
//!
//! PostgreSQL sends what is published when a change is decoded, and says nothing of what it leaves out. A table that is
//! taken out and put back looks the same afterwards, so the catalog rows themselves are compared: each membership has an
//! OID of its own, and each change of the publication another row version.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use tidegate_connect::Session;
use tidegate_model::{MigrationName, Problem, RelationId, TableName};

use super::{CHANGED, read};
use crate::problem::Asked;

/// The publication and the membership of each of its tables, as the catalog identifies them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    publication: RowVersion,
    tables: BTreeMap<u32, RowVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct RowVersion {
    oid: u32,
    /// The transaction that wrote the row.
    xmin: i64,
}

/// What a look at the publication showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// Tables of which changes may not have been sent, and why.
    pub gaps: Vec<(TableName, &'static str)>,
    /// Tables that do not exist any more: nothing of them can be missing.
    pub dropped: Vec<TableName>,
}

/// Returns the mark of a publication; `None` if there is none of that name.
pub async fn mark(session: &Session, publication: &str) -> Result<Option<Mark>, Problem> {
    let asked = Asked::new("reading the publication");
    let sql = "SELECT oid, xmin::text::bigint FROM pg_publication WHERE pubname = $1";
    let head = session.query_opt(sql, &[&publication]).await.map_err(|error| asked.sql(error))?;
    let Some(head) = head else { return Ok(None) };
    let publication = RowVersion { oid: head.get(0), xmin: head.get(1) };
    let sql = "SELECT prrelid, oid, xmin::text::bigint FROM pg_publication_rel WHERE prpubid = $1";
    let rows = session.query(sql, &[&publication.oid]).await.map_err(|error| asked.sql(error))?;
    let tables = rows.iter().map(|row| (row.get(0), RowVersion { oid: row.get(1), xmin: row.get(2) })).collect();
    Ok(Some(Mark { publication, tables }))
}

/// Compares the publication with what it was when `marked` was taken. Without a mark only its contents count.
pub async fn compare(
    session: &Session,
    publication: &str,
    marked: Option<&Mark>,
    tables: &[(RelationId, TableName)],
) -> Result<Compared, Problem> {
    let now = mark(session, publication).await?;
    let whole = read(session, publication).await?.is_some_and(|published| published.is_whole());
    let there = Existing::read(session, tables).await?;
    let mut compared = Compared::default();
    for (id, name) in tables {
        match there.judge(*id, name) {
            Fate::Dropped => compared.dropped.push(name.clone()),
            Fate::Replaced => compared.gaps.push((name.clone(), "it was dropped and created again")),
            Fate::Same => {
                let why = gap(*id, marked, now.as_ref().filter(|_| whole));
                compared.gaps.extend(why.map(|why| (name.clone(), why)));
            }
        }
    }
    Ok(compared)
}

/// Says why changes of a table that still exists may not have been sent.
fn gap(id: RelationId, marked: Option<&Mark>, now: Option<&Mark>) -> Option<&'static str> {
    let Some(now) = now else { return Some("its publication is gone, or has other options, filters or column lists") };
    let Some(member) = now.tables.get(&id.0) else { return Some("it is not published any more") };
    let marked = marked?;
    if marked.publication != now.publication {
        return Some("the options of its publication were changed for a while");
    }
    // A table that is copied again enters with the mark that is taken then.
    if marked.tables.get(&id.0) != Some(member) {
        return Some("it was taken out of the publication and put back, or published otherwise for a while");
    }
    None
}

/// Makes the problem of tables whose changes may be missing in the stream.
pub fn changed(name: &MigrationName, publication: &str, gaps: &[(TableName, &'static str)]) -> Problem {
    let why: Vec<String> = gaps.iter().map(|(table, why)| format!("\"{table}\": {why}")).collect();
    let recopy: Vec<String> = gaps.iter().map(|(table, _)| format!("--recopy {table}")).collect();
    Problem::definite(
        CHANGED,
        format!("publication \"{publication}\" was changed, and changes of {} tables may be missing", gaps.len()),
        why.join("; "),
        format!("copy them again: tidegate migrate --name {name} {}", recopy.join(" ")),
    )
}

/// Which of the tables exist.
struct Existing {
    ids: BTreeSet<u32>,
    names: BTreeSet<TableName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Same,
    Dropped,
    /// Another table has its name now.
    Replaced,
}

impl Existing {
    async fn read(session: &Session, tables: &[(RelationId, TableName)]) -> Result<Existing, Problem> {
        let ids: Vec<u32> = tables.iter().map(|(id, _)| id.0).collect();
        let schemas: Vec<&str> = tables.iter().map(|(_, name)| &*name.schema).collect();
        let names: Vec<&str> = tables.iter().map(|(_, name)| &*name.name).collect();
        let sql = "
            SELECT c.oid, n.nspname::text, c.relname::text
              FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.oid = ANY ($1)
                OR (n.nspname::text, c.relname::text) IN (SELECT * FROM unnest($2::text[], $3::text[]))";
        let asked = Asked::new("looking for the published tables");
        let rows = session.query(sql, &[&ids, &schemas, &names]).await.map_err(|error| asked.sql(error))?;
        Ok(Existing {
            ids: rows.iter().map(|row| row.get(0)).collect(),
            names: rows.iter().map(|row| TableName::new(row.get::<_, &str>(1), row.get::<_, &str>(2))).collect(),
        })
    }

    fn judge(&self, id: RelationId, name: &TableName) -> Fate {
        match (self.ids.contains(&id.0), self.names.contains(name)) {
            (true, _) => Fate::Same,
            (false, true) => Fate::Replaced,
            (false, false) => Fate::Dropped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(oid: u32) -> RowVersion {
        RowVersion { oid, xmin: 7 }
    }

    fn marked(publication: u32, member: u32) -> Mark {
        Mark { publication: version(publication), tables: [(1, version(member))].into() }
    }

    #[test]
    fn a_table_taken_out_and_put_back_is_a_gap_although_it_looks_the_same() {
        let before = marked(10, 20);
        let judge = |now: Option<&Mark>| gap(RelationId(1), Some(&before), now).is_some();
        assert!(!judge(Some(&before)));
        assert!(judge(Some(&marked(10, 21))));
        assert!(judge(Some(&marked(11, 20))));
        assert!(judge(Some(&Mark { tables: BTreeMap::new(), ..before.clone() })));
        assert!(judge(None));
    }

    #[test]
    fn a_mark_survives_being_stored() {
        let stored = serde_json::to_value(marked(10, 20)).unwrap();
        assert_eq!(serde_json::from_value::<Mark>(stored).unwrap(), marked(10, 20));
    }
}
