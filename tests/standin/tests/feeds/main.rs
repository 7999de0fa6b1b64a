//! Changefeeds, history and jobs of the stand-in, over the wire, against the published behaviour.

mod changes;
mod errors;
mod fixture;
mod jobs;
mod retention;
mod schema;
mod values;
