//! What a turn does to the databases: fences, sequences, the write that turns, and what is left when it is over.

mod fence;
mod grants;
mod leaving;
mod sequences;
mod support;
mod turning;
mod waiting;
