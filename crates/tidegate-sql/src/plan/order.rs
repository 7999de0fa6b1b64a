//! Orders: in which tables are written, and in which rows of one table move to other keys.

use std::collections::HashMap;

use tidegate_model::{TableName, TableRoute};

use super::fold::{Fold, NONE};
use super::table::Table;

/// Sorts routes so that a table comes after those it references. References in a circle cannot be satisfied by any
/// order: such tables stay in the order given, and the server has the last word.
pub(crate) fn parents_first(routes: Vec<TableRoute>) -> Vec<TableRoute> {
    let place: HashMap<TableName, usize> =
        routes.iter().enumerate().map(|(index, route)| (route.map.target.clone(), index)).collect();
    let parents: Vec<Vec<usize>> = routes
        .iter()
        .map(|route| route.map.references.iter().filter_map(|parent| place.get(parent).copied()).collect())
        .collect();
    let mut order = Vec::with_capacity(routes.len());
    let mut visited = vec![false; routes.len()];
    for start in 0..routes.len() {
        // Depth first without recursion: a chain of references may be long.
        let mut path = vec![(start, 0)];
        if std::mem::replace(&mut visited[start], true) {
            continue;
        }
        while let Some((table, next)) = path.last_mut() {
            if let Some(&parent) = parents[*table].get(*next) {
                *next += 1;
                if !std::mem::replace(&mut visited[parent], true) {
                    path.push((parent, 0));
                }
            } else {
                order.push(*table);
                path.pop();
            }
        }
    }
    let mut routes: Vec<Option<TableRoute>> = routes.into_iter().map(Some).collect();
    order.into_iter().map(|index| routes[index].take().expect("every table is visited once")).collect()
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
