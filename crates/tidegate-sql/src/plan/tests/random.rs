//! Whatever the limit of a slice, plans leave what the changes leave when made one by one.

use proptest::prelude::*;
use tidegate_model::TableRoute;

use super::fixture::{at, route, with_full_identity};
use super::history::{COLUMNS, History, Wish, wishes};
use super::interpreter::Database;
use super::{ENFORCED, REPLICA, UNLIMITED, on_cockroach, on_postgres};
use crate::plan::{Planner, SliceLimit};

fn database(routes: &[TableRoute], rows: Vec<Vec<super::history::Cells>>) -> Database {
    Database(routes.iter().map(|route| route.map.target.clone()).zip(rows).collect())
}

fn check(mut planner: Planner, routes: &[TableRoute], limit: SliceLimit, wishes: &[Wish], deferrable: bool) {
    let History { before, changes, after } = History::of(routes, wishes, deferrable);
    let mut target = database(routes, before);
    let mut changes = changes.into_iter().map(|change| Ok((at(1), change)));
    while let Some(plan) = planner.slice(&mut changes, limit).unwrap() {
        for statement in &plan.statements {
            target.run(&planner, statement).unwrap_or_else(|refusal| panic!("{refusal}"));
        }
    }
    assert_eq!(target.sorted(), database(routes, after).sorted());
}

/// Whatever keys meet on the way, each change finds its row.
fn check_one_by_one(routes: &[TableRoute], wishes: &[Wish]) {
    let History { before, changes, after } = History::of(routes, wishes, true);
    let mut target = database(routes, before);
    let mut planner = on_postgres(routes.to_vec(), REPLICA);
    for change in changes {
        let single = planner.single(&at(1), &change).unwrap().expect("it changes a row");
        for statement in &single.statements {
            target.run(&planner, statement).unwrap_or_else(|refusal| panic!("{refusal}"));
        }
    }
    assert_eq!(target.sorted(), database(routes, after).sorted());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn plans_leave_what_the_changes_leave(wishes in wishes(3), limit in 1..30_u64, referenced: bool) {
        let mut routes =
            [route(1, "one", &COLUMNS, &[0]), route(2, "two", &COLUMNS, &[0]), route(3, "log", &COLUMNS, &[])];
        if referenced {
            routes[1].map.references = vec![routes[0].map.target.clone(), routes[1].map.target.clone()];
        }
        let small = SliceLimit { changes: limit, ..UNLIMITED };
        for limit in [small, UNLIMITED] {
            check(on_postgres(routes.to_vec(), REPLICA), &routes, limit, &wishes, false);
            check(on_postgres(routes.to_vec(), ENFORCED), &routes, limit, &wishes, false);
            check(on_cockroach(routes.to_vec()), &routes, limit, &wishes, false);
        }
    }

    #[test]
    fn keys_that_meet_are_told_apart_by_their_rows(wishes in wishes(2)) {
        let routes = [
            with_full_identity(route(1, "one", &COLUMNS, &[0])),
            with_full_identity(route(2, "two", &COLUMNS, &[0])),
        ];
        check(on_postgres(routes.to_vec(), REPLICA), &routes, UNLIMITED, &wishes, true);
        check_one_by_one(&routes, &wishes);
    }
}
