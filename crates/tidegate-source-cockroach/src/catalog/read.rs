//! Asking the catalog. A few questions about everything, put together here: joins over the catalog of a large database
//! take CockroachDB seconds.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};
use tidegate_connect::Session;
use tidegate_model::{
    ColumnName, Problem, RelationId, ReplicaIdentity, SourceColumn, SourceTable, TableFilter, TableName,
};
use tokio_postgres::SimpleQueryMessage;

use super::shape::{Shape, is_shard_of};
use super::{CatalogTable, Listed, Obstacle, OtherRelation};
use crate::problem::{Asked, QUESTIONS_AT_ONCE};
use crate::statement;
use crate::table::TableInfo;
use crate::value::Kind;

const ASKED: &str = "asking the source for its tables";
/// `pg_class.relkind` of a table.
const TABLE: &str = "r";

pub(super) async fn list(session: &Session, filter: &TableFilter) -> Result<Listed, Problem> {
    let (tables, others): (Vec<Relation>, Vec<Relation>) =
        relations(session, filter).await?.into_iter().partition(|r| r.kind == TABLE);
    let catalog = Catalog {
        database: database(session).await?,
        columns: columns(session).await?,
        types: types(session).await?,
        keys: keys(session).await?,
        may_select: may_select(session, &tables).await?,
    };
    // Collected: a lazy iterator of such futures could not be sent between threads.
    let shapes: Vec<_> = tables.iter().map(|table| shape(session, &table.name)).collect();
    let shapes: Vec<Shape> = stream::iter(shapes).buffered(QUESTIONS_AT_ONCE).try_collect().await?;
    let listed = tables.into_iter().zip(&shapes).map(|(table, shape)| catalog.describe(table, shape)).collect();
    let others = others.into_iter().map(|other| OtherRelation { is_sequence: other.kind == "S", name: other.name });
    Ok(Listed { tables: listed, others: others.collect() })
}

pub(super) async fn names(session: &Session, filter: &TableFilter) -> Result<Vec<(RelationId, TableName)>, Problem> {
    let tables = relations(session, filter).await?.into_iter().filter(|relation| relation.kind == TABLE);
    Ok(tables.map(|table| (table.id, table.name)).collect())
}

struct Relation {
    id: RelationId,
    name: TableName,
    kind: String,
    rows_estimated: Option<u64>,
}

struct Column {
    name: ColumnName,
    type_name: String,
    hidden: bool,
    computed: bool,
}

#[derive(Clone, Copy)]
struct Type {
    oid: u32,
    modifier: i32,
    family: Family,
}

/// What a type is, as far as its name does not tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Enum,
    ArrayOfEnums,
    Other,
}

struct Catalog {
    database: Arc<str>,
    columns: HashMap<TableName, Vec<Column>>,
    types: HashMap<(RelationId, String), Type>,
    keys: HashMap<TableName, Vec<ColumnName>>,
    may_select: HashMap<RelationId, bool>,
}

impl Catalog {
    fn describe(&self, relation: Relation, shape: &Shape) -> CatalogTable {
        let Relation { id, name, rows_estimated, .. } = relation;
        let columns = self.columns.get(&name).map(Vec::as_slice).unwrap_or_default();
        let key = self.whole_key(&name, columns);
        let column = |name: &ColumnName| columns.iter().find(|column| column.name == *name);
        let is_carried = |name: &ColumnName| column(name).is_some_and(|column| !column.hidden && !column.computed);
        let primary_key: Vec<ColumnName> = key.iter().filter(|name| is_carried(name)).cloned().collect();
        let computed_key = key.iter().find(|name| column(name).is_some_and(|c| !c.hidden && c.computed));

        let mut obstacles = Vec::new();
        if shape.families > 1 {
            obstacles.push(Obstacle::ColumnFamilies(shape.families));
        }
        obstacles.extend(computed_key.map(|name| Obstacle::ComputedKey(name.clone())));
        let (mut carried, mut kinds) = (Vec::new(), Vec::new());
        for column in columns.iter().filter(|column| is_carried(&column.name)) {
            let found = self.types.get(&(id, column.name.to_string()));
            let known = found.copied().unwrap_or(Type { oid: 0, modifier: -1, family: Family::Other });
            let kind = match known.family {
                Family::Enum => Some(Kind::Text),
                Family::ArrayOfEnums => Some(Kind::Array(Box::new(Kind::Text))),
                Family::Other => Kind::of_type(&column.type_name),
            };
            if kind.is_none() {
                let type_name = column.type_name.clone();
                obstacles.push(Obstacle::Type { column: column.name.clone(), type_name });
            }
            kinds.push(kind.unwrap_or(Kind::Text));
            carried.push(SourceColumn {
                name: column.name.clone(),
                type_oid: known.oid,
                type_modifier: known.modifier,
                identity: primary_key.is_empty() || primary_key.contains(&column.name),
            });
        }
        let replica_identity = if primary_key.is_empty() { ReplicaIdentity::Full } else { ReplicaIdentity::Default };
        let ignored = columns.iter().filter(|column| !is_carried(&column.name)).map(|column| column.name.clone());
        let table = SourceTable { id, name, replica_identity, columns: carried };
        let generated = columns.iter().filter(|column| column.computed && !column.hidden).map(|c| c.name.clone());
        CatalogTable {
            primary_key,
            generated: generated.collect(),
            identity_whole: computed_key.is_none(),
            obstacles,
            schema_locked: shape.schema_locked,
            may_select: self.may_select.get(&id).copied().unwrap_or(false),
            rows_estimated,
            bytes: 0,
            info: TableInfo::new(Arc::clone(&self.database), Arc::new(table), kinds, ignored.collect(), key),
        }
    }

    /// Returns the primary key as the key of a feed's row has it. The catalog leaves out what CockroachDB puts in front
    /// of it by itself: the region of a row, and the shard of a hash-sharded key.
    fn whole_key(&self, table: &TableName, columns: &[Column]) -> Vec<ColumnName> {
        let told = self.keys.get(table).map(Vec::as_slice).unwrap_or_default();
        let implied = |column: &&Column| {
            let region = *column.name == *"crdb_region";
            column.hidden && !told.contains(&column.name) && (region || is_shard_of(&column.name, told))
        };
        let mut key: Vec<ColumnName> = columns.iter().filter(implied).map(|column| column.name.clone()).collect();
        // The region comes before the shard.
        key.sort_by_key(|name| **name != *"crdb_region");
        key.extend(told.iter().cloned());
        key
    }
}

async fn relations(session: &Session, filter: &TableFilter) -> Result<Vec<Relation>, Problem> {
    let rows = session.query(statement::RELATIONS, &[]).await.map_err(|error| Asked::new(ASKED).sql(error))?;
    let read = |row: &tokio_postgres::Row| Relation {
        id: RelationId(row.get(0)),
        name: TableName::new(row.get::<_, String>(1), row.get::<_, String>(2)),
        kind: row.get(3),
        // -1, or nothing, stands for a table that was never looked at.
        rows_estimated: row.get::<_, Option<f64>>(4).filter(|rows| *rows >= 0.0).map(|rows| rows as u64),
    };
    Ok(rows.iter().map(read).filter(|relation| filter.matches(&relation.name, &[])).collect())
}

async fn database(session: &Session) -> Result<Arc<str>, Problem> {
    let row = session.query_one(statement::DATABASE_AND_ROLE, &[]).await;
    let row = row.map_err(|error| Asked::new(ASKED).sql(error))?;
    Ok(row.get::<_, String>(0).into())
}

async fn columns(session: &Session) -> Result<HashMap<TableName, Vec<Column>>, Problem> {
    let rows = session.query(statement::COLUMNS, &[]).await.map_err(|error| Asked::new(ASKED).sql(error))?;
    let mut columns: HashMap<TableName, Vec<Column>> = HashMap::new();
    for row in rows {
        let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        columns.entry(table).or_default().push(Column {
            name: row.get::<_, String>(2).into(),
            type_name: row.get(3),
            hidden: row.get::<_, &str>(4) == "YES",
            computed: is_computed(row.get(5), row.get(6)),
        });
    }
    Ok(columns)
}

/// Versions differ in the words: NEVER or NO, ALWAYS or YES.
pub(crate) fn is_computed(is_generated: Option<&str>, expression: Option<&str>) -> bool {
    match is_generated {
        Some("ALWAYS" | "YES") => true,
        Some("NEVER" | "NO") => false,
        _ => expression.is_some_and(|expression| !expression.is_empty()),
    }
}

async fn types(session: &Session) -> Result<HashMap<(RelationId, String), Type>, Problem> {
    let rows = session.query(statement::COLUMN_TYPES, &[]).await.map_err(|error| Asked::new(ASKED).sql(error))?;
    let read = |row: &tokio_postgres::Row| {
        let family = match (row.get::<_, Option<&str>>(4), row.get::<_, Option<&str>>(5)) {
            (Some("e"), _) => Family::Enum,
            (_, Some("e")) => Family::ArrayOfEnums,
            _ => Family::Other,
        };
        ((RelationId(row.get(0)), row.get(1)), Type { oid: row.get(2), modifier: row.get(3), family })
    };
    Ok(rows.iter().map(read).collect())
}

/// Returns the OIDs of the types of all columns.
pub(super) async fn type_oids(session: &Session) -> Result<HashMap<(RelationId, String), u32>, Problem> {
    Ok(types(session).await?.into_iter().map(|(column, found)| (column, found.oid)).collect())
}

async fn keys(session: &Session) -> Result<HashMap<TableName, Vec<ColumnName>>, Problem> {
    let rows = session.query(statement::PRIMARY_KEYS, &[]).await.map_err(|error| Asked::new(ASKED).sql(error))?;
    let mut keys: HashMap<TableName, Vec<ColumnName>> = HashMap::new();
    for row in rows {
        let table = TableName::new(row.get::<_, String>(0), row.get::<_, String>(1));
        keys.entry(table).or_default().push(row.get::<_, String>(2).into());
    }
    Ok(keys)
}

async fn may_select(session: &Session, tables: &[Relation]) -> Result<HashMap<RelationId, bool>, Problem> {
    let ids: Vec<i64> = tables.iter().map(|table| i64::from(table.id.0)).collect();
    let rows = session.query(statement::MAY_SELECT, &[&ids]).await.map_err(|error| Asked::new(ASKED).sql(error))?;
    let read = |row: &tokio_postgres::Row| (RelationId(row.get::<_, i64>(0) as u32), row.get(1));
    Ok(rows.iter().map(read).collect())
}

/// Asks for the text that would make the table. Where our role may not see it, it may not read the table either.
async fn shape(session: &Session, table: &TableName) -> Result<Shape, Problem> {
    let answer = match session.simple_query(&statement::create_statement(table)).await {
        Ok(answer) => answer,
        Err(error) if error.code().is_some_and(|code| code.code() == "42501") => return Ok(Shape::default()),
        Err(error) => return Err(Asked::new("asking the source how a table was made").sql(error)),
    };
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(row.len().saturating_sub(1)),
        _ => None,
    });
    Ok(Shape::of(row.unwrap_or_default()))
}
