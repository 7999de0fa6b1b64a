//! Whether rows may travel in binary form.

use tidegate_model::{CopyFormat, Problem, SourceColumn, TableMap};

use super::problem;
use super::session::Transaction;
use crate::quote;

/// Built-in types whose binary form means the same on every server of the supported versions. Not in it: types whose
/// binary form holds OIDs of one database (the `reg` types, and everything made by users), those without one
/// (`aclitem`), and `xml`, whose binary form depends on its declared encoding.
const BINARY_TYPES: [u32; 42] = [
    16, 17, 18, 19, 20, 21, 23, 25, 26, 27, 114, 600, 601, 602, 603, 604, 628, 650, 700, 701, 718, 774, 790, 829, 869,
    1042, 1043, 1082, 1083, 1114, 1184, 1186, 1266, 1560, 1562, 1700, 2950, 3220, 3614, 3615, 3802, 4072,
];

/// The arrays of the types above (all but `jsonpath` and such rarities), and the ranges and multiranges with their
/// arrays.
const BINARY_ARRAYS_AND_RANGES: [u32; 63] = [
    1000, 1001, 1002, 1003, 1005, 1007, 1009, 1010, 1014, 1015, 1016, 1017, 1018, 1019, 1020, 1021, 1022, 1027, 1028,
    1040, 1041, 1115, 1182, 1183, 1185, 1187, 1231, 1270, 1561, 1563, 199, 629, 651, 719, 775, 791, 2951, 3221, 3643,
    3645, 3807, 3904, 3905, 3906, 3907, 3908, 3909, 3910, 3911, 3912, 3913, 3926, 3927, 4451, 4532, 4533, 4534, 4535,
    4536, 6150, 6151, 6152, 6153,
];

#[derive(Clone, Copy, Debug, PartialEq)]
struct TargetType {
    oid: u32,
    modifier: i32,
}

/// Decides how the rows of a table travel.
pub(super) async fn decide(transaction: &Transaction, table: &TableMap) -> Result<CopyFormat, Problem> {
    let sql = "SELECT attname::text, atttypid, atttypmod FROM pg_catalog.pg_attribute \
               WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
    let rows = transaction.query(sql, &[&quote::table(&table.target)]).await;
    let rows = rows.map_err(problem::target("read the columns of a table"))?;
    if rows.is_empty() {
        return Err(problem::no_such_target(&table.target, "it does not exist, or has no columns"));
    }
    let mut format = CopyFormat::Binary;
    for (column, source) in table.columns.iter().zip(&table.source.columns) {
        let Some(row) = rows.iter().find(|row| row.get::<_, &str>(0) == &*column.target) else {
            return Err(problem::no_such_target(
                &table.target,
                &format!("column \"{}\" does not exist", column.target),
            ));
        };
        if !agree(source, TargetType { oid: row.get(1), modifier: row.get(2) }) {
            format = CopyFormat::Text;
        }
    }
    Ok(format)
}

fn agree(source: &SourceColumn, target: TargetType) -> bool {
    let same = TargetType { oid: source.type_oid, modifier: source.type_modifier } == target;
    same && (BINARY_TYPES.contains(&target.oid) || BINARY_ARRAYS_AND_RANGES.contains(&target.oid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_built_in_types_travel_in_binary() {
        let source =
            |type_oid, type_modifier| SourceColumn { name: "c".into(), type_oid, type_modifier, identity: false };
        let agrees = |oid, modifier, target_oid, target_modifier| {
            agree(&source(oid, modifier), TargetType { oid: target_oid, modifier: target_modifier })
        };
        assert!(agrees(23, -1, 23, -1) && agrees(1700, 10, 1700, 10) && agrees(1007, -1, 1007, -1));
        assert!(!agrees(23, -1, 20, -1), "integer into bigint");
        assert!(!agrees(1043, 14, 1043, 24), "another length");
        assert!(!agrees(16_500, -1, 16_500, -1), "types of users");
        assert!(!agrees(2205, -1, 2205, -1), "regclass");
    }
}
