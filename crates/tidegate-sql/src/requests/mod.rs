//! Commands that need the pipeline leave a request in the target; the owner of the stream answers it there.
//!
//! ```text
//!   command:  ask(id, kind, arguments) ------> asked --> running --> done: wait(id) reads the answer
//!   owner:    serve: claims, gives to a doer, passes on what it says ----^  (polled, so that no port is needed)
//! ```
//!
//! Asking twice with one id does it once.

mod serve;

use std::time::Duration;

use serde_json::Value;
use tidegate_model::Problem;
use tokio::time::sleep;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use crate::retry;
use crate::state::{StateKey, failed};

pub use serve::{Answers, RequestServer, Taken, drain_position, refusal, serve, unknown_kind};

/// How often a command looks for its answer.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The request that is answered once the checkpoint has reached `arguments.position`.
pub const DRAIN: &str = "drain";

/// The request that compares source and target at one position.
pub const VERIFY: &str = "verify";

/// The request that turns the migration round, or plans to.
pub const TURN: &str = "turn";

/// The request that ends the streams for good: the migration is over. It is not answered, for nobody is left to.
pub const FINISH: &str = "finish";

/// What a command wants from the owner.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Made by the client: whoever asks again with the same id joins the first.
    pub id: String,
    /// What is to be done.
    pub kind: String,
    /// What it needs to know.
    pub arguments: Value,
}

/// How far a request is.
#[derive(Clone, Debug, PartialEq)]
pub enum RequestState {
    /// No owner has taken it yet.
    Asked,
    /// An owner is at it, and may say how far it is.
    Running(Option<Value>),
    /// It is done. An answer with `error` (`code`, `what`, `why`, `next`) says that it could not be.
    Done(Value),
}

/// Returns an id for a new request.
pub fn new_request_id() -> String {
    crate::state::unique()
}

/// Leaves a request for the owner. Asking again with the same id changes nothing; for another purpose it is refused.
pub async fn ask(client: &Client, key: &StateKey, request: &Request) -> Result<(), Problem> {
    let sql = format!(
        "INSERT INTO {} (migration, stream, id, kind, arguments, state) \
         VALUES ($1, $2, $3, $4, $5::text::jsonb, 'asked') ON CONFLICT DO NOTHING",
        key.table("request")
    );
    let (migration, stream) = (key.migration.as_str(), key.stream.as_str());
    let arguments = request.arguments.to_string();
    let params: [&(dyn ToSql + Sync); 5] = [&migration, &stream, &request.id, &request.kind, &arguments];
    let new = retry::repeatable(|| async { client.execute(&sql, &params).await.map_err(failed("leave a request")) });
    if new.await? == 1 {
        return Ok(());
    }
    let sql = format!(
        "SELECT kind = $2 AND arguments = $3::text::jsonb FROM {} WHERE {} AND id = $1",
        key.table("request"),
        key.condition()
    );
    let params: [&(dyn ToSql + Sync); 3] = [&request.id, &request.kind, &arguments];
    let same = retry::repeatable(|| async { client.query_one(&sql, &params).await.map_err(failed("leave a request")) });
    if same.await?.get(0) {
        return Ok(());
    }
    Err(Problem::definite(
        "ST013",
        format!("request \"{}\" was asked before, for something else", request.id),
        "an id names one request for ever, so that asking twice does it once",
        "use another id",
    ))
}

/// Returns how far a request is; `None` where there is none with this id.
pub async fn request_state(client: &Client, key: &StateKey, id: &str) -> Result<Option<RequestState>, Problem> {
    let sql = format!(
        "SELECT state, progress::text, answer::text FROM {} WHERE {} AND id = $1",
        key.table("request"),
        key.condition()
    );
    let row =
        retry::repeatable(|| async { client.query_opt(&sql, &[&id]).await.map_err(failed("look for an answer")) });
    let row = row.await?;
    let json = |text: Option<&str>| text.and_then(|text| serde_json::from_str(text).ok());
    Ok(row.map(|row| match row.get::<_, &str>(0) {
        "asked" => RequestState::Asked,
        "done" => RequestState::Done(json(row.get(2)).unwrap_or(Value::Null)),
        _ => RequestState::Running(json(row.get(1))),
    }))
}

/// Waits until a request is done and returns its answer. Cancel-safe: the request stays, and waiting again goes on.
pub async fn wait_for_answer(client: &Client, key: &StateKey, id: &str) -> Result<Value, Problem> {
    loop {
        match request_state(client, key, id).await? {
            Some(RequestState::Done(answer)) => return Ok(answer),
            Some(_) => sleep(LOOK_EVERY).await,
            None => {
                return Err(Problem::definite(
                    "ST014",
                    format!("request \"{id}\" is not there any more"),
                    "the migration was removed meanwhile, or nobody ever asked",
                    "ask again",
                ));
            }
        }
    }
}
