//! The owner's side of requests.

use std::time::Duration;

use serde_json::{Value, json};
use tidegate_connect::{Session, Settings};
use tidegate_model::{Position, Problem};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::Request;
use crate::retry;
use crate::state::{Lease, failed};

/// How often an owner looks for requests.
const POLL_EVERY: Duration = Duration::from_millis(200);
/// The pause before the target is tried again.
const RECONNECT_AFTER: Duration = Duration::from_secs(1);

/// The condition of requests that whoever owns a stream for one of them answers.
const NO_TURN_BUT: &str = "(id = $1 OR kind <> 'turn')";

/// Which requests an owner answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answers {
    /// All of its stream.
    #[default]
    All,
    /// All but turns, unless it owns the stream for that very turn: nobody expects a comparison to take up a turn that was
    /// left behind. It waits for an owner that stays.
    NoTurnBut {
        /// The request that the stream is owned for.
        id: String,
    },
}

/// Claims and answers the requests of a stream, in the name of its owner.
#[derive(Debug)]
pub struct RequestServer<'a> {
    client: &'a Client,
    lease: &'a Lease,
    /// The only turn that is answered; `None`: all are.
    only: Option<&'a str>,
}

impl<'a> RequestServer<'a> {
    /// Makes a server. Whatever an earlier owner had begun is open again: every kind may be done twice.
    pub async fn begin(client: &'a Client, lease: &'a Lease, answers: &'a Answers) -> Result<Self, Problem> {
        let only = match answers {
            Answers::All => None,
            Answers::NoTurnBut { id } => Some(id.as_str()),
        };
        let server = RequestServer { client, lease, only };
        let again = "state = 'asked', updated_at = clock_timestamp()";
        match &only {
            None => server.update(again, "state = 'running'", &[]).await?,
            Some(id) => server.update(again, &format!("{NO_TURN_BUT} AND state = 'running'"), &[id]).await?,
        }
        Ok(server)
    }

    /// Takes the requests that nobody has taken, oldest first. Takes none if the stream is another owner's.
    pub async fn claim(&self) -> Result<Vec<Request>, Problem> {
        let params: Vec<&(dyn ToSql + Sync)> = self.only.iter().map(|id| id as &(dyn ToSql + Sync)).collect();
        let sql = format!(
            "WITH mine AS (UPDATE {} SET state = 'running', updated_at = clock_timestamp() \
             WHERE {} AND state = 'asked' {} AND {} RETURNING id, kind, arguments, created_at) \
             SELECT id, kind, arguments::text FROM mine ORDER BY created_at",
            self.lease.key.table("request"),
            self.lease.key.condition(),
            self.only.map_or(String::new(), |_| format!("AND {NO_TURN_BUT}")),
            self.owned(),
        );
        // A lost answer leaves requests taken by nobody, which a new server takes again.
        let rows =
            retry::collided(|| async { self.client.query(&sql, &params).await.map_err(failed("look for requests")) });
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

    async fn update(&self, set: &str, which: &str, params: &[&(dyn ToSql + Sync)]) -> Result<(), Problem> {
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

/// A request that was taken, on its way to whoever does it. Dropped without an answer, it is answered with an error.
#[derive(Debug)]
pub struct Taken {
    /// What is asked.
    pub request: Request,
    progress: watch::Sender<Option<Value>>,
    answer: oneshot::Sender<Value>,
}

impl Taken {
    /// Says how far it is. Who asked sees the last word only.
    pub fn progress(&self, progress: Value) {
        self.progress.send_replace(Some(progress));
    }

    /// Answers it.
    pub fn answer(self, answer: Value) {
        // The server of requests ends with the stream; the next owner takes the request again.
        let _ = self.answer.send(answer);
    }

    /// Answers it with a problem.
    pub fn refuse(self, problem: &Problem) {
        self.answer(refusal(problem));
    }
}

/// Returns the answer that tells a problem.
pub fn refusal(problem: &Problem) -> Value {
    let Problem { code, what, why, next, .. } = problem;
    json!({ "error": { "code": code, "what": what, "why": why, "next": next } })
}

/// A request that somebody does.
#[derive(Debug)]
struct Doing {
    id: String,
    progress: watch::Receiver<Option<Value>>,
    answer: oneshot::Receiver<Value>,
}

impl Doing {
    fn begin(request: Request) -> (Taken, Doing) {
        let (id, (progress, seen), (answer, answered)) = (request.id.clone(), watch::channel(None), oneshot::channel());
        (Taken { request, progress, answer }, Doing { id, progress: seen, answer: answered })
    }
}

/// Gives the requests of a stream to `doers` and passes on what they say, until `stop`. Connects again for as long as it
/// takes.
pub async fn serve(
    settings: Settings,
    lease: Lease,
    answers: Answers,
    doers: mpsc::Sender<Taken>,
    stop: CancellationToken,
) {
    let mut doing = Vec::new();
    let serving = async {
        loop {
            if let Err(problem) = serve_over_one_session(&settings, &lease, &answers, &doers, &mut doing).await {
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
    answers: &Answers,
    doers: &mpsc::Sender<Taken>,
    doing: &mut Vec<Doing>,
) -> Result<(), Problem> {
    let session = Session::connect(settings, &lease.key.migration.application_name("requests")).await?;
    let server = RequestServer::begin(&session, lease, answers).await?;
    let mut ticks = interval(POLL_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for request in server.claim().await? {
            // It was taken over an earlier session, and goes on.
            if doing.iter().any(|known| known.id == request.id) {
                continue;
            }
            debug!(id = %request.id, kind = %request.kind, "request taken");
            let (taken, begun) = Doing::begin(request);
            doing.push(begun);
            // Without doers it is dropped, and answered as such below.
            let _ = doers.send(taken).await;
        }
        let mut index = 0;
        while index < doing.len() {
            if pass_on(&server, &mut doing[index]).await? {
                doing.swap_remove(index);
            } else {
                index += 1;
            }
        }
    }
}

/// Writes what is new of a request; returns whether it is answered.
async fn pass_on(server: &RequestServer<'_>, doing: &mut Doing) -> Result<bool, Problem> {
    let answer = match doing.answer.try_recv() {
        Ok(answer) => answer,
        Err(TryRecvError::Closed) => refusal(&dropped()),
        Err(TryRecvError::Empty) => {
            if doing.progress.has_changed().unwrap_or(false) {
                let progress = doing.progress.borrow_and_update().clone();
                server.progress(&doing.id, &progress.unwrap_or(Value::Null)).await?;
            }
            return Ok(false);
        }
    };
    server.answer(&doing.id, &answer).await?;
    Ok(true)
}

/// Returns the position that a drain waits for, or the problem that says that this is none.
pub fn drain_position(request: &Request) -> Result<Position, Problem> {
    let text = request.arguments["position"].as_str().unwrap_or_default();
    let why = "a drain waits for the checkpoint to reach a position";
    text.parse().map_err(|_| not_understood("a drain without a position".to_owned(), why))
}

/// Returns the problem of a request of a kind that nobody does.
pub fn unknown_kind(request: &Request) -> Problem {
    let what = format!("the owner does not know requests of kind \"{}\"", request.kind);
    not_understood(what, "it is of another version than the command")
}

fn not_understood(what: String, why: &str) -> Problem {
    Problem::definite("ST015", what, why, "ask with a matching program")
}

fn dropped() -> Problem {
    let why = "the stream was interrupted meanwhile; nothing is known to be wrong";
    Problem::transient("ST017", "what was asked was not finished", why, "see tidegate status, and ask again")
}
