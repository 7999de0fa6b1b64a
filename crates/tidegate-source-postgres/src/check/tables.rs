//! The tables: can they be carried, read and published?

use std::collections::BTreeMap;

use postgres_protocol::escape::escape_identifier;
use tidegate_model::{Finding, ReplicaIdentity, Severity, TableFilter, TableName};

use crate::catalog::{CatalogTable, Obstacle};
use crate::publication::quote;

const NOT_OWNED: &str = "CK011";
const NO_SELECT: &str = "CK012";
const NO_SCHEMA_USAGE: &str = "CK013";
const NO_IDENTITY: &str = "CK014";
const UNLOGGED: &str = "CK015";
const FOREIGN: &str = "CK016";
const INHERITANCE: &str = "CK017";
const ROW_SECURITY: &str = "CK018";
const PATTERN_UNMATCHED: &str = "CK020";
const NO_TABLES: &str = "CK024";

/// `published`: the publication is there already with exactly these tables, so nobody needs to own them.
pub(super) fn judge(
    tables: &[CatalogTable],
    filter: &TableFilter,
    role: &str,
    published: bool,
    findings: &mut Vec<Finding>,
) {
    for table in tables {
        findings.extend(table.obstacles.iter().map(|obstacle| cannot_be_carried(table, *obstacle)));
    }
    let carried: Vec<&CatalogTable> = tables.iter().filter(|table| table.is_carried()).collect();
    for table in &carried {
        if !table.has_identity() {
            findings.push(no_identity(table));
        }
        if table.rights.row_security {
            findings.push(row_security(table, role));
        }
    }
    let role = escape_identifier(role);
    schemas_closed(&carried, &role, findings);
    tables_closed(&carried, &role, findings);
    if !published {
        tables_of_others(&carried, &role, findings);
    }
    if tables.is_empty() {
        findings.push(no_tables());
    }
    let names: Vec<(TableName, Vec<TableName>)> =
        tables.iter().map(|table| (table.name().clone(), table.ancestors.clone())).collect();
    findings.extend(filter.unmatched(&names).map(pattern_unmatched));
}

fn cannot_be_carried(table: &CatalogTable, obstacle: Obstacle) -> Finding {
    let exclude = format!("--exclude '{}'", table.name());
    let (code, what, why, fix) = match obstacle {
        Obstacle::Unlogged => (
            UNLOGGED,
            "the table is unlogged",
            "its changes are not in the WAL, so they cannot be followed",
            format!("ALTER TABLE {} SET LOGGED; or leave it out: {exclude}", quote(table.name())),
        ),
        Obstacle::Foreign => (
            FOREIGN,
            "the table is a foreign table",
            "its rows are in another server, and their changes are not in this one's WAL",
            format!("leave it out: {exclude}"),
        ),
        Obstacle::InheritanceParent => (
            INHERITANCE,
            "other tables inherit from the table",
            "a row of a child is also a row of it, which the target has no notion of; only partitions are carried",
            format!("leave it out: {exclude}; or make it a partitioned table"),
        ),
    };
    about(table, code, what.to_owned(), why, fix)
}

fn no_identity(table: &CatalogTable) -> Finding {
    let name = quote(table.name());
    let what = match table.table.replica_identity {
        ReplicaIdentity::Nothing => "its replica identity is NOTHING",
        ReplicaIdentity::Index => "its replica identity is an index that was dropped",
        ReplicaIdentity::Default if table.primary_key.is_empty() => "it has no primary key and no replica identity",
        ReplicaIdentity::Default | ReplicaIdentity::Full => {
            "its primary key is deferrable, which is no replica identity"
        }
    };
    let fix = match (table.table.replica_identity, table.identity_candidates.first()) {
        (ReplicaIdentity::Nothing, Some(_)) if !table.primary_key.is_empty() => {
            format!("ALTER TABLE {name} REPLICA IDENTITY DEFAULT")
        }
        (_, Some(index)) => format!("ALTER TABLE {name} REPLICA IDENTITY USING INDEX {}", escape_identifier(index)),
        (_, None) => {
            format!("ALTER TABLE {name} REPLICA IDENTITY FULL (its old rows are then written to the WAL whole)")
        }
    };
    let why =
        "once it is published the server refuses every UPDATE and DELETE of it, because nobody could tell which row";
    about(table, NO_IDENTITY, what.to_owned(), why, fix)
}

fn row_security(table: &CatalogTable, role: &str) -> Finding {
    about(
        table,
        ROW_SECURITY,
        format!("row level security applies to role \"{role}\""),
        "the copy would miss the rows that its policies hide, while the stream carries all",
        format!("ALTER ROLE {} BYPASSRLS; or use the table's owner as the role", escape_identifier(role)),
    )
}

fn schemas_closed(tables: &[&CatalogTable], role: &str, findings: &mut Vec<Finding>) {
    for (schema, tables) in group(tables, |table| (!table.rights.schema_usage).then(|| &*table.name().schema)) {
        findings.push(critical(
            NO_SCHEMA_USAGE,
            format!("role {role} has no USAGE on schema \"{schema}\""),
            format!("it cannot read the {} tables of the migration there", tables.len()),
            format!("GRANT USAGE ON SCHEMA {} TO {role}", escape_identifier(schema)),
        ));
    }
}

fn tables_closed(tables: &[&CatalogTable], role: &str, findings: &mut Vec<Finding>) {
    for (schema, tables) in group(tables, |table| (!table.rights.select).then(|| &*table.name().schema)) {
        findings.push(critical(
            NO_SELECT,
            format!("role {role} may not SELECT from {} tables of schema \"{schema}\"", tables.len()),
            "the copy reads them".to_owned(),
            format!("GRANT SELECT ON TABLE {} TO {role}", list(&tables)),
        ));
    }
}

fn tables_of_others(tables: &[&CatalogTable], role: &str, findings: &mut Vec<Finding>) {
    for (owner, tables) in group(tables, |table| (!table.rights.owned).then_some(&*table.rights.owner)) {
        findings.push(critical(
            NOT_OWNED,
            format!("{} tables belong to role \"{owner}\", and role {role} is no member of it", tables.len()),
            format!("only an owner can publish a table; these are {}", list(&tables)),
            format!("GRANT {} TO {role}; or let that role make the publication", escape_identifier(owner)),
        ));
    }
}

fn group<'a>(
    tables: &[&'a CatalogTable],
    key: impl Fn(&'a CatalogTable) -> Option<&'a str>,
) -> BTreeMap<&'a str, Vec<&'a CatalogTable>> {
    let mut groups: BTreeMap<&str, Vec<&CatalogTable>> = BTreeMap::new();
    for &table in tables {
        if let Some(key) = key(table) {
            groups.entry(key).or_default().push(table);
        }
    }
    groups
}

fn list(tables: &[&CatalogTable]) -> String {
    let quoted: Vec<String> = tables.iter().map(|table| quote(table.name())).collect();
    quoted.join(", ")
}

fn no_tables() -> Finding {
    critical(
        NO_TABLES,
        "the migration has no tables".to_owned(),
        "no table of the database matches --tables and is not excluded".to_owned(),
        "correct the patterns: they are matched against schema.table, case-sensitive".to_owned(),
    )
}

fn pattern_unmatched(pattern: &str) -> Finding {
    Finding {
        severity: Severity::Warning,
        ..critical(
            PATTERN_UNMATCHED,
            format!("the table pattern '{pattern}' matches no table"),
            "it is matched against schema.table, case-sensitive; most often it has a slip of the pen".to_owned(),
            "correct it, or leave it out".to_owned(),
        )
    }
}

fn about(table: &CatalogTable, code: &'static str, what: String, why: &str, fix: String) -> Finding {
    Finding { subject: table.name().to_string(), ..critical(code, what, why.to_owned(), fix) }
}

fn critical(code: &'static str, what: String, why: String, fix: String) -> Finding {
    Finding { code, severity: Severity::Critical, subject: "source".to_owned(), what, why, fix }
}

#[cfg(test)]
mod tests {
    use tidegate_model::{RelationId, SourceColumn, SourceTable};

    use super::*;
    use crate::catalog::Rights;

    fn table(name: &str, identity: bool) -> CatalogTable {
        let column = SourceColumn { name: "id".into(), type_oid: 23, type_modifier: -1, identity };
        CatalogTable {
            table: SourceTable {
                id: RelationId(1),
                name: TableName::new("public", name),
                replica_identity: ReplicaIdentity::Default,
                columns: vec![column],
            },
            ancestors: vec![],
            obstacles: vec![],
            primary_key: vec![],
            identity_whole: true,
            identity_candidates: vec![],
            generated: vec![],
            rights: Rights {
                owner: "app".to_owned(),
                owned: true,
                select: true,
                schema_usage: true,
                row_security: false,
            },
            rows_estimated: None,
            bytes: 0,
            relfilenode: 1,
        }
    }

    fn judged(tables: &[CatalogTable], published: bool) -> Vec<(&'static str, String)> {
        let filter = TableFilter::new(&[], &[], "tidegate").unwrap();
        let mut findings = Vec::new();
        judge(tables, &filter, "mover", published, &mut findings);
        findings.into_iter().map(|finding| (finding.code, finding.fix)).collect()
    }

    #[test]
    fn a_good_table_gives_no_finding() {
        assert_eq!(judged(&[table("a", true)], false), []);
    }

    #[test]
    fn a_table_without_identity_gets_the_best_fix_there_is() {
        let bare = table("a", false);
        assert!(judged(std::slice::from_ref(&bare), false)[0].1.contains("REPLICA IDENTITY FULL"));
        let with_index = CatalogTable { identity_candidates: vec!["u".to_owned()], ..bare.clone() };
        let fix = &judged(&[with_index], false)[0].1;
        assert_eq!(fix, r#"ALTER TABLE "public"."a" REPLICA IDENTITY USING INDEX "u""#);
        let mut nothing = CatalogTable {
            primary_key: vec!["id".into()],
            identity_candidates: vec!["a_pkey".to_owned()],
            ..bare.clone()
        };
        nothing.table.replica_identity = ReplicaIdentity::Nothing;
        assert!(judged(&[nothing], false)[0].1.ends_with("REPLICA IDENTITY DEFAULT"));
        let mut full = bare;
        full.table.replica_identity = ReplicaIdentity::Full;
        assert_eq!(judged(&[full], false), []);
    }

    #[test]
    fn grants_are_printed_with_quoted_names() {
        let mut closed = table("Order\"s", true);
        closed.rights = Rights { owned: false, select: false, schema_usage: false, ..closed.rights };
        let fixes = judged(std::slice::from_ref(&closed), false);
        assert_eq!(fixes[0], (NO_SCHEMA_USAGE, r#"GRANT USAGE ON SCHEMA "public" TO "mover""#.to_owned()));
        assert_eq!(fixes[1], (NO_SELECT, r#"GRANT SELECT ON TABLE "public"."Order""s" TO "mover""#.to_owned()));
        assert_eq!(fixes[2].0, NOT_OWNED);
        assert_eq!(judged(&[closed], true).len(), 2, "what is published need not be owned");
    }

    #[test]
    fn tables_that_cannot_be_carried_are_named_and_not_judged_further() {
        let unlogged = CatalogTable { obstacles: vec![Obstacle::Unlogged], ..table("a", false) };
        let findings = judged(&[unlogged], false);
        assert_eq!((findings.len(), findings[0].0), (1, UNLOGGED));
    }

    #[test]
    fn no_table_at_all_is_critical() {
        assert_eq!(judged(&[], false)[0].0, NO_TABLES);
    }
}
