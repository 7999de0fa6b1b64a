//! The copy with fewer rights, and with tables around it that are none of its business.

use tidegate_connect::Settings;
use tidegate_pipeline::copy::CopyEnd;

use crate::bench::{Bench, server};

const FAMILY: &str = "
    CREATE TABLE parent (id int PRIMARY KEY);
    CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent (id) ON DELETE CASCADE)";
const FAMILY_ROWS: &str = "
    INSERT INTO parent SELECT generate_series(1, 4000);
    INSERT INTO child SELECT g, g FROM generate_series(1, 4000) g";

/// Lets a role without any attribute do the target's side. It owns the tables, or may only write to them.
async fn with_plain_role(bench: &mut Bench, owns: bool) {
    let role = format!("plain_{}", bench.name);
    let tables = if owns {
        format!(
            "DO $$ DECLARE t text; BEGIN FOR t IN SELECT oid::regclass FROM pg_class \
                WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') LOOP \
                EXECUTE 'ALTER TABLE ' || t || ' OWNER TO {role}'; END LOOP; END $$; \
             GRANT CREATE ON SCHEMA public TO {role}"
        )
    } else {
        format!("GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    };
    let sql = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'p'; {tables}; GRANT USAGE ON SCHEMA tidegate TO {role}; \
         GRANT ALL ON ALL TABLES IN SCHEMA tidegate TO {role}"
    );
    bench.target_session.batch_execute(&sql).await.unwrap();
    bench.target = Settings::parse(&server().url_as(&role, "p", bench.target.database())).unwrap();
}

#[tokio::test]
async fn an_owner_without_more_rights_can_load_and_get_foreign_keys_back() {
    let schema = format!(
        "{FAMILY}; CREATE TABLE root (id int, p int REFERENCES parent (id)) PARTITION BY RANGE (id); \
         CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (10000)"
    );
    let rows = format!("{FAMILY_ROWS}; INSERT INTO leaf SELECT g, g FROM generate_series(1, 1000) g");
    let mut bench = Bench::new(&schema, &rows).await;
    with_plain_role(&mut bench, true).await;
    bench.indexes_kept_below_bytes = 0;
    let keys = "SELECT string_agg(conrelid::regclass || ' ' || conname || ' ' || convalidated, ', ' ORDER BY 1) \
                FROM (SELECT * FROM pg_constraint ORDER BY conrelid::regclass::text, conname) c \
                WHERE contype IN ('f', 'p')";
    let before: String = bench.ask(keys).await;
    let held = bench.hold_target("parent", "NEW.id > 2000").await;
    let running = bench.start().await;
    bench.until_state("child", "copied").await;
    running.stop.cancel();
    assert_eq!(running.end().await.unwrap(), CopyEnd::Stopped);
    drop(held);
    // The parent is emptied and loaded again while the child has rows.
    bench.start_with(None).await.end().await.unwrap();
    bench.target().restore_foreign_keys().await.unwrap();
    for table in ["parent", "child", "leaf"] {
        bench.assert_equal(table).await;
    }
    assert_eq!(bench.ask::<String>(keys).await, before);
}

#[tokio::test]
async fn foreign_keys_that_can_neither_go_nor_be_switched_off_are_refused_with_the_ddl() {
    let mut bench = Bench::new(FAMILY, FAMILY_ROWS).await;
    with_plain_role(&mut bench, false).await;
    let problem = bench.run().await.unwrap_err();
    assert_eq!(problem.code, "CP007");
    assert!(problem.next.contains("ALTER TABLE \"public\".\"child\" DROP CONSTRAINT \"child_p_fkey\""), "{problem}");
    assert_eq!(bench.ask::<i64>("SELECT count(*) FROM public.parent").await, 0, "nothing was written");
}

#[tokio::test]
async fn rows_of_tables_outside_survive_that_a_table_they_refer_to_is_emptied() {
    let bench =
        Bench::new("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t SELECT generate_series(1, 5000)").await;
    let outside = "CREATE SCHEMA outside; \
                   CREATE TABLE outside.note (t int REFERENCES public.t (id) ON DELETE CASCADE)";
    bench.target_session.batch_execute(outside).await.unwrap();
    let held = bench.hold_target("t", "NEW.id > 2500").await;
    let running = bench.start().await;
    bench.until_chunks("t", 1).await;
    bench.target_session.batch_execute("INSERT INTO outside.note SELECT min(id) FROM public.t").await.unwrap();
    running.stop.cancel();
    running.end().await.unwrap();
    drop(held);
    bench.start_with(None).await.end().await.unwrap();
    bench.assert_equal("t").await;
    assert_eq!((bench.copies("t").await, bench.ask::<i64>("SELECT count(*) FROM outside.note").await), (2, 1));
}
