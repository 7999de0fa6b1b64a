//! Folding: what a stretch of changes amounts to for each row of one table.
//!
//! Each row is an entity with its key in the target before the stretch (`origin`), its key after it (`current`) and,
//! per column, where its newest value is. A key is known by a slot, which says which entity the target has under it
//! and which entities have it now:
//!
//! ```text
//!   origin  current
//!     -        k      insert              -        -    came and went: nothing
//!     k        k      update              k        -    delete
//!     k        m      update that moves the key
//! ```
//!
//! A change that contradicts what is known (an insert of a key that is there, an update of a row that is gone) is not
//! taken. It is given back, and the caller starts a new stretch with it: what came before is written first, and the
//! server judges it.

use hashbrown::HashTable;
use tidegate_model::{Row, Value};

use super::table::{RowChange, Table};

/// No row, no entity.
pub(crate) const NONE: u32 = u32::MAX;

/// Where the newest values of a row are.
#[derive(Debug)]
pub(crate) enum Values {
    /// The row is gone.
    Absent,
    /// All in one source row.
    Row(u32),
    /// Per column in a source row of its own: later ones left columns out.
    Merged(Box<[u32]>),
}

impl Values {
    /// Returns the source row that has the newest value of `column`.
    pub fn pick(&self, column: usize) -> u32 {
        match self {
            Values::Absent => NONE,
            Values::Row(row) => *row,
            Values::Merged(picks) => picks[column],
        }
    }
}

/// A row of the table. Keys are named by a source row that has them.
#[derive(Debug)]
pub(crate) struct Entity {
    /// Its key in the target before the stretch. NONE: it was not there.
    pub origin: u32,
    /// Its key after it. NONE: it is gone.
    pub current: u32,
    /// The next entity that has the same key now.
    beside: u32,
    pub values: Values,
    /// Whether the value of every column is known.
    pub full: bool,
}

/// What is known of a key.
struct Slot {
    hash: u64,
    /// A source row with this key.
    key: u32,
    /// The entity that the target has under this key, once a change told of it.
    origin: u32,
    /// The first of the entities that have this key now.
    occupant: u32,
}

/// A change that is not folded: of a table without a key, whose rows are a multiset, or of one whose row is to be told
/// from another with its key.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Insert(u32),
    Update { old: u32, new: u32 },
    Delete(u32),
}

/// The row that a change is about.
enum Found {
    Entity(u32),
    /// In the target, as far as is known.
    Unseen,
    /// Known to be gone.
    Gone,
}

/// The folded changes of one table.
#[derive(Default)]
pub(crate) struct Fold {
    pub rows: Vec<Row>,
    pub entities: Vec<Entity>,
    pub steps: Vec<Step>,
    slots: Vec<Slot>,
    /// Indices into `slots`.
    index: HashTable<u32>,
    /// Whether a key that the target had must not be taken by another row in the same stretch.
    keys_stay_taken: bool,
}

impl Fold {
    /// Makes an empty stretch. `keys_stay_taken` where rows that are there are written before rows go.
    pub fn new(keys_stay_taken: bool) -> Self {
        Fold { keys_stay_taken, ..Fold::default() }
    }

    /// Gives out what was folded and is empty afterwards. What only folding needs stays and is used again.
    pub fn restart(&mut self) -> Fold {
        self.slots.clear();
        self.index.clear();
        Fold {
            rows: std::mem::take(&mut self.rows),
            entities: std::mem::take(&mut self.entities),
            steps: std::mem::take(&mut self.steps),
            ..Fold::new(self.keys_stay_taken)
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Takes a change in, or gives it back where it needs a new stretch. A new stretch takes every change.
    pub fn take(&mut self, table: &Table, change: RowChange) -> Result<(), RowChange> {
        if !table.has_key() {
            self.step(change);
            return Ok(());
        }
        match change {
            RowChange::Insert(new) => self.insert(table, new),
            RowChange::Update { old, new, full } => self.update(table, old, new, full),
            RowChange::Delete(old) => self.delete(table, old),
        }
    }

    /// Takes in a change that finds its row by the whole old row.
    pub fn step(&mut self, change: RowChange) {
        let step = match change {
            RowChange::Insert(new) => Step::Insert(self.keep(new)),
            RowChange::Delete(old) => Step::Delete(self.keep(old)),
            RowChange::Update { old, new, .. } => {
                let old = old.expect("an update that goes by its old row was checked to have it");
                Step::Update { old: self.keep(old), new: self.keep(new) }
            }
        };
        self.steps.push(step);
    }

    fn insert(&mut self, table: &Table, new: Row) -> Result<(), RowChange> {
        let hash = table.key_hash(&new);
        let slot = self.slot(table, hash, &new);
        if let Some(slot) = slot {
            let Slot { origin, occupant, .. } = self.slots[slot as usize];
            if occupant != NONE && !table.keys_may_meet() {
                return Err(RowChange::Insert(new));
            }
            if origin != NONE && occupant == NONE && self.entities[origin as usize].current == NONE {
                let row = self.keep(new);
                self.revive(origin, slot, row);
                return Ok(());
            }
            if origin != NONE && self.keys_stay_taken {
                return Err(RowChange::Insert(new));
            }
        }
        let row = self.keep(new);
        let entity =
            self.entity(Entity { origin: NONE, current: row, beside: NONE, values: Values::Row(row), full: true });
        let slot = slot.unwrap_or_else(|| self.new_slot(hash, row));
        self.arrive(entity, slot);
        Ok(())
    }

    /// A row was deleted and one with its key inserted: to the target it is one row that changed in every column.
    fn revive(&mut self, entity: u32, slot: u32, row: u32) {
        let revived = &mut self.entities[entity as usize];
        revived.current = row;
        revived.values = Values::Row(row);
        revived.full = true;
        self.arrive(entity, slot);
    }

    fn update(&mut self, table: &Table, old: Option<Row>, new: Row, full: bool) -> Result<(), RowChange> {
        let before = old.as_ref().unwrap_or(&new);
        let hash = table.key_hash(before);
        let slot = self.slot(table, hash, before);
        let found = self.find(table, slot, before, old.is_some());
        let moves = old.as_ref().is_some_and(|old| !table.same_key(old, &new));
        let onto_hash = if moves { table.key_hash(&new) } else { hash };
        let onto = if moves { self.slot(table, onto_hash, &new) } else { slot };
        if matches!(found, Found::Gone) || (moves && !self.may_move(table, &found, onto)) {
            return Err(RowChange::Update { old, new, full });
        }
        let old = old.filter(|_| moves || matches!(found, Found::Unseen)).map(|old| self.keep(old));
        let row = self.keep(new);
        let slot = slot.unwrap_or_else(|| self.new_slot(hash, old.unwrap_or(row)));
        let entity = match found {
            Found::Entity(entity) => entity,
            Found::Unseen | Found::Gone => self.add_from_target(old.unwrap_or(row), slot),
        };
        if moves {
            self.leave(entity, slot);
            // Made only now: the slot that is left may have been made a moment ago.
            let onto = onto.unwrap_or_else(|| self.new_slot(onto_hash, row));
            self.arrive(entity, onto);
        }
        self.merge(entity, row, full);
        Ok(())
    }

    fn delete(&mut self, table: &Table, old: Row) -> Result<(), RowChange> {
        let hash = table.key_hash(&old);
        let slot = self.slot(table, hash, &old);
        let (entity, slot) = match self.find(table, slot, &old, true) {
            Found::Gone => return Err(RowChange::Delete(old)),
            Found::Entity(entity) => (entity, slot.expect("an entity is found by its slot")),
            Found::Unseen => {
                let row = self.keep(old);
                let slot = slot.unwrap_or_else(|| self.new_slot(hash, row));
                (self.add_from_target(row, slot), slot)
            }
        };
        self.leave(entity, slot);
        let gone = &mut self.entities[entity as usize];
        gone.current = NONE;
        gone.values = Values::Absent;
        Ok(())
    }

    /// Finds the row that has the key of `row` now. Where two rows may hold one key, `row` decides if it `is_old_row`.
    fn find(&self, table: &Table, slot: Option<u32>, row: &Row, is_old_row: bool) -> Found {
        let Some(slot) = slot else { return Found::Unseen };
        let Slot { origin, occupant, .. } = self.slots[slot as usize];
        let alone = occupant != NONE && self.entities[occupant as usize].beside == NONE;
        if !table.keys_may_meet() || (alone && origin != NONE) {
            return if occupant == NONE { Found::Gone } else { Found::Entity(occupant) };
        }
        // Only a row that stayed where the target had it may be known in part: one that arrived is known in full. Hence
        // what equals in full comes first; if both would, the rows are the same but for their names.
        for known_in_full in [true, false] {
            let mut candidate = occupant;
            while candidate != NONE {
                let entity = &self.entities[candidate as usize];
                if entity.full == known_in_full && (!is_old_row || self.equals(candidate, row)) {
                    return Found::Entity(candidate);
                }
                candidate = entity.beside;
            }
        }
        if origin == NONE { Found::Unseen } else { Found::Gone }
    }

    /// Whether what is known of an entity equals the full row `row`.
    fn equals(&self, entity: u32, row: &Row) -> bool {
        let values = &self.entities[entity as usize].values;
        (0..row.len()).all(|column| {
            let known = self.rows[values.pick(column) as usize].value(column);
            known == Value::Unchanged || known == row.value(column)
        })
    }

    fn may_move(&self, table: &Table, found: &Found, onto: Option<u32>) -> bool {
        let Some(onto) = onto else { return true };
        let Slot { origin, occupant, .. } = self.slots[onto as usize];
        let returns = matches!(found, Found::Entity(entity) if *entity == origin);
        (occupant == NONE || table.keys_may_meet()) && (origin == NONE || returns || !self.keys_stay_taken)
    }

    fn merge(&mut self, entity: u32, row: u32, full: bool) {
        let Entity { values, full: known, current, .. } = &mut self.entities[entity as usize];
        *current = row;
        if full || matches!(values, Values::Absent) {
            *values = Values::Row(row);
            *known = full;
            return;
        }
        let newest = &self.rows[row as usize];
        let pick = |column| if newest.value(column) == Value::Unchanged { values.pick(column) } else { row };
        *values = Values::Merged((0..newest.len()).map(pick).collect());
    }

    /// Returns the slot of the key of `row`.
    pub fn slot_with_key(&self, table: &Table, row: u32) -> Option<u32> {
        let row = &self.rows[row as usize];
        self.slot(table, table.key_hash(row), row)
    }

    /// Returns the entity that the target has under the key of the slot; NONE where no change told of one.
    pub fn origin_of(&self, slot: u32) -> u32 {
        self.slots[slot as usize].origin
    }

    fn slot(&self, table: &Table, hash: u64, row: &Row) -> Option<u32> {
        let same = |slot: &u32| {
            let slot = &self.slots[*slot as usize];
            slot.hash == hash && table.same_key(&self.rows[slot.key as usize], row)
        };
        self.index.find(hash, same).copied()
    }

    fn new_slot(&mut self, hash: u64, key: u32) -> u32 {
        let slot = self.slots.len() as u32;
        self.slots.push(Slot { hash, key, origin: NONE, occupant: NONE });
        let slots = &self.slots;
        self.index.insert_unique(hash, slot, |slot| slots[*slot as usize].hash);
        slot
    }

    /// Adds a row that the target has under the key of `row`.
    fn add_from_target(&mut self, row: u32, slot: u32) -> u32 {
        let entity =
            self.entity(Entity { origin: row, current: row, beside: NONE, values: Values::Absent, full: false });
        self.slots[slot as usize].origin = entity;
        self.arrive(entity, slot);
        entity
    }

    fn arrive(&mut self, entity: u32, slot: u32) {
        self.entities[entity as usize].beside = self.slots[slot as usize].occupant;
        self.slots[slot as usize].occupant = entity;
    }

    fn leave(&mut self, entity: u32, slot: u32) {
        let after = std::mem::replace(&mut self.entities[entity as usize].beside, NONE);
        if self.slots[slot as usize].occupant == entity {
            self.slots[slot as usize].occupant = after;
            return;
        }
        let mut before = self.slots[slot as usize].occupant;
        while self.entities[before as usize].beside != entity {
            before = self.entities[before as usize].beside;
        }
        self.entities[before as usize].beside = after;
    }

    fn entity(&mut self, entity: Entity) -> u32 {
        self.entities.push(entity);
        (self.entities.len() - 1) as u32
    }

    fn keep(&mut self, row: Row) -> u32 {
        self.rows.push(row);
        (self.rows.len() - 1) as u32
    }
}
