//! The SQL text of every shape of statement.

use super::fixture::{Changing, at, route, with_full_identity};
use super::{REPLICA, plan};
use crate::plan::Planner;

fn texts(columns: &[&str], key: &[usize], changes: impl FnOnce(&Changing) -> Vec<tidegate_model::Change>) -> String {
    let mut mapped = route(1, "Order \"Items\"", columns, key);
    mapped.map.target.schema = "Shop".into();
    mapped.map.columns[0].target = "Id".into();
    let t = Changing::new(&mapped);
    let plan = plan(&mut Planner::new(vec![mapped], REPLICA), changes(&t));
    plan.statements.iter().map(|statement| &*statement.sql).collect::<Vec<_>>().join("\n")
}

macro_rules! assert_text {
    ($name:literal, $text:expr) => {
        insta::with_settings!({
            snapshot_path => "../snapshots",
            prepend_module_to_snapshot => false,
            omit_expression => true
        }, {
            insta::assert_snapshot!($name, $text);
        });
    };
}

macro_rules! assert_sql {
    ($name:literal, $columns:expr, $key:expr, $changes:expr) => {
        assert_text!($name, texts($columns, $key, $changes))
    };
}

const KEYED: &[&str] = &["id bigint", "state public.state", "big text"];
const COMPOUND: &[&str] = &["id bigint", "line integer", "big text"];
const KEYLESS: &[&str] = &["id bigint", "price numeric", "data json"];

#[test]
fn insert() {
    assert_sql!("postgres_insert", KEYED, &[0], |t| vec![t.insert("1 a b")]);
}

#[test]
fn delete() {
    assert_sql!("postgres_delete", COMPOUND, &[0, 1], |t| vec![t.delete("1 2 -")]);
}

#[test]
fn update() {
    assert_sql!("postgres_update_full", KEYED, &[0], |t| vec![t.update("1 a b")]);
    assert_sql!("postgres_update_partial", KEYED, &[0], |t| vec![t.update("1 a ~")]);
    assert_sql!("postgres_update_nothing", KEYED, &[0], |t| vec![t.update("1 ~ ~")]);
}

#[test]
fn update_of_the_key() {
    assert_sql!("postgres_rekey", COMPOUND, &[0, 1], |t| vec![t.rekey("1 2 -", "1 3 ~")]);
    let swap = |t: &Changing| vec![t.rekey("1 2 -", "1 9 ~"), t.rekey("1 3 -", "1 2 ~"), t.rekey("1 9 -", "1 3 ~")];
    assert_sql!("postgres_rotate", COMPOUND, &[0, 1], swap);
}

#[test]
fn without_a_key() {
    assert_sql!("postgres_keyless_insert", KEYLESS, &[], |t| vec![t.insert("1 2 -")]);
    assert_sql!("postgres_keyless_delete", KEYLESS, &[], |t| vec![t.delete("1 2 {}")]);
    assert_sql!("postgres_keyless_delete_with_null", KEYLESS, &[], |t| vec![t.delete("1 - {}")]);
    assert_sql!("postgres_keyless_update", KEYLESS, &[], |t| vec![t.rekey("1 2 {}", "1 3 ~")]);
    assert_sql!("postgres_keyless_update_nothing", KEYLESS, &[], |t| vec![t.rekey("1 2 {}", "~ ~ ~")]);
}

#[test]
fn where_two_rows_may_hold_one_key() {
    let items = with_full_identity(route(1, "items", KEYLESS, &[0]));
    let t = Changing::new(&items);
    let mut planner = Planner::new(vec![items], REPLICA);
    let changes = [t.rekey("1 2 {}", "3 2 ~"), t.rekey("1 2 {}", "1 - ~"), t.delete("1 - {}")];
    let mut text = |change| planner.single(&at(1), change).unwrap().unwrap().statements[0].sql.to_string();
    let texts = changes.iter().map(&mut text).collect::<Vec<_>>().join("\n");
    assert_text!("postgres_shared_key", texts);
}

#[test]
fn truncate() {
    assert_sql!("postgres_truncate", KEYED, &[0], |t| vec![t.truncate()]);
}
