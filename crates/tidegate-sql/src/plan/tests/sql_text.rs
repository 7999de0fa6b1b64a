//! The SQL text of every shape of statement, in both dialects.

use tidegate_model::{Change, TableRoute};

use super::fixture::{Changing, at, route, with_full_identity};
use super::{REPLICA, on_cockroach, on_postgres, plan};
use crate::plan::Planner;

fn texts(
    planner: impl FnOnce(Vec<TableRoute>) -> Planner,
    columns: &[&str],
    key: &[usize],
    changes: impl FnOnce(&Changing) -> Vec<Change>,
) -> String {
    let mut mapped = route(1, "Order \"Items\"", columns, key);
    mapped.map.target.schema = "Shop".into();
    mapped.map.columns[0].target = "Id".into();
    let t = Changing::new(&mapped);
    let plan = plan(&mut planner(vec![mapped]), changes(&t));
    plan.statements.iter().map(|statement| &*statement.sql).collect::<Vec<_>>().join("\n")
}

macro_rules! assert_text {
    ($name:expr, $text:expr) => {
        insta::with_settings!({
            snapshot_path => "../snapshots",
            prepend_module_to_snapshot => false,
            omit_expression => true
        }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

/// Asserts both texts: snapshots `postgres_<name>` and `cockroach_<name>`.
macro_rules! assert_sql {
    ($name:literal, $columns:expr, $key:expr, $changes:expr) => {
        let postgres = |routes| on_postgres(routes, REPLICA);
        assert_text!(concat!("postgres_", $name), texts(postgres, $columns, $key, $changes));
        assert_text!(concat!("cockroach_", $name), texts(on_cockroach, $columns, $key, $changes));
    };
}

const KEYED: &[&str] = &["id bigint", "state public.state", "big text"];
const COMPOUND: &[&str] = &["id bigint", "line integer", "big text"];
const KEYLESS: &[&str] = &["id bigint", "price numeric", "data json"];

#[test]
fn insert() {
    assert_sql!("insert", KEYED, &[0], |t| vec![t.insert("1 a b")]);
}

#[test]
fn delete() {
    assert_sql!("delete", COMPOUND, &[0, 1], |t| vec![t.delete("1 2 -")]);
}

#[test]
fn update() {
    assert_sql!("update_full", KEYED, &[0], |t| vec![t.update("1 a b")]);
    assert_sql!("update_partial", KEYED, &[0], |t| vec![t.update("1 a ~")]);
    assert_sql!("update_nothing", KEYED, &[0], |t| vec![t.update("1 ~ ~")]);
}

#[test]
fn update_of_the_key() {
    assert_sql!("rekey", COMPOUND, &[0, 1], |t| vec![t.rekey("1 2 -", "1 3 ~")]);
    let swap = |t: &Changing| vec![t.rekey("1 2 -", "1 9 ~"), t.rekey("1 3 -", "1 2 ~"), t.rekey("1 9 -", "1 3 ~")];
    assert_sql!("rotate", COMPOUND, &[0, 1], swap);
}

#[test]
fn without_a_key() {
    assert_sql!("keyless_insert", KEYLESS, &[], |t| vec![t.insert("1 2 -")]);
    assert_sql!("keyless_delete", KEYLESS, &[], |t| vec![t.delete("1 2 {}")]);
    assert_sql!("keyless_delete_with_null", KEYLESS, &[], |t| vec![t.delete("1 - {}")]);
    assert_sql!("keyless_update", KEYLESS, &[], |t| vec![t.rekey("1 2 {}", "1 3 ~")]);
    assert_sql!("keyless_update_nothing", KEYLESS, &[], |t| vec![t.rekey("1 2 {}", "~ ~ ~")]);
}

#[test]
fn where_two_rows_may_hold_one_key() {
    let items = with_full_identity(route(1, "items", KEYLESS, &[0]));
    let t = Changing::new(&items);
    let mut planner = on_postgres(vec![items], REPLICA);
    let changes = [t.rekey("1 2 {}", "3 2 ~"), t.rekey("1 2 {}", "1 - ~"), t.delete("1 - {}")];
    let mut text = |change| planner.single(&at(1), change).unwrap().unwrap().statements[0].sql.to_string();
    let texts = changes.iter().map(&mut text).collect::<Vec<_>>().join("\n");
    assert_text!("postgres_shared_key", texts);
}

#[test]
fn truncate() {
    assert_sql!("truncate", KEYED, &[0], |t| vec![t.truncate()]);
}

#[test]
fn in_a_circle_of_references() {
    let mut company = route(1, "company", &["id bigint", "head bigint"], &[0]);
    let mut person = route(2, "person", &["id bigint", "company bigint"], &[0]);
    company.map.references = vec![person.map.target.clone()];
    person.map.references = vec![company.map.target.clone()];
    let (c, p) = (Changing::new(&company), Changing::new(&person));
    let routes = vec![company, person];
    let changes = || vec![c.insert("1 1"), p.insert("1 1"), c.delete("2 -"), p.delete("2 -")];
    let text = |mut planner: Planner| {
        let plan = plan(&mut planner, changes());
        plan.statements.iter().map(|statement| &*statement.sql).collect::<Vec<_>>().join("\n")
    };
    assert_text!("postgres_circle", text(on_postgres(routes.clone(), super::ENFORCED)));
    assert_text!("cockroach_circle", text(on_cockroach(routes)));
}

#[test]
fn rows_that_exchange_values() {
    let items = route(1, "items", &["id bigint", "name text", "data jsonb"], &[0]);
    let t = Changing::new(&items);
    let mut changes = [t.update("1 a {}"), t.update("2 b {}")].into_iter().map(|change| Ok((at(1), change)));
    let plan = on_postgres(vec![items], REPLICA).replacing(&mut changes).unwrap().unwrap();
    let text = plan.statements.iter().map(|statement| &*statement.sql).collect::<Vec<_>>().join("\n");
    assert_text!("postgres_out_and_back", text);
}

#[test]
fn casts() {
    let columns = [
        "id integer",
        "code bpchar",
        "bits bit varying",
        "raw json",
        "tags text[]",
        "numbers integer[]",
        "blob bytea",
        "at timestamp with time zone",
        "state public.state",
        "took interval",
    ];
    assert_sql!("casts", &columns, &[0], |t| vec![t.insert("1 a 0 {} {} {} x now s x")]);
}
