//! Keys and unique values that move.

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, n int)";
const CODED: &str = "CREATE TABLE t (id int PRIMARY KEY, code text UNIQUE, n int DEFAULT 0)";

super::cases! {
    all_keys_plus_one_over_a_thousand_rows {
        both: TABLE,
        rows: "INSERT INTO t SELECT i, i FROM generate_series(1000, 1, -1) i",
        changes: "UPDATE t SET id = id + 1",
    }
    two_keys_swapped {
        both: TABLE, rows: "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
        changes: "BEGIN; UPDATE t SET id = 0 WHERE id = 1; UPDATE t SET id = 1 WHERE id = 2;
                  UPDATE t SET id = 2 WHERE id = 0; COMMIT",
    }
    two_unique_values_swapped {
        both: CODED, rows: "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')",
        changes: "BEGIN; UPDATE t SET code = '-' WHERE id = 1; UPDATE t SET code = 'a' WHERE id = 2;
                  UPDATE t SET code = 'b' WHERE id = 1; COMMIT",
    }
    three_unique_values_in_a_circle {
        both: CODED, rows: "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd')",
        changes: "BEGIN; UPDATE t SET code = '-' WHERE id = 1; UPDATE t SET code = 'a' WHERE id = 3;
                  UPDATE t SET code = 'c' WHERE id = 2; UPDATE t SET code = 'b' WHERE id = 1; COMMIT",
    }
    deleted_inserted_and_updated_in_one_transaction {
        both: TABLE, rows: "INSERT INTO t VALUES (1, 1)",
        changes: "BEGIN; DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 2); UPDATE t SET n = 3; COMMIT;
                  BEGIN; DELETE FROM t; INSERT INTO t VALUES (1, 4); DELETE FROM t; INSERT INTO t VALUES (1, 5);
                  COMMIT",
    }
    a_unique_value_freed_by_an_update_is_taken_by_another_key_next {
        both: CODED, rows: "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        changes: "UPDATE t SET code = 'z' WHERE id = 1; UPDATE t SET code = 'a' WHERE id = 2;
                  INSERT INTO t VALUES (3, 'b')",
    }
    a_unique_value_freed_by_a_delete_is_taken_by_another_key_next {
        both: CODED, rows: "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        changes: "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (9, 'a'); DELETE FROM t WHERE id = 9;
                  UPDATE t SET code = 'a' WHERE id = 2",
    }
    a_unique_value_wanders_through_lower_and_higher_keys {
        both: CODED, rows: "INSERT INTO t SELECT i, 'c' || i FROM generate_series(1, 20) i",
        changes: "BEGIN; DELETE FROM t WHERE id = 20; UPDATE t SET code = 'c20' WHERE id = 1; COMMIT;
                  UPDATE t SET code = 'c1' WHERE id = 19; UPDATE t SET code = 'c19' WHERE id = 2;
                  INSERT INTO t VALUES (0, 'c2'), (30, 'new')",
    }
    a_partial_and_an_expression_index_are_unique_too {
        both: "CREATE TABLE t (id int PRIMARY KEY, name text, live bool);
               CREATE UNIQUE INDEX ON t (lower(name)) WHERE live",
        rows: "INSERT INTO t VALUES (1, 'Ann', true), (2, 'ann', false), (3, 'Bob', true)",
        changes: "BEGIN; UPDATE t SET live = false WHERE id = 1; UPDATE t SET live = true WHERE id = 2; COMMIT;
                  UPDATE t SET name = 'ANN' WHERE id = 3 AND false; UPDATE t SET name = 'x' WHERE id = 2;
                  UPDATE t SET name = 'aNN' WHERE id = 3",
    }
    a_key_moves_to_one_deleted_before_it {
        both: TABLE, rows: "INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)",
        changes: "BEGIN; DELETE FROM t WHERE id = 2; UPDATE t SET id = 2 WHERE id = 1; INSERT INTO t VALUES (1, 9);
                  COMMIT;
                  UPDATE t SET id = 4 WHERE id = 3; UPDATE t SET id = 3 WHERE id = 2; UPDATE t SET id = 2 WHERE id = 1",
    }
    a_row_inserted_and_deleted_in_one_batch_leaves_nothing {
        both: TABLE,
        changes: "BEGIN; INSERT INTO t VALUES (1, 1); UPDATE t SET id = 2; DELETE FROM t; COMMIT;
                  INSERT INTO t VALUES (3, 3); DELETE FROM t WHERE id = 3",
    }
    a_row_moved_away_and_back_is_the_same_row {
        both: TABLE, rows: "INSERT INTO t VALUES (1, 1), (5, 5)",
        changes: "BEGIN; UPDATE t SET id = 2 WHERE id = 1; UPDATE t SET n = 7 WHERE id = 2;
                  UPDATE t SET id = 1 WHERE id = 2; COMMIT; UPDATE t SET id = 6 WHERE id = 5;
                  UPDATE t SET id = 5 WHERE id = 6",
    }
    keys_of_several_columns_move {
        both: "CREATE TABLE t (a int, b text, n int, PRIMARY KEY (b, a))",
        rows: "INSERT INTO t SELECT i, 'k' || i, i FROM generate_series(1, 10) i",
        changes: "UPDATE t SET b = 'k2', a = 3 WHERE a = 1; UPDATE t SET n = 0 WHERE b = 'k2';
                  DELETE FROM t WHERE a > 8;
                  BEGIN; UPDATE t SET a = 99 WHERE a = 4; UPDATE t SET a = 4 WHERE a = 5;
                  UPDATE t SET a = 5 WHERE a = 99; COMMIT",
    }
    a_table_that_is_all_key_moves {
        both: "CREATE TABLE t (a int, b int, PRIMARY KEY (a, b))",
        rows: "INSERT INTO t VALUES (1, 1), (2, 2)",
        changes: "UPDATE t SET b = 5 WHERE a = 1; DELETE FROM t WHERE a = 2; INSERT INTO t VALUES (2, 3);
                  UPDATE t SET a = a",
    }
    a_chosen_index_identifies_rows {
        both: "CREATE TABLE t (id int PRIMARY KEY, mail text NOT NULL, n int);
               CREATE UNIQUE INDEX t_mail ON t (mail); ALTER TABLE t REPLICA IDENTITY USING INDEX t_mail",
        rows: "INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",
        changes: "UPDATE t SET n = 9 WHERE id = 1; UPDATE t SET mail = 'z' WHERE id = 2;
                  UPDATE t SET id = 30 WHERE id = 3;
                  DELETE FROM t WHERE id = 1",
    }
    rows_without_a_key_are_counted {
        both: "CREATE TABLE t (a int, b text); ALTER TABLE t REPLICA IDENTITY FULL",
        rows: "INSERT INTO t SELECT 1, 'same' FROM generate_series(1, 6);
               INSERT INTO t VALUES (NULL, NULL), (NULL, NULL), (2, NULL)",
        changes: "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 1);
                  UPDATE t SET b = 'other' WHERE ctid = (SELECT max(ctid) FROM t WHERE a = 1);
                  DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a IS NULL);
                  BEGIN; INSERT INTO t VALUES (1, 'same'), (1, 'same'); UPDATE t SET a = 3 WHERE b = 'same';
                  DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 3); COMMIT;
                  UPDATE t SET b = NULL WHERE a = 2",
    }
    rows_without_a_key_may_hold_types_without_equality {
        both: "CREATE TABLE t (a int, j json, p point); ALTER TABLE t REPLICA IDENTITY FULL",
        rows: "INSERT INTO t SELECT 1, '{\"a\": 1}', '(1,2)' FROM generate_series(1, 3);
               INSERT INTO t VALUES (2, NULL, NULL)",
        changes: "DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t); UPDATE t SET j = '[]' WHERE a = 2;
                  UPDATE t SET p = '(3,4)' WHERE ctid = (SELECT min(ctid) FROM t WHERE a = 1)",
    }
    updates_that_change_nothing_are_harmless {
        both: TABLE, rows: "INSERT INTO t VALUES (1, 1)",
        changes: "UPDATE t SET n = n; UPDATE t SET id = id",
    }
    columns_updated_one_by_one_all_arrive {
        both: "CREATE TABLE t (id int PRIMARY KEY, a int, b text, c int)",
        rows: "INSERT INTO t SELECT i, 0, 'b', 0 FROM generate_series(1, 20) i",
        changes: "BEGIN; UPDATE t SET a = 1; UPDATE t SET b = 'bb' WHERE id % 2 = 0;
                  UPDATE t SET c = 2 WHERE id % 3 = 0;
                  UPDATE t SET a = NULL WHERE id = 6; COMMIT",
    }
}
