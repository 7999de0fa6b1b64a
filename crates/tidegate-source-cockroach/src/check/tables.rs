//! The tables: can they be carried and read?

use std::collections::BTreeMap;

use tidegate_connect::CockroachVersion;
use tidegate_model::{Finding, Severity, TableFilter, TableName};

use super::critical;
use crate::catalog::{CatalogTable, Listed, Obstacle};
use crate::statement::{identifier, table as quote};
use crate::value::Kind;

const NO_TABLES: &str = "CK139";
const PATTERN_UNMATCHED: &str = "CK140";
const FAMILIES: &str = "CK141";
const TYPE_NOT_CARRIED: &str = "CK142";
const COMPUTED_KEY: &str = "CK143";
const NO_SELECT: &str = "CK144";
const NO_KEY: &str = "CK145";
const LOCKED: &str = "CK146";
const NOT_TABLES: &str = "CK147";
const JSON_NULL: &str = "CK148";

/// The first version whose feeds tell a JSON null from an SQL NULL.
const JSON_NULL_SINCE: (u32, u32) = (24, 2);

/// How many names a finding lists.
const NAMES_MAX: usize = 5;

pub(super) fn judge(listed: &Listed, filter: &TableFilter, role: &str, findings: &mut Vec<Finding>) {
    for table in &listed.tables {
        findings.extend(table.obstacles.iter().map(|obstacle| cannot_be_carried(table, obstacle)));
    }
    let carried: Vec<&CatalogTable> = listed.tables.iter().filter(|table| table.is_carried()).collect();
    tables_closed(&carried, role, findings);
    findings.extend(carried.iter().filter(|table| table.primary_key.is_empty()).map(|table| no_key(table)));
    findings.extend(locked(&carried));
    findings.extend(not_tables(listed));
    if listed.tables.is_empty() {
        findings.push(no_tables());
    }
    let names: Vec<(TableName, Vec<TableName>)> =
        listed.tables.iter().map(|table| (table.name().clone(), Vec::new())).collect();
    findings.extend(filter.unmatched(&names).map(pattern_unmatched));
}

fn cannot_be_carried(table: &CatalogTable, obstacle: &Obstacle) -> Finding {
    let exclude = format!("--exclude '{}'", table.name());
    match obstacle {
        Obstacle::ColumnFamilies(families) => about(
            table,
            FAMILIES,
            format!("it has {families} column families"),
            "a changefeed tells each family of a row by itself, and nothing says which belong together",
            format!("make it again with one family, or leave it out: {exclude}"),
        ),
        Obstacle::Type { column, type_name } => about(
            table,
            TYPE_NOT_CARRIED,
            format!("column \"{column}\" has type {type_name}"),
            "its values cannot be read out of a changefeed",
            format!("change its type, or leave the table out: {exclude}"),
        ),
        Obstacle::ComputedKey(column) => about(
            table,
            COMPUTED_KEY,
            format!("column \"{column}\" of its primary key is computed"),
            "computed columns are not carried, and without it the key does not tell which row is meant",
            format!("make it an ordinary column, or leave the table out: {exclude}"),
        ),
    }
}

fn tables_closed(tables: &[&CatalogTable], role: &str, findings: &mut Vec<Finding>) {
    let mut closed: BTreeMap<&str, Vec<&CatalogTable>> = BTreeMap::new();
    for &table in tables.iter().filter(|table| !table.may_select) {
        closed.entry(&table.name().schema).or_default().push(table);
    }
    for (schema, tables) in closed {
        let names: Vec<String> = tables.iter().map(|table| quote(table.name())).collect();
        findings.push(critical(
            NO_SELECT,
            format!("role \"{role}\" may not SELECT from {} tables of schema \"{schema}\"", tables.len()),
            "the copy reads them, and a changefeed without a sink asks for the same right",
            format!("GRANT SELECT ON TABLE {} TO {}", names.join(", "), identifier(role)),
        ));
    }
}

fn no_key(table: &CatalogTable) -> Finding {
    Finding {
        severity: Severity::Warning,
        ..about(
            table,
            NO_KEY,
            "it has no primary key but the hidden rowid".to_owned(),
            "no other database has that column: a row is found there by all its values, which is slow",
            format!("add one: ALTER TABLE {} ALTER PRIMARY KEY USING COLUMNS (...)", quote(table.name())),
        )
    }
}

fn locked(tables: &[&CatalogTable]) -> Option<Finding> {
    let locked: Vec<&TableName> = tables.iter().filter(|t| t.schema_locked).map(|t| t.name()).collect();
    (!locked.is_empty()).then(|| Finding {
        severity: Severity::Notice,
        ..critical(
            LOCKED,
            format!("the definitions of {} tables are locked ({})", locked.len(), some(&locked)),
            "a changefeed is faster for it; a change of such a table has to unlock it first",
            "nothing; where a table has to be changed: ALTER TABLE ... SET (schema_locked = false)".to_owned(),
        )
    })
}

/// Before v24.2 a feed writes a JSON null as it writes an SQL NULL. With both directions the difference is lost where the
/// row was written, too.
pub(super) fn json_nulls(listed: &Listed, version: &CockroachVersion, both_directions: bool) -> Option<Finding> {
    let has_json = |table: &&CatalogTable| table.is_carried() && table.info.kinds.contains(&Kind::Json);
    let names: Vec<&TableName> = listed.tables.iter().filter(has_json).map(CatalogTable::name).collect();
    (!names.is_empty() && !version.at_least(JSON_NULL_SINCE.0, JSON_NULL_SINCE.1)).then(|| Finding {
        severity: if both_directions { Severity::Critical } else { Severity::Warning },
        ..critical(
            JSON_NULL,
            format!("JSON null of {} tables would become NULL ({})", names.len(), some(&names)),
            "changefeeds tell the two apart from v24.2 on (encode_json_value_null_as_object)",
            "upgrade the cluster to v24.2, or leave out the tables where a column holds it: \
             SELECT count(*) FROM ... WHERE column = 'null'"
                .to_owned(),
        )
    })
}

fn not_tables(listed: &Listed) -> Option<Finding> {
    let names: Vec<&TableName> = listed.others.iter().map(|other| &other.name).collect();
    let sequences = listed.others.iter().filter(|other| other.is_sequence).count();
    (!names.is_empty()).then(|| Finding {
        severity: Severity::Notice,
        ..critical(
            NOT_TABLES,
            format!("{} views and {sequences} sequences are not carried ({})", names.len() - sequences, some(&names)),
            "a changefeed tells the rows of tables only",
            "create views at the other side; set sequences there before an application writes to it".to_owned(),
        )
    })
}

fn some(names: &[&TableName]) -> String {
    let mut shown: Vec<String> = names.iter().take(NAMES_MAX).map(ToString::to_string).collect();
    if names.len() > NAMES_MAX {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

fn no_tables() -> Finding {
    critical(
        NO_TABLES,
        "the migration has no tables".to_owned(),
        "no table of the database matches --tables and is not excluded",
        "correct the patterns: they are matched against schema.table, case-sensitive".to_owned(),
    )
}

fn pattern_unmatched(pattern: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        ..critical(
            PATTERN_UNMATCHED,
            format!("the table pattern '{pattern}' matches no table"),
            "it is matched against schema.table, case-sensitive; most often it has a slip of the pen",
            "correct it, or leave it out".to_owned(),
        )
    }
}

fn about(table: &CatalogTable, code: &'static str, what: String, why: &str, fix: String) -> Finding {
    Finding { subject: table.name().to_string(), ..critical(code, what, why, fix) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_model::{RelationId, ReplicaIdentity, SourceTable};

    use super::*;
    use crate::catalog::OtherRelation;
    use crate::table::TableInfo;

    fn table(name: &str) -> CatalogTable {
        let table = SourceTable {
            id: RelationId(1),
            name: TableName::new("public", name),
            replica_identity: ReplicaIdentity::Default,
            columns: Vec::new(),
        };
        CatalogTable {
            info: TableInfo::new("shop", Arc::new(table), Vec::new(), Vec::new(), Vec::new()),
            primary_key: vec!["id".into()],
            generated: Vec::new(),
            identity_whole: true,
            obstacles: Vec::new(),
            schema_locked: false,
            may_select: true,
            rows_estimated: None,
            bytes: 0,
        }
    }

    fn judged(tables: Vec<CatalogTable>, others: Vec<OtherRelation>) -> Vec<Finding> {
        let filter = TableFilter::new(&[], &[], "tidegate").unwrap();
        let mut findings = Vec::new();
        judge(&Listed { tables, others }, &filter, "mover", &mut findings);
        assert!(findings.iter().all(|finding| !finding.why.is_empty() && !finding.fix.is_empty()));
        findings
    }

    #[test]
    fn a_good_table_gives_no_finding() {
        assert_eq!(judged(vec![table("a")], Vec::new()), []);
    }

    #[test]
    fn grants_are_printed_with_quoted_names() {
        let closed = CatalogTable { may_select: false, ..table("Order\"s") };
        let found = judged(vec![closed], Vec::new());
        assert_eq!(found[0].fix, r#"GRANT SELECT ON TABLE "public"."Order""s" TO "mover""#);
    }

    #[test]
    fn what_cannot_be_carried_is_named_and_not_judged_further() {
        let type_name = "public.pair".to_owned();
        let obstacles = vec![
            Obstacle::ColumnFamilies(2),
            Obstacle::Type { column: "c".into(), type_name },
            Obstacle::ComputedKey("k".into()),
        ];
        let found = judged(vec![CatalogTable { obstacles, may_select: false, ..table("a") }], Vec::new());
        assert_eq!(found.iter().map(|f| f.code).collect::<Vec<_>>(), [FAMILIES, TYPE_NOT_CARRIED, COMPUTED_KEY]);
        assert!(found.iter().all(|f| f.severity == Severity::Critical && f.subject == "public.a"));
    }

    #[test]
    fn what_only_matters_later_is_no_obstacle() {
        let keyless = CatalogTable { primary_key: Vec::new(), schema_locked: true, ..table("a") };
        let sequence = OtherRelation { name: TableName::new("public", "s"), is_sequence: true };
        let found = judged(vec![keyless], vec![sequence]);
        assert_eq!(found.iter().map(|f| f.code).collect::<Vec<_>>(), [NO_KEY, LOCKED, NOT_TABLES]);
        assert!(found.iter().all(|f| f.severity != Severity::Critical));
    }

    #[test]
    fn json_null_is_told_from_null_by_newer_servers_only() {
        let version = |major, minor| CockroachVersion { text: String::new(), major, minor, patch: 0 };
        let with = |columns: &[(&str, &str)]| {
            let info = crate::table::tests::table(1, "t", columns);
            let info = TableInfo::new("bank", Arc::clone(&info.table), info.kinds.clone(), Vec::new(), Vec::new());
            Listed { tables: vec![CatalogTable { info, ..table("t") }], others: Vec::new() }
        };
        let (json, plain) = (with(&[("*id", "INT8"), ("doc", "JSONB")]), with(&[("*id", "INT8")]));
        let found = |listed, version: &CockroachVersion, both| json_nulls(listed, version, both).map(|f| f.severity);
        assert_eq!(found(&json, &version(24, 1), false), Some(Severity::Warning));
        assert_eq!(found(&json, &version(24, 1), true), Some(Severity::Critical));
        assert_eq!(found(&json, &version(24, 2), true), None);
        assert_eq!(found(&plain, &version(23, 1), true), None);
    }

    #[test]
    fn no_table_at_all_is_critical() {
        assert_eq!(judged(Vec::new(), Vec::new())[0].code, NO_TABLES);
    }
}
