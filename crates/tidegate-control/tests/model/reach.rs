//! What can be reached from where: stateright's `eventually` sees no cycles, and a machine that tries again has many.

use std::collections::HashMap;

use stateright::Model;

use crate::config::Config;
use crate::world::{World, fingerprint};

/// All reachable worlds, and which can lead to which.
pub struct Graph {
    worlds: Vec<World>,
    /// Per world: the worlds one action before it.
    before: Vec<Vec<u32>>,
}

impl Graph {
    /// Explores everything.
    pub fn explore(config: &Config) -> Graph {
        let mut graph = Graph { worlds: config.init_states(), before: vec![Vec::new()] };
        let mut known: HashMap<_, u32> = graph.worlds.iter().map(|world| (fingerprint(world), 0)).collect();
        let mut n = 0;
        while n < graph.worlds.len() {
            for next in config.next_states(&graph.worlds[n]) {
                let id = *known.entry(fingerprint(&next)).or_insert_with(|| {
                    graph.worlds.push(next);
                    graph.before.push(Vec::new());
                    graph.worlds.len() as u32 - 1
                });
                graph.before[id as usize].push(n as u32);
            }
            n += 1;
        }
        graph
    }

    pub fn len(&self) -> usize {
        self.worlds.len()
    }

    /// Returns a world among `from` that leads to none of the `goals`.
    pub fn stuck(&self, from: impl Fn(&World) -> bool, goals: impl Fn(&World) -> bool) -> Option<&World> {
        let mut leads_there: Vec<bool> = self.worlds.iter().map(&goals).collect();
        let mut todo: Vec<u32> = (0..self.worlds.len() as u32).filter(|n| leads_there[*n as usize]).collect();
        while let Some(n) = todo.pop() {
            for before in &self.before[n as usize] {
                if !std::mem::replace(&mut leads_there[*before as usize], true) {
                    todo.push(*before);
                }
            }
        }
        self.worlds.iter().zip(leads_there).find(|(world, leads)| !leads && from(world)).map(|(world, _)| world)
    }
}
