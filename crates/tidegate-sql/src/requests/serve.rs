//! The owner's side of requests.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_connect::{Session, Settings};
use tidegate_model::{Position, Problem};
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{DRAIN, Request};
use crate::retry;
use crate::state::{Lease, failed};

/// How often an owner looks for requests.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// The pause before the target is tried again.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// Claims and answers the requests of a stream, in the name of its owner.
#[derive(Debug)]
pub struct RequestServer<'a> {
    client: &'a Client,
    lease: &'a Lease,
}

impl<'a> RequestServer<'a> {
    /// Makes a server. Whatever an earlier owner had begun is open again: every kind may be done twice.
    pub async fn begin(client: &'a Client, lease: &'a Lease) -> Result<Self, Problem> {
        let server = RequestServer { client, lease };
        server.update("state = 'asked', updated_at = clock_timestamp()", "state = 'running'", &[]).await?;
        Ok(server)
    }

    /// Takes the requests that nobody has taken, oldest first. Takes none if the stream is another owner's.
    pub async fn claim(&self) -> Result<Vec<Request>, Problem> {
        let sql = format!(
            "WITH mine AS (UPDATE {} SET state = 'running', updated_at = clock_timestamp() \
             WHERE {} AND state = 'asked' AND {} RETURNING id, kind, arguments, created_at) \
             SELECT id, kind, arguments::text FROM mine ORDER BY created_at",
            self.lease.key.table("request"),
            self.lease.key.condition(),
            self.owned(),
        );
        // A lost answer leaves requests taken by nobody, which a new server takes again.
        let rows =
            retry::collided(|| async { self.client.query(&sql, &[]).await.map_err(failed("look for requests")) });
        let rows = rows.await?;
        let arguments = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        Ok(rows
            .iter()
            .map(|row| Request { id: row.get(0), kind: row.get(1), arguments: arguments(row.get(2)) })
            .collect())
    }

    /// Says how far a request is.
    pub async fn progress(&self, id: &str, progress: &Value) -> Result<(), Problem> {
        let set = "progress = $2::text::jsonb, updated_at = clock_timestamp()";
        self.update(set, "id = $1 AND state = 'running'", &[&id, &progress.to_string()]).await
    }

    /// Answers a request.
    pub async fn answer(&self, id: &str, answer: &Value) -> Result<(), Problem> {
        let set = "state = 'done', answer = $2::text::jsonb, updated_at = clock_timestamp()";
        self.update(set, "id = $1 AND state = 'running'", &[&id, &answer.to_string()]).await
    }

    async fn update(
        &self,
        set: &str,
        which: &str,
        params: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<(), Problem> {
        let sql = format!(
            "UPDATE {} SET {set} WHERE {} AND {which} AND {}",
            self.lease.key.table("request"),
            self.lease.key.condition(),
            self.owned(),
        );
        retry::repeatable(|| async {
            self.client.execute(&sql, params).await.map(drop).map_err(failed("answer a request"))
        })
        .await
    }

    /// The condition that the stream is still this owner's.
    fn owned(&self) -> String {
        format!(
            "EXISTS (SELECT 1 FROM {} WHERE {} AND shard = 0 AND epoch = {})",
            self.lease.key.table("checkpoint"),
            self.lease.key.condition(),
            self.lease.epoch
        )
    }
}

/// Answers requests to drain until `stop`: each once `applied` has reached its position. Other requests are answered
/// with an error. Connects again for as long as it takes.
pub async fn serve_drains(
    settings: Settings,
    lease: Lease,
    applied: watch::Receiver<Position>,
    stop: CancellationToken,
) {
    let serving = async {
        loop {
            if let Err(problem) = serve_over_one_session(&settings, &lease, &applied).await {
                warn!(error = %problem.why, "requests cannot be looked for");
            }
            sleep(RECONNECT_AFTER).await;
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = serving => {}
    }
}

async fn serve_over_one_session(
    settings: &Settings,
    lease: &Lease,
    applied: &watch::Receiver<Position>,
) -> Result<(), Problem> {
    let session = Session::connect(settings, &lease.key.migration.application_name("requests")).await?;
    let server = RequestServer::begin(&session, lease).await?;
    let mut waiting: Vec<(Request, Position)> = Vec::new();
    let mut ticks = interval(POLL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for request in server.claim().await? {
            debug!(id = %request.id, kind = %request.kind, "request taken");
            match drain_position(&request) {
                Ok(position) => waiting.push((request, position)),
                Err(answer) => server.answer(&request.id, &answer).await?,
            }
        }
        let applied = applied.borrow().clone();
        let (reached, still): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, position)| applied >= *position);
        waiting = still;
        for (request, position) in reached {
            let answer = json!({ "position": position.to_string(), "applied_position": applied.to_string() });
            server.answer(&request.id, &answer).await?;
            info!(%position, %applied, "drained");
        }
    }
}

/// Returns the position a drain waits for, or the answer that says that this is none.
fn drain_position(request: &Request) -> Result<Position, Value> {
    let refused = |what: String, why: &str| {
        let next = "ask with a matching program";
        json!({ "error": { "code": "ST015", "what": what, "why": why, "next": next } })
    };
    if request.kind != DRAIN {
        let what = format!("the owner does not know requests of kind \"{}\"", request.kind);
        return Err(refused(what, "it is of another version than the command"));
    }
    let text = request.arguments["position"].as_str().unwrap_or_default();
    let why = "a drain waits for the checkpoint to reach a position";
    text.parse().map_err(|_| refused("a drain without a position".to_owned(), why))
}
