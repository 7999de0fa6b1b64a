//! One test for each rule of folding and ordering.

use std::sync::Arc;

use tidegate_model::{Change, Class, TableName, Value};

use super::fixture::{Changing, at, route, row, with_full_identity};
use super::{ENFORCED, REPLICA, UNLIMITED, on_cockroach, on_postgres, plan};
use crate::plan::{Operation, Param, Plan, SliceLimit, TruncateAs, row_not_found};

/// What a plan does, one line for each statement: operation and, row by row, its array parameters.
fn told(plan: &Plan) -> Vec<String> {
    let cell = |value: Value<'_>| match value {
        Value::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        Value::Null => "-".to_owned(),
        _ => panic!("a cell without text was sent"),
    };
    plan.statements
        .iter()
        .map(|statement| {
            let columns: Vec<Vec<String>> = statement
                .params
                .iter()
                .filter_map(|param| match param {
                    Param::TextArray(array) => Some(array.values().map(cell).collect()),
                    Param::Text(text) => Some(vec![cell(text.value())]),
                    Param::Rows(_) => None,
                })
                .collect();
            let rows = columns.first().map_or(0, Vec::len);
            let line = |row: usize| columns.iter().map(|column| column[row].as_str()).collect::<Vec<_>>().join(" ");
            let lines: Vec<String> = (0..rows).map(line).collect();
            format!("{} {}: {}", statement.operation, statement.table.name, lines.join(", "))
        })
        .collect()
}

fn fold(changes: impl FnOnce(&Changing) -> Vec<Change>) -> Vec<String> {
    let items = route(1, "items", &["id integer", "a text", "b text"], &[0]);
    let source = Changing::new(&items);
    told(&plan(&mut on_postgres(vec![items], REPLICA), changes(&source)))
}

#[test]
fn insert_then_update_is_one_insert() {
    assert_eq!(fold(|t| vec![t.insert("1 a b"), t.update("1 c ~")]), ["insert items: 1 c b"]);
}

#[test]
fn insert_then_delete_is_nothing() {
    assert!(fold(|t| vec![t.insert("1 a b"), t.update("1 c ~"), t.delete("1 - -")]).is_empty());
}

#[test]
fn a_later_unchanged_column_keeps_the_older_known_value() {
    assert_eq!(fold(|t| vec![t.update("1 a b"), t.update("1 c ~")]), ["update items: 1 c b"]);
    assert_eq!(fold(|t| vec![t.update("1 a ~"), t.update("1 c ~")]), ["update items: 1 c"]);
    assert_eq!(fold(|t| vec![t.update("1 a ~"), t.update("1 ~ b"), t.update("1 ~ ~")]), ["update items: 1 a b"]);
    assert_eq!(fold(|t| vec![t.update("1 a b"), t.update("1 c -"), t.update("1 d ~")]), ["update items: 1 d -"]);
}

#[test]
fn update_then_delete_deletes_the_row_the_target_has() {
    assert_eq!(fold(|t| vec![t.rekey("1 - -", "2 a ~"), t.delete("2 - -")]), ["delete items: 1"]);
}

#[test]
fn delete_then_insert_of_one_key_is_a_full_update() {
    assert_eq!(fold(|t| vec![t.delete("1 - -"), t.insert("1 a b"), t.update("1 c ~")]), ["update items: 1 c b"]);
    assert_eq!(fold(|t| vec![t.delete("1 - -"), t.insert("1 a b"), t.delete("1 - -")]), ["delete items: 1"]);
}

#[test]
fn a_changed_key_stays_an_update_so_that_unsent_values_stay() {
    assert_eq!(fold(|t| vec![t.rekey("1 - -", "2 a ~")]), ["update items: 1 2 a"]);
}

#[test]
fn a_chain_of_keys_collapses() {
    let changes = |t: &Changing| vec![t.update("1 a ~"), t.rekey("1 - -", "2 ~ b"), t.rekey("2 - -", "3 ~ ~")];
    assert_eq!(fold(changes), ["update items: 1 3 a b"]);
    let back = |t: &Changing| vec![t.rekey("1 - -", "2 a ~"), t.rekey("2 - -", "1 a ~")];
    assert_eq!(fold(back), ["update items: 1 a"]);
    let new = |t: &Changing| vec![t.insert("1 a b"), t.rekey("1 - -", "2 c ~")];
    assert_eq!(fold(new), ["insert items: 2 c b"]);
}

#[test]
fn a_key_is_free_before_it_is_taken() {
    let onto_deleted = |t: &Changing| vec![t.delete("2 - -"), t.rekey("1 - -", "2 a ~")];
    assert_eq!(fold(onto_deleted), ["delete items: 2", "update items: 1 2 a"]);
    let left_then_inserted = |t: &Changing| vec![t.rekey("1 - -", "2 a ~"), t.insert("1 c d")];
    assert_eq!(fold(left_then_inserted), ["update items: 1 2 a", "insert items: 1 c d"]);
    let all = |t: &Changing| vec![t.rekey("1 - -", "2 a ~"), t.insert("1 c d"), t.delete("2 - -")];
    assert_eq!(fold(all), ["delete items: 1", "insert items: 1 c d"]);
}

#[test]
fn keys_that_follow_each_other_move_level_by_level() {
    let shifted = fold(|t| (1..=3).rev().map(|id| t.rekey(&format!("{id} - -"), &format!("{} ~ ~", id + 1))).collect());
    assert_eq!(shifted, ["update items: 3 4", "update items: 2 3", "update items: 1 2"]);
    let far = fold(|t| (1..=4).rev().map(|id| t.rekey(&format!("{id} - -"), &format!("{} ~ ~", id + 2))).collect());
    assert_eq!(far, ["update items: 4 6, 3 5", "update items: 2 4, 1 3"]);
}

#[test]
fn swapped_keys_are_rotated_at_once_and_keep_unsent_values() {
    let swap = |t: &Changing| {
        vec![t.rekey("1 - -", "9 a ~"), t.rekey("2 - -", "1 ~ ~"), t.rekey("9 - -", "2 ~ ~"), t.rekey("3 - -", "4 c ~")]
    };
    assert_eq!(fold(swap), ["update items: 1 2, 2 1", "update items: 3 4 c", "update items: 2 a"]);
}

#[test]
fn deferrable_keys_may_meet_inside_a_transaction() {
    let items = with_full_identity(route(1, "items", &["id integer", "a text"], &[0]));
    let t = Changing::new(&items);
    let mut planner = on_postgres(vec![items], REPLICA);
    let swap = vec![t.rekey("1 a", "2 a"), t.rekey("2 b", "1 b")];
    assert_eq!(told(&plan(&mut planner, swap)), ["update items: 1 2, 2 1", "update items: 2 a, 1 b"]);
    let shift = vec![t.rekey("1 a", "2 a"), t.rekey("2 b", "3 b"), t.rekey("2 a", "2 c")];
    assert_eq!(told(&plan(&mut planner, shift)), ["update items: 2 3 b", "update items: 1 2 c"]);
}

#[test]
fn where_keys_meet_a_row_known_in_full_is_told_from_one_known_in_part() {
    let items = with_full_identity(route(1, "items", &["id integer", "a text", "b text"], &[0]));
    let t = Changing::new(&items);
    let met = vec![t.rekey("2 a y", "1 a y"), t.rekey("1 - x", "1 a ~"), t.rekey("1 a y", "3 c y")];
    let told = told(&plan(&mut on_postgres(vec![items], REPLICA), met));
    assert_eq!(told, ["update items: 2 3 c y", "update items: 1 a"]);
}

#[test]
fn a_contradiction_is_left_to_the_server() {
    assert_eq!(fold(|t| vec![t.insert("1 a b"), t.insert("1 c d")]), ["insert items: 1 a b", "insert items: 1 c d"]);
    assert_eq!(fold(|t| vec![t.delete("1 - -"), t.update("1 c d")]), ["delete items: 1", "update items: 1 c d"]);
    assert_eq!(fold(|t| vec![t.delete("1 - -"), t.delete("1 - -")]), ["delete items: 1", "delete items: 1"]);
    assert_eq!(
        fold(|t| vec![t.insert("1 a b"), t.rekey("2 - -", "1 ~ ~")]),
        ["insert items: 1 a b", "update items: 2 1"]
    );
}

#[test]
fn updates_are_grouped_by_the_columns_they_bring() {
    let changes = |t: &Changing| vec![t.update("1 a ~"), t.update("2 a b"), t.update("3 c ~"), t.update("4 ~ ~")];
    assert_eq!(fold(changes), ["update items: 2 a b", "update items: 1 a, 3 c", "update items: 4"]);
}

#[test]
fn a_long_key_that_is_not_sent_again_comes_from_the_old_row() {
    let wide = route(1, "wide", &["id integer", "name text", "a text"], &[0, 1]);
    let t = Changing::new(&wide);
    let changes = vec![t.rekey("1 long -", "2 ~ a")];
    assert_eq!(told(&plan(&mut on_postgres(vec![wide], REPLICA), changes)), ["update wide: 1 long 2 long a"]);
}

#[test]
fn truncate_separates_what_was_before_from_what_comes_after() {
    let changes = |t: &Changing| vec![t.insert("1 a b"), t.truncate(), t.insert("1 c d")];
    assert_eq!(fold(changes), ["insert items: 1 a b", "truncate items: ", "insert items: 1 c d"]);
}

#[test]
fn tables_truncated_together_go_in_one_statement_unless_others_need_them() {
    let parent = route(1, "parent", &["id integer"], &[0]);
    let mut child = route(2, "child", &["id integer"], &[0]);
    child.map.references = vec![parent.map.target.clone()];
    let (p, c) = (Changing::new(&parent), Changing::new(&child));
    let mut planner = on_postgres(vec![child, parent], REPLICA);
    let both = Change::Truncate { tables: vec![Arc::clone(&p.0), Arc::clone(&c.0)] };
    let texts = |plan: Plan| plan.statements.iter().map(|s| s.sql.to_string()).collect::<Vec<_>>();
    assert_eq!(texts(plan(&mut planner, vec![both])), [r#"TRUNCATE ONLY "public"."child", ONLY "public"."parent""#]);
    assert_eq!(texts(plan(&mut planner, vec![p.truncate()])), [r#"DELETE FROM ONLY "public"."parent""#]);
}

#[test]
fn parents_come_before_children_and_go_after_them() {
    let parent = route(1, "parent", &["id integer"], &[0]);
    let mut child = route(2, "child", &["id integer", "parent integer"], &[0]);
    child.map.references = vec![parent.map.target.clone(), child.map.target.clone()];
    let (p, c) = (Changing::new(&parent), Changing::new(&child));
    let changes = || vec![c.insert("1 7"), p.insert("7"), c.update("2 7"), p.delete("6"), c.delete("3 -")];
    let enforced = told(&plan(&mut on_postgres(vec![child.clone(), parent.clone()], ENFORCED), changes()));
    let order = ["insert parent: 7", "insert child: 1 7", "update child: 2 7", "delete child: 3", "delete parent: 6"];
    assert_eq!(enforced, order);
    let replica = told(&plan(&mut on_postgres(vec![child, parent], REPLICA), changes()));
    let order = ["delete parent: 6", "insert parent: 7", "delete child: 3", "update child: 2 7", "insert child: 1 7"];
    assert_eq!(replica, order);
}

#[test]
fn where_deletes_come_last_a_key_is_not_taken_again_in_one_stretch() {
    let mut items = route(1, "items", &["id integer", "a text", "b text"], &[0]);
    items.map.references = vec![items.map.target.clone()];
    let t = Changing::new(&items);
    let mut planner = on_postgres(vec![items], ENFORCED);
    let changes = vec![t.delete("2 - -"), t.rekey("1 - -", "2 a ~"), t.insert("1 c d")];
    assert_eq!(told(&plan(&mut planner, changes)), ["delete items: 2", "update items: 1 2 a", "insert items: 1 c d"]);
    let swap = vec![t.rekey("1 - -", "9 a ~"), t.rekey("2 - -", "1 ~ ~"), t.rekey("9 - -", "2 ~ ~")];
    assert_eq!(told(&plan(&mut planner, swap)), ["update items: 1 9 a", "update items: 2 1", "update items: 9 2"]);
    let again = vec![t.delete("1 - -"), t.insert("1 a b")];
    assert_eq!(told(&plan(&mut planner, again)), ["update items: 1 a b"]);
}

#[test]
fn rows_that_nothing_references_free_their_values_before_others_take_them() {
    let items = route(1, "items", &["id integer", "name text"], &[0]);
    let t = Changing::new(&items);
    let changes = || vec![t.insert("3 a"), t.update("1 b"), t.delete("2 -")];
    let order = ["delete items: 2", "update items: 1 b", "insert items: 3 a"];
    assert_eq!(told(&plan(&mut on_postgres(vec![items.clone()], ENFORCED), changes())), order);
    assert_eq!(told(&plan(&mut on_cockroach(vec![items.clone()]), changes())), order);
    let mut child = route(2, "child", &["id integer"], &[0]);
    child.map.references = vec![items.map.target.clone()];
    let order = ["insert items: 3 a", "update items: 1 b", "delete items: 2"];
    assert_eq!(told(&plan(&mut on_cockroach(vec![items, child]), changes())), order);
}

#[test]
fn tables_in_a_circle_of_references_are_written_at_once() {
    const NAMES: [&str; 4] = ["outside", "company", "person", "desk"];
    let mut tables = [1, 2, 3, 4].map(|id| route(id, NAMES[id as usize - 1], &["id integer"], &[0]));
    let name = |index: usize| TableName::new("public", NAMES[index]);
    tables[1].map.references = vec![name(2)];
    tables[2].map.references = vec![name(3), name(0)];
    tables[3].map.references = vec![name(1)];
    let [o, c, p, d] = [0, 1, 2, 3].map(|index| Changing::new(&tables[index]));
    for rights in [ENFORCED, REPLICA] {
        let mut planner = on_postgres(tables.to_vec(), rights);
        let changes = vec![c.insert("1"), p.insert("1"), d.insert("1"), o.insert("1"), p.delete("2"), c.delete("2")];
        let plan = plan(&mut planner, changes);
        let statements: Vec<_> = plan.statements.iter().map(|s| (s.operation, s.rows)).collect();
        if rights == ENFORCED {
            let order = [(Operation::Insert, 1), (Operation::Insert, 3), (Operation::Delete, 2)];
            assert_eq!(statements, order);
            assert_eq!(&*plan.statements[0].table.name, "outside");
        } else {
            assert_eq!(statements.len(), 6, "nothing is enforced, so nothing has to be together");
        }
    }
}

#[test]
fn statements_for_cockroach_are_small_unless_their_rows_belong_together() {
    let items = route(1, "items", &["id integer"], &[0]);
    let mut nodes = route(2, "nodes", &["id integer"], &[0]);
    nodes.map.references = vec![nodes.map.target.clone()];
    let (t, n) = (Changing::new(&items), Changing::new(&nodes));
    let mut planner = on_cockroach(vec![items, nodes]);
    let changes = |c: &Changing| (1..=2_500).map(|id| c.insert(&id.to_string())).collect();
    let sizes = |plan: Plan| plan.statements.iter().map(|statement| statement.rows).collect::<Vec<_>>();
    assert_eq!(sizes(plan(&mut planner, changes(&t))), [1_000, 1_000, 500]);
    assert_eq!(sizes(plan(&mut planner, changes(&n))), [2_500]);
    let wide = "x".repeat(3 << 20);
    let items = route(1, "items", &["id text"], &[0]);
    let t = Changing::new(&items);
    let large = (0..3).map(|id| t.insert(&format!("{id}{wide}"))).collect();
    assert_eq!(sizes(plan(&mut on_cockroach(vec![items]), large)), [1, 1, 1]);
}

#[test]
fn keys_never_move_in_circles_on_cockroach() {
    let items = route(1, "items", &["id integer", "a text", "b text"], &[0]);
    let t = Changing::new(&items);
    let swap = vec![t.rekey("1 - -", "9 a ~"), t.rekey("2 - -", "1 ~ ~"), t.rekey("9 - -", "2 ~ ~")];
    let told = told(&plan(&mut on_cockroach(vec![items]), swap));
    assert_eq!(told, ["update items: 1 9 a", "update items: 2 1", "update items: 9 2"]);
}

#[test]
fn rows_that_exchange_values_go_out_before_any_is_back() {
    let items = route(1, "items", &["id integer", "a text"], &[0]);
    let t = Changing::new(&items);
    let mut planner = on_postgres(vec![items.clone()], REPLICA);
    let mut changes = [t.insert("4 x"), t.update("1 b"), t.update("2 a"), t.delete("3 -")]
        .into_iter()
        .map(|change| Ok((at(1), change)));
    let plan = planner.replacing(&mut changes).unwrap().unwrap();
    let order = ["delete items: 3", "update items: 1 b, 2 a", "update items: 1 b, 2 a", "insert items: 4 x"];
    assert_eq!(told(&plan), order);
    assert!(on_cockroach(vec![items]).replacing(&mut std::iter::empty()).unwrap().is_none());
}

#[test]
fn where_truncate_is_a_delete_children_go_first() {
    let parent = route(1, "parent", &["id integer"], &[0]);
    let mut child = route(2, "child", &["id integer"], &[0]);
    child.map.references = vec![parent.map.target.clone()];
    let both = Change::Truncate { tables: vec![Changing::new(&parent).0, Changing::new(&child).0] };
    let mut planner = on_cockroach(vec![child, parent]).truncating_as(TruncateAs::Delete);
    let texts: Vec<_> = plan(&mut planner, vec![both]).statements.iter().map(|s| s.sql.to_string()).collect();
    let order = [r#"DELETE FROM "public"."child" WHERE true"#, r#"DELETE FROM "public"."parent" WHERE true"#];
    assert_eq!(texts, order);
}

#[test]
fn rows_without_a_key_are_changed_one_by_one_in_source_order() {
    let log = route(1, "log", &["a text", "b text"], &[]);
    let t = Changing::new(&log);
    let changes = vec![t.insert("x y"), t.insert("x y"), t.delete("x -"), t.rekey("x y", "z ~"), t.insert("v -")];
    let told = told(&plan(&mut on_postgres(vec![log], REPLICA), changes));
    assert_eq!(told, ["insert log: x y, x y", "delete log: x", "update log: x y z", "insert log: v -"]);
}

#[test]
fn changes_that_the_copy_has_seen_are_skipped() {
    let mut items = route(1, "items", &["id integer"], &[0]);
    items.from = at(10);
    let other = route(2, "other", &["id integer"], &[0]);
    let (t, o) = (Changing::new(&items), Changing::new(&other));
    let mut planner = on_postgres(vec![items, other], REPLICA);
    let both = Change::Truncate { tables: vec![Arc::clone(&t.0), Arc::clone(&o.0)] };
    let changes = [(at(9), t.insert("1")), (at(10), both), (at(10), t.insert("2")), (at(11), t.insert("3"))];
    let slice = planner.slice(&mut changes.into_iter().map(Ok), UNLIMITED).unwrap().unwrap();
    assert_eq!(told(&slice), ["truncate other: ", "insert items: 3"]);
    assert_eq!(slice.rows, 2);
    assert!(planner.single(&at(10), &t.insert("2")).unwrap().is_none());
    let skipped = planner.slice(&mut [Ok((at(9), t.insert("1")))].into_iter(), UNLIMITED).unwrap().unwrap();
    assert!(skipped.statements.is_empty(), "skipped changes are progress");
}

#[test]
fn a_table_that_changed_stops_at_its_position_and_not_before() {
    let mut items = route(1, "items", &["id integer", "a text"], &[0]);
    items.from = at(10);
    let mut altered = items.clone();
    altered.map.source.columns[1].type_oid = 23;
    let t = Changing::new(&altered);
    let mut planner = on_postgres(vec![items], REPLICA);
    assert!(planner.single(&at(10), &t.insert("1 2")).unwrap().is_none());
    let problem = planner.single(&at(11), &t.insert("1 2")).unwrap_err();
    assert_eq!((problem.code, problem.class), ("AP003", Class::Definite));
    assert!(problem.what.contains("column \"a\" has another type") && problem.what.contains("postgres:0/B"));
    assert_eq!(planner.single(&at(11), &t.truncate()).unwrap_err().code, "AP003");
}

#[test]
fn a_table_made_anew_before_its_copy_is_skipped_and_after_it_stops() {
    let mut items = route(2, "items", &["id integer"], &[0]);
    items.from = at(10);
    let t = Changing::new(&route(1, "items", &["id integer"], &[0]));
    let mut planner = on_postgres(vec![items], REPLICA);
    assert!(planner.single(&at(10), &t.insert("1")).unwrap().is_none());
    let problem = planner.single(&at(11), &t.insert("1")).unwrap_err();
    assert_eq!(problem.code, "AP003");
    assert!(problem.what.contains("dropped and created again"), "{problem}");
}

#[test]
fn an_unknown_table_is_a_definite_problem() {
    let t = Changing::new(&route(2, "other", &["id integer"], &[0]));
    let mut planner = on_postgres(vec![route(1, "items", &["id integer"], &[0])], REPLICA);
    assert_eq!(planner.single(&at(1), &t.insert("1")).unwrap_err().code, "AP002");
}

#[test]
fn binary_and_malformed_rows_are_bugs() {
    let items = route(1, "items", &["id integer", "a text"], &[0]);
    let t = Changing::new(&items);
    let mut planner = on_postgres(vec![items], REPLICA);
    let binary = [Value::Text(b"1"), Value::Binary(b"\0")].into_iter().collect();
    let binary = Change::Insert { table: Arc::clone(&t.0), new: binary };
    assert_eq!(planner.single(&at(1), &binary).unwrap_err().code, "AP004");
    for bad in [t.insert("1"), t.insert("- a"), t.insert("1 ~"), t.update("~ a"), t.delete("- -")] {
        let problem = planner.single(&at(1), &bad).unwrap_err();
        assert_eq!((problem.code, problem.class), ("AP005", Class::Bug));
    }
}

#[test]
fn a_slice_ends_at_its_limit_and_the_next_goes_on() {
    let items = route(1, "items", &["id integer"], &[0]);
    let t = Changing::new(&items);
    let mut planner = on_postgres(vec![items], REPLICA);
    let mut changes = (1..=5).map(|id| Ok((at(id), t.insert(&id.to_string()))));
    let limit = SliceLimit { changes: 2, ..UNLIMITED };
    let mut sizes = Vec::new();
    while let Some(plan) = planner.slice(&mut changes, limit).unwrap() {
        sizes.push(plan.rows);
    }
    assert_eq!(sizes, [2, 2, 1]);
    let tiny = SliceLimit { bytes: 1, ..UNLIMITED };
    let mut one = [Ok((at(9), t.insert("9")))].into_iter();
    assert_eq!(planner.slice(&mut one, tiny).unwrap().unwrap().rows, 1);
}

#[test]
fn a_failed_slice_leaves_nothing_behind() {
    let items = route(1, "items", &["id integer"], &[0]);
    let other = Changing::new(&route(2, "other", &["id integer"], &[0]));
    let t = Changing::new(&items);
    let mut planner = on_postgres(vec![items], REPLICA);
    let mut changes = [Ok((at(1), t.insert("1"))), Ok((at(2), other.insert("1")))].into_iter();
    assert!(planner.slice(&mut changes, UNLIMITED).is_err());
    assert_eq!(told(&plan(&mut planner, vec![t.insert("2")])), ["insert items: 2"]);
}

#[test]
fn one_change_names_its_row_for_people() {
    let items = route(1, "items", &["id integer", "a text", "b text"], &[0, 1]);
    let t = Changing::new(&items);
    let mut planner = on_postgres(vec![items], REPLICA);
    let single = planner.single(&at(5), &t.rekey("17 x -", "18 x b")).unwrap().unwrap();
    assert_eq!((single.key.as_str(), single.operation), ("(id, a)=(17, x)", Operation::Update));
    assert_eq!(single.table, TableName::new("public", "items"));
    let problem = row_not_found(&single, &at(5));
    assert_eq!(problem.code, "AP001");
    assert!(problem.what.contains("(id, a)=(17, x)") && problem.what.contains("postgres:0/5"), "{problem}");
    let long = format!("17 {}", "ü".repeat(500));
    let single = planner.single(&at(5), &t.insert(&format!("{long} b"))).unwrap().unwrap();
    assert!(single.key.chars().count() <= 203 && single.key.ends_with("..."));
    let message = Change::Message { prefix: Arc::from("tidegate"), content: bytes::Bytes::new() };
    assert!(planner.single(&at(5), &message).unwrap().is_none());
    assert_eq!(row("- ~").len(), 2);
}
