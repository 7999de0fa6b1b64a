//! The tables of a stream as the cluster has them now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_connect::Session;
use tidegate_model::{Problem, RelationId, SourceColumn, SourceTable, TableFilter, TableName, TableRoute};
use tidegate_source_cockroach::catalog::{self, Present};
use tidegate_source_cockroach::{Kind, TableInfo};
use tokio::time::sleep;
use tokio_postgres::types::Type;
use tracing::{info, warn};

use super::super::{Board, Flow};

/// A table created later is to be seen within ten seconds.
const TABLES_EVERY: Duration = Duration::from_secs(5);

/// Describes the tables of the routes for the feed. A table that got or lost columns since its route was made is described
/// as it was then: the feed first gives what was written before, and stops at the first row that is otherwise. One that
/// was dropped is left out: no feed can name it. Anything else that happened to a table is refused.
pub(super) async fn of_routes(flow: Flow<'_>, routes: &[TableRoute]) -> Result<Vec<TableInfo>, Problem> {
    let (session, every_table) = (&flow.from().session, TableFilter::new(&[], &[], "")?);
    let carried = routes.iter().map(|route| &route.map.source);
    let dropped = Present::read(session).await?.verify(&flow.migration.name, carried)?;
    for table in &dropped {
        warn!(%table, "table was dropped at the source; it stays at the target as it is");
    }
    let mut now: HashMap<RelationId, TableInfo> = HashMap::new();
    for table in catalog::list_tables(session, &every_table).await? {
        now.insert(table.info.table.id, table.info);
    }
    let mut tables = Vec::new();
    for route in routes {
        let source = &route.map.source;
        match now.remove(&source.id) {
            Some(info) if *info.table == *source => tables.push(info),
            Some(info) => tables.push(as_it_was(&info, source)),
            None => {}
        }
    }
    if tables.is_empty() { Err(none_left(flow)) } else { Ok(tables) }
}

fn as_it_was(now: &TableInfo, then: &SourceTable) -> TableInfo {
    let kind_of = |column: &SourceColumn| {
        let known = now.table.columns.iter().position(|known| known.name == column.name);
        known.map_or_else(|| kind_of_oid(column.type_oid), |at| now.kinds[at].clone())
    };
    let kinds = then.columns.iter().map(kind_of).collect();
    let key = now.key.iter().map(|column| column.name.clone()).collect();
    info!(table = %then.name, "table was altered at the source since it was copied");
    TableInfo::new(now.database.clone(), Arc::new(then.clone()), kinds, now.ignored.clone(), key)
}

/// Returns the kind of a column that is gone; only its type's number is left. What is not built in was an enum.
fn kind_of_oid(oid: u32) -> Kind {
    let Some(of_type) = Type::from_oid(oid) else { return Kind::Text };
    let name = match of_type.name().strip_prefix('_') {
        Some(element) => format!("{element}[]"),
        None => of_type.name().to_owned(),
    };
    Kind::of_type(&name).unwrap_or(Kind::Text)
}

/// Looks for tables that match and are not carried and for those that were dropped, and returns the problem of one that is
/// not what it was. A feed that cannot give everything ends by itself.
pub(super) async fn watch(flow: Flow<'_>, routes: &[TableRoute], board: &Board) -> Problem {
    let mut said = Vec::new();
    loop {
        match look(flow).await {
            Ok(Looked { present, found }) => {
                let carried = || routes.iter().map(|route| &route.map.source);
                let dropped = match present.verify(&flow.migration.name, carried()) {
                    Ok(dropped) => dropped.iter().map(ToString::to_string).collect(),
                    Err(changed) => return changed,
                };
                let missing = found.into_iter().filter(|(id, _)| carried().all(|table| table.id != *id));
                let missing: Vec<String> = missing.map(|(_, name)| name.to_string()).collect();
                for table in missing.iter().filter(|table| !said.contains(*table)) {
                    warn!(%table, "a table of the source appeared that this migration does not carry");
                }
                said.clone_from(&missing);
                board.change(|status| (status.not_carried, status.dropped) = (missing, dropped));
            }
            Err(problem) => warn!(error = %problem.why, "the source's tables cannot be listed"),
        }
        sleep(TABLES_EVERY).await;
    }
}

/// The source's tables, and those of them that match.
struct Looked {
    present: Present,
    found: Vec<(RelationId, TableName)>,
}

async fn look(flow: Flow<'_>) -> Result<Looked, Problem> {
    let migration = flow.migration;
    let filter = TableFilter::new(&migration.tables, &migration.exclude, &migration.state_schema)?;
    let session = Session::connect(&flow.from().settings, &migration.name.application_name("tables")).await?;
    let present = Present::read(&session).await?;
    Ok(Looked { found: present.matching(&filter), present })
}

fn none_left(flow: Flow<'_>) -> Problem {
    Problem::definite(
        "CR043",
        format!("no table of migration \"{}\" exists at the source any more", flow.migration.name),
        "every table that the stream carries was dropped, and a changefeed needs one",
        "check --source; a migration of other tables has another --name",
    )
}
