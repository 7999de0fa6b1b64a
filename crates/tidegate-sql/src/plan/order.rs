//! Orders: in which tables are written, and in which rows of one table move to other keys.

use std::collections::HashMap;

use tidegate_model::{TableName, TableRoute};

use super::fold::{Fold, NONE};
use super::table::Table;

/// Sorts routes so that a table comes after those it references, and gives each the number of its circle: tables that
/// reference each other, on whatever way round, follow one another and have the same number. No order satisfies them.
pub(crate) fn parents_first(routes: Vec<TableRoute>) -> Vec<(TableRoute, usize)> {
    let place: HashMap<TableName, usize> =
        routes.iter().enumerate().map(|(index, route)| (route.map.target.clone(), index)).collect();
    let parents: Vec<Vec<usize>> = routes
        .iter()
        .map(|route| route.map.references.iter().filter_map(|parent| place.get(parent).copied()).collect())
        .collect();
    let mut children = vec![Vec::new(); routes.len()];
    for (child, parents) in parents.iter().enumerate() {
        parents.iter().for_each(|&parent| children[parent].push(child));
    }
    let mut visited = vec![false; routes.len()];
    let mut order = Vec::with_capacity(routes.len());
    (0..routes.len()).for_each(|start| visit(start, &parents, &mut visited, &mut order));
    // Who is reached both ways is in the circle (Kosaraju): against the order, from parents to children.
    let mut visited = vec![false; routes.len()];
    let mut circle = vec![0; routes.len()];
    for (last, &start) in order.iter().enumerate().rev() {
        let mut members = Vec::new();
        visit(start, &children, &mut visited, &mut members);
        members.into_iter().for_each(|member| circle[member] = last);
    }
    // All that a circle references from outside is before its last member.
    order.sort_by_key(|&table| circle[table]);
    let mut routes: Vec<Option<TableRoute>> = routes.into_iter().map(Some).collect();
    let taken = |index: usize| (routes[index].take().expect("every table is visited once"), circle[index]);
    order.into_iter().map(taken).collect()
}

/// Visits what is reached from `start` and was not visited before, depth first, and notes each behind what it leads to.
/// Without recursion: a chain of references may be long.
fn visit(start: usize, edges: &[Vec<usize>], visited: &mut [bool], order: &mut Vec<usize>) {
    if std::mem::replace(&mut visited[start], true) {
        return;
    }
    let mut path = vec![(start, 0)];
    while let Some((table, next)) = path.last_mut() {
        if let Some(&other) = edges[*table].get(*next) {
            *next += 1;
            if !std::mem::replace(&mut visited[other], true) {
                path.push((other, 0));
            }
        } else {
            order.push(*table);
            path.pop();
        }
    }
}

/// How rows get to their new keys.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Moves {
    /// Rows that move in circles: all at once, and first.
    pub rotated: Vec<u32>,
    /// The other rows. A key that a row of one level takes was left in the level before: the server checks a key that
    /// is not deferrable row by row, in an order that nobody promises, so both cannot be in one statement.
    pub levels: Vec<Vec<u32>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Unknown,
    OnPath,
    Rotated,
    Level(usize),
}

/// Orders the entities in `moved`, all of which have another key than before.
pub(crate) fn moves(fold: &Fold, table: &Table, moved: &[u32]) -> Moves {
    let mut places: HashMap<u32, Place> = moved.iter().map(|&entity| (entity, Place::Unknown)).collect();
    // The row that must leave before `entity` can arrive.
    let before = |entity: u32| {
        let slot = fold.slot_with_key(table, fold.entities[entity as usize].current)?;
        let origin = fold.origin_of(slot);
        (origin != NONE).then_some(origin)
    };
    for &start in moved {
        let mut path = Vec::new();
        let mut next = Some(start);
        let mut level = 0;
        while let Some(entity) = next {
            match places.get(&entity).copied() {
                Some(Place::Unknown) => {
                    places.insert(entity, Place::OnPath);
                    path.push(entity);
                    next = before(entity);
                }
                Some(Place::OnPath) => {
                    let circle = path.iter().position(|&other| other == entity).expect("it is on the path");
                    for entity in path.drain(circle..) {
                        places.insert(entity, Place::Rotated);
                    }
                    break;
                }
                Some(Place::Level(known)) => {
                    level = known + 1;
                    break;
                }
                // Rotated rows have left before the first level; a row that does not move is deleted before, or stays
                // where it is and lets the server refuse.
                Some(Place::Rotated) | None => break,
            }
        }
        for entity in path.into_iter().rev() {
            places.insert(entity, Place::Level(level));
            level += 1;
        }
    }
    let mut moves = Moves::default();
    for &entity in moved {
        match places[&entity] {
            Place::Level(level) => {
                if moves.levels.len() <= level {
                    moves.levels.resize_with(level + 1, Vec::new);
                }
                moves.levels[level].push(entity);
            }
            Place::Rotated => moves.rotated.push(entity),
            Place::Unknown | Place::OnPath => unreachable!("every path that was begun was ended"),
        }
    }
    moves
}
