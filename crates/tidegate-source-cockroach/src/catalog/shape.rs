//! What only the text of CREATE TABLE tells of a table.

use tidegate_model::ColumnName;

/// The part of a table's definition that no catalog table tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many column families it has; 0 where the text names none, which is one.
    pub(crate) families: u32,
    /// Whether its definition is locked.
    pub(crate) schema_locked: bool,
}

impl Shape {
    /// Reads it out of what `SHOW CREATE TABLE` prints: a column, constraint, index or family to a line.
    pub(crate) fn of(create: &str) -> Shape {
        let families = create.lines().filter(|line| line.trim_start().starts_with("FAMILY ")).count();
        // Storage parameters come behind the last line of the columns.
        let parameters = create.rsplit_once("\n)").map_or(create, |(_, after)| after);
        let locked = parameters.split(['(', ',', ')']).any(|parameter| {
            let plain: String = parameter.chars().filter(|c| !c.is_whitespace() && *c != '\'').collect();
            plain == "schema_locked=true"
        });
        Shape { families: u32::try_from(families).unwrap_or(u32::MAX), schema_locked: locked }
    }
}

/// Returns whether a hidden column holds the shard of a hash-sharded key over these columns (CockroachDB docs,
/// "Hash-sharded Indexes").
pub(crate) fn is_shard_of(column: &str, key: &[ColumnName]) -> bool {
    let shard = column.strip_prefix("crdb_internal_").and_then(|rest| {
        let (columns, count) = rest.rsplit_once("_shard_")?;
        count.bytes().all(|b| b.is_ascii_digit()).then_some(columns)
    });
    shard.is_some_and(|columns| !key.is_empty() && columns == key.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_and_locks_are_read_as_printed() {
        let one = "CREATE TABLE public.t (\n\ta INT8 NOT NULL,\n\tCONSTRAINT t_pkey PRIMARY KEY (a ASC),\n\t\
                   FAMILY \"primary\" (a)\n)";
        assert_eq!(Shape::of(one), Shape { families: 1, schema_locked: false });
        let two = "CREATE TABLE public.t (\n\ta INT8 NOT NULL,\n\tFAMILY f1 (a),\n\tFAMILY f2 (b)\n) \
                   WITH (schema_locked = true);";
        assert_eq!(Shape::of(two), Shape { families: 2, schema_locked: true });
        let none = "CREATE TABLE public.t (\n\ta INT8 DEFAULT 'schema_locked = true',\n\t\"FAMILY\" INT8\n) \
                    WITH (ttl = 'on', schema_locked = 'true') LOCALITY GLOBAL";
        assert_eq!(Shape::of(none), Shape { families: 0, schema_locked: true });
        assert_eq!(Shape::of(""), Shape::default());
    }

    #[test]
    fn the_shard_of_a_key_is_told_from_that_of_another_index() {
        let key: [ColumnName; 2] = ["a".into(), "b_c".into()];
        assert!(is_shard_of("crdb_internal_a_b_c_shard_16", &key));
        for other in ["crdb_internal_a_shard_16", "a_b_c_shard_16", "crdb_internal_a_b_c_shard_x", "rowid"] {
            assert!(!is_shard_of(other, &key), "{other}");
        }
        assert!(!is_shard_of("crdb_internal__shard_16", &[]));
    }
}
