//! Changes that are judged by the row that they find.

use super::fixture::{Changing, at, route, row, with_full_identity};
use super::{REPLICA, on_cockroach, on_postgres};
use crate::plan::{Action, Contest, Operation, Planner};
use tidegate_model::{Change, Problem};

const COLUMNS: &[&str] = &["id bigint", "price numeric", "data json"];

fn contests(planner: &mut Planner, change: Change) -> Result<Vec<Contest>, Problem> {
    planner.contests(&at(5), change)
}

fn planner() -> (Planner, Changing) {
    let route = with_full_identity(route(1, "t", COLUMNS, &[0]));
    let changing = Changing::new(&route);
    (on_postgres(vec![route], REPLICA), changing)
}

fn operations(contests: &[Contest]) -> Vec<(Operation, &str)> {
    contests.iter().map(|contest| (contest.operation, &*contest.key[0].2)).collect()
}

#[test]
fn the_target_says_whether_it_has_the_row_by_the_meaning_of_values() {
    let mapped = || with_full_identity(route(1, "t", COLUMNS, &[0]));
    let t = Changing::new(&mapped());
    for (name, mut planner) in
        [("postgres", on_postgres(vec![mapped()], REPLICA)), ("cockroach", on_cockroach(vec![mapped()]))]
    {
        let mut text = |change| contests(&mut planner, change).unwrap()[0].probe.sql.to_string();
        let texts = [text(t.rekey("1 2 {}", "1 3 {}")), text(t.insert("1 2 {}"))].join("\n");
        insta::with_settings!({
            snapshot_path => "../snapshots",
            prepend_module_to_snapshot => false,
            omit_expression => true
        }, {
            insta::assert_snapshot!(format!("{name}_contest"), texts);
        });
    }
}

#[test]
fn a_change_that_moves_a_key_takes_one_row_away_and_brings_another() {
    let (mut planner, t) = planner();
    let moved = contests(&mut planner, t.rekey("1 2 {}", "7 2 {}")).unwrap();
    assert_eq!(operations(&moved), [(Operation::Delete, "1"), (Operation::Insert, "7")]);
    let stays = contests(&mut planner, t.rekey("1 2 {}", "1 3 {}")).unwrap();
    assert_eq!(operations(&stays), [(Operation::Update, "1")]);
}

#[test]
fn only_what_a_change_changed_is_set_where_nobody_else_was() {
    let (mut planner, t) = planner();
    let changed = contests(&mut planner, t.rekey("1 2 long", "1 3 ~")).unwrap();
    let sql = |action| changed[0].statement(action).map(|statement| statement.sql.to_string()).unwrap_or_default();
    assert!(sql(Action::Update).contains("\"price\" = ") && !sql(Action::Update).contains("\"data\" = "));
    // What was not sent because it did not change is known from the row before.
    assert!(sql(Action::Overwrite).contains("\"data\" = "), "{}", sql(Action::Overwrite));
    assert!(changed[0].statement(Action::Insert).is_some() && changed[0].statement(Action::Keep).is_none());
    let same = contests(&mut planner, t.rekey("1 2 long", "1 2 ~")).unwrap();
    assert!(same[0].statement(Action::Update).is_none(), "there is nothing to set");
}

#[test]
fn what_does_not_tell_the_row_before_is_refused() {
    let (mut planner, t) = planner();
    assert_eq!(contests(&mut planner, t.truncate()).unwrap_err().code, "AP072");
    assert_eq!(contests(&mut planner, t.update("1 2 {}")).unwrap_err().code, "AP073");
    let keyed = route(2, "k", COLUMNS, &[0]);
    let k = Changing::new(&keyed);
    let mut planner = on_postgres(vec![keyed], REPLICA);
    assert_eq!(contests(&mut planner, k.delete("1 - -")).unwrap_err().code, "AP073");
    // An insert tells all there is.
    let new = contests(&mut planner, Change::Insert { table: k.0.clone(), new: row("1 2 {}") }).unwrap();
    assert_eq!(operations(&new), [(Operation::Insert, "1")]);
}
