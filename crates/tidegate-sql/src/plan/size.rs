//! How large one statement may be.

use super::table::Table;

/// Rows of one statement on CockroachDB: its docs advise the best of 1, 10, 100 and 1,000 found by trial, and statements
/// are sent without waiting, so that more of them cost little.
const ROWS_MAX: u64 = 1_000;
/// Rows that must be in one statement because they reference each other. Its docs warn of 100,000.
const ROWS_TOGETHER_MAX: u64 = 10_000;
/// Bytes of the rows of one statement: CockroachDB takes no message over 16 MiB, and a write of 4 MiB whatever its
/// settings (`kv.raft.command.max_size`). A larger row goes by itself.
const BYTES_MAX: u64 = 4 << 20;
/// The same for what must be together.
const BYTES_TOGETHER_MAX: u64 = 12 << 20;

/// How many rows of a table one statement takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StatementLimit {
    rows: u64,
    bytes: u64,
}

impl StatementLimit {
    pub fn of(table: &Table) -> Self {
        if !table.dialect.is_cockroach() {
            return StatementLimit { rows: u64::MAX, bytes: u64::MAX };
        }
        if table.route.map.references.contains(&table.route.map.target) {
            return StatementLimit { rows: ROWS_TOGETHER_MAX, bytes: BYTES_TOGETHER_MAX };
        }
        StatementLimit { rows: ROWS_MAX, bytes: BYTES_MAX }
    }

    /// Cuts rows into what one statement takes each. None is empty.
    pub fn split<T>(self, rows: &[T], bytes_of: impl Fn(&T) -> u64) -> Vec<&[T]> {
        if self.bytes == u64::MAX {
            return if rows.is_empty() { Vec::new() } else { vec![rows] };
        }
        let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
        for (index, row) in rows.iter().enumerate() {
            let more = bytes_of(row);
            if index > start && ((index - start) as u64 >= self.rows || bytes + more > self.bytes) {
                parts.push(&rows[start..index]);
                (start, bytes) = (index, 0);
            }
            bytes += more;
        }
        if start < rows.len() {
            parts.push(&rows[start..]);
        }
        parts
    }
}

/// What is left of a statement for rows that must be together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    rows: u64,
    bytes: u64,
}

impl Room {
    pub fn of_circle() -> Self {
        Room { rows: 0, bytes: 0 }
    }

    pub fn take(&mut self, bytes: u64) {
        self.rows += 1;
        self.bytes += bytes;
    }

    pub fn is_over(&self) -> bool {
        self.rows > ROWS_TOGETHER_MAX || self.bytes > BYTES_TOGETHER_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_their_rows_and_bytes_and_take_one_row_at_least() {
        let limit = StatementLimit { rows: 3, bytes: 10 };
        let parts = limit.split(&[1, 1, 1, 1, 9, 50, 2], |bytes| *bytes);
        assert_eq!(parts, [&[1, 1, 1][..], &[1, 9], &[50], &[2]]);
        assert!(limit.split(&[] as &[u64], |bytes| *bytes).is_empty());
    }
}
