//! Foreign keys, cascades and triggers.

const FAMILY: &str = "CREATE TABLE parent (id int PRIMARY KEY, n int);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)";

super::cases! {
    parents_and_children_come_and_go_in_one_batch {
        both: "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL REFERENCES a);
               CREATE TABLE c (id int PRIMARY KEY, b int NOT NULL REFERENCES b)",
        rows: "INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1); INSERT INTO c VALUES (1, 1)",
        changes: "INSERT INTO a VALUES (2); INSERT INTO b VALUES (2, 2); INSERT INTO c VALUES (2, 2);
                  DELETE FROM c WHERE id = 1; DELETE FROM b WHERE id = 1; DELETE FROM a WHERE id = 1;
                  BEGIN; INSERT INTO a VALUES (1); INSERT INTO b VALUES (1, 1); DELETE FROM c; UPDATE b SET a = 1;
                  DELETE FROM a WHERE id = 2; COMMIT",
    }
    a_child_may_come_before_its_parent_under_a_deferred_constraint {
        both: "CREATE TABLE parent (id int PRIMARY KEY);
               CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        changes: "BEGIN; INSERT INTO child VALUES (1, 1), (2, 2); INSERT INTO parent VALUES (1), (2); COMMIT;
                  BEGIN; DELETE FROM parent WHERE id = 1; DELETE FROM child WHERE parent = 1; COMMIT",
    }
    mutual_references_arrive {
        both: MUTUAL,
        changes: "BEGIN; INSERT INTO a VALUES (1, 1); INSERT INTO b VALUES (1, 1); COMMIT;
                  BEGIN; INSERT INTO b VALUES (2, 2); INSERT INTO a VALUES (2, 2); COMMIT;
                  BEGIN; DELETE FROM a WHERE id = 1; DELETE FROM b WHERE id = 1; COMMIT",
    }
    self_references_arrive {
        both: "CREATE TABLE t (id int PRIMARY KEY, boss int REFERENCES t)",
        rows: "INSERT INTO t VALUES (1, NULL), (2, 1), (3, 2)",
        changes: "INSERT INTO t VALUES (10, 3); INSERT INTO t VALUES (5, 10); UPDATE t SET boss = 5 WHERE id = 2;
                  BEGIN; UPDATE t SET boss = 1 WHERE id IN (2, 5); DELETE FROM t WHERE id = 10; COMMIT;
                  INSERT INTO t VALUES (11, 11)",
    }
    a_child_moved_away_survives_the_cascade_of_its_old_parent {
        both: FAMILY,
        rows: "INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1), (2, 1), (3, 2)",
        changes: "BEGIN; UPDATE child SET parent = 2 WHERE id = 1; DELETE FROM parent WHERE id = 1; COMMIT",
    }
    a_child_moved_and_its_old_parent_deleted_later_survives {
        both: FAMILY,
        rows: "INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1, 1), (2, 1)",
        changes: "UPDATE child SET parent = 2 WHERE id = 1; DELETE FROM parent WHERE id = 1;
                  INSERT INTO parent VALUES (1, 5);
                  INSERT INTO child VALUES (7, 1); UPDATE parent SET id = 8 WHERE id = 1",
    }
    a_trigger_at_the_target_adds_no_row {
        both: "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE audit (id int)",
        target: "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN INSERT INTO a_trigger_at_the_target_adds_no_row.audit VALUES (NEW.id); NEW.n := -1;
                 RETURN NEW; END $$;
                 CREATE TRIGGER note BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()",
        source: "ALTER TABLE audit REPLICA IDENTITY FULL",
        rows: "INSERT INTO t VALUES (1, 1)",
        changes: "INSERT INTO t VALUES (2, 2); UPDATE t SET n = 3 WHERE id = 1",
    }
    a_table_emptied_between_inserts_holds_only_the_later_ones {
        both: "CREATE TABLE t (id int PRIMARY KEY, n int)",
        rows: "INSERT INTO t VALUES (1, 1), (2, 2)",
        changes: "INSERT INTO t VALUES (3, 3); TRUNCATE t; INSERT INTO t VALUES (3, 4), (1, 5);
                  BEGIN; INSERT INTO t VALUES (7, 7); UPDATE t SET n = 0; TRUNCATE t; INSERT INTO t VALUES (7, 8);
                  COMMIT",
    }
    tables_emptied_together_stay_consistent {
        both: "CREATE TABLE parent (id int PRIMARY KEY);
               CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent)",
        rows: "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (1, 1)",
        changes: "INSERT INTO parent VALUES (2); TRUNCATE parent CASCADE; INSERT INTO parent VALUES (5);
                  INSERT INTO child VALUES (5, 5);
                  TRUNCATE child; INSERT INTO child VALUES (6, 5)",
    }
}

const MUTUAL: &str =
    "CREATE TABLE a (id int PRIMARY KEY, b int NOT NULL); CREATE TABLE b (id int PRIMARY KEY, a int NOT NULL);
    ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b DEFERRABLE INITIALLY DEFERRED;
    ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a DEFERRABLE INITIALLY DEFERRED";
