//! Values stored out of line, which the source does not send when an update leaves them alone.

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int, body text, other text)";
const ROWS: &str = "INSERT INTO t SELECT i, 0, public.big(i), 'x' FROM generate_series(1, 5) i";

super::cases! {
    toast_survives_an_update_of_another_column {
        both: TABLE, rows: ROWS,
        changes: "UPDATE t SET n = 7; UPDATE t SET n = 8 WHERE id = 2",
    }
    toast_survives_an_update_of_the_key {
        both: TABLE, rows: ROWS,
        changes: "UPDATE t SET id = 10 WHERE id = 1; BEGIN; UPDATE t SET id = 11 WHERE id = 2;
                  UPDATE t SET id = 12 WHERE id = 11; UPDATE t SET n = 3 WHERE id = 12; COMMIT",
    }
    toast_survives_all_keys_plus_one {
        both: TABLE,
        // In falling order, so that the source itself meets no key twice.
        rows: "INSERT INTO t SELECT i, 0, public.big(i), 'x' FROM generate_series(50, 1, -1) i",
        changes: "UPDATE t SET id = id + 1",
    }
    toast_survives_a_swap_of_two_keys {
        both: TABLE, rows: ROWS,
        changes: "BEGIN; UPDATE t SET id = -1 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2;
                  UPDATE t SET id = 2 WHERE id = -1; COMMIT",
    }
    toast_of_an_inserted_row_survives_updates_in_the_same_batch {
        both: TABLE,
        changes: "BEGIN; INSERT INTO t VALUES (1, 0, public.big(1), 'x'); UPDATE t SET n = 1;
                  UPDATE t SET other = 'y'; COMMIT;
                  INSERT INTO t VALUES (2, 0, public.big(2), 'x'); UPDATE t SET n = 5 WHERE id = 2;
                  UPDATE t SET id = 3 WHERE id = 2; UPDATE t SET n = 6 WHERE id = 3",
    }
    toast_set_to_null_stays_null {
        both: TABLE, rows: ROWS,
        changes: "UPDATE t SET body = NULL WHERE id <= 2; UPDATE t SET n = 1;
                  BEGIN; UPDATE t SET n = 2 WHERE id = 3; UPDATE t SET body = NULL WHERE id = 3;
                  UPDATE t SET n = 3 WHERE id = 3; COMMIT",
    }
    toast_replaced_in_the_same_batch_is_the_newer_one {
        both: TABLE, rows: ROWS,
        changes: "BEGIN; UPDATE t SET n = 1 WHERE id = 1; UPDATE t SET body = public.big(99) WHERE id = 1;
                  UPDATE t SET n = 2 WHERE id = 1; COMMIT; UPDATE t SET other = public.big(98) WHERE id = 1;
                  UPDATE t SET id = 20 WHERE id = 1; UPDATE t SET body = 'short' WHERE id = 20",
    }
    toast_of_a_key_deleted_and_inserted_again_is_the_new_one {
        both: TABLE, rows: ROWS,
        changes: "BEGIN; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 5, public.big(77), NULL);
                  UPDATE t SET n = 6 WHERE id = 1; COMMIT",
    }
    toast_under_full_identity_is_kept {
        both: "CREATE TABLE t (id int PRIMARY KEY, n int, body text); ALTER TABLE t REPLICA IDENTITY FULL",
        rows: "INSERT INTO t SELECT i, 0, public.big(i) FROM generate_series(1, 3) i",
        changes: "UPDATE t SET n = 1; UPDATE t SET id = 9 WHERE id = 3; DELETE FROM t WHERE id = 1",
    }
    toast_without_a_key_is_kept {
        both: "CREATE TABLE t (n int, body text); ALTER TABLE t REPLICA IDENTITY FULL",
        rows: "INSERT INTO t SELECT 1, public.big(i % 2) FROM generate_series(1, 6) i",
        changes: "UPDATE t SET n = 2 WHERE ctid = (SELECT min(ctid) FROM t);
                  DELETE FROM t WHERE ctid = (SELECT max(ctid) FROM t)",
    }
    toast_as_part_of_the_key_is_sent {
        both: "CREATE TABLE t (id text PRIMARY KEY, n int)",
        rows: "INSERT INTO t SELECT left(public.big(i), 2500), 0 FROM generate_series(1, 3) i",
        changes: "UPDATE t SET n = 1; UPDATE t SET id = 'short' WHERE id LIKE left(public.big(1), 20) || '%';
                  DELETE FROM t WHERE id LIKE left(public.big(2), 20) || '%'",
    }
}
