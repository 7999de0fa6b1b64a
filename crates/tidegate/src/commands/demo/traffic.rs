//! The shop's customers: a mix of the transactions that hurt replication.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tidegate_connect::Session;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_util::sync::CancellationToken;

use super::shop;

/// Sessions that write at the same time.
pub const CLIENTS: u64 = 4;
/// Purchases of the clients get numbers from here on, each client its own range.
const FIRST_PURCHASE: i64 = 1_000_000_000;
/// A pause between two transactions, so that the demo leaves the machine some air.
const PAUSE: Duration = Duration::from_millis(10);

/// What a side says that is closed: read only (PostgreSQL's fence), no privilege (CockroachDB's).
const REFUSALS: [SqlState; 2] = [SqlState::READ_ONLY_SQL_TRANSACTION, SqlState::INSUFFICIENT_PRIVILEGE];
/// How long a client that was refused waits before it tries the other side.
const REFUSED_PAUSE: Duration = Duration::from_millis(20);

/// What the traffic did.
#[derive(Debug, Clone, Copy)]
pub struct Totals {
    pub committed: [u64; 2],
    pub rolled_back: u64,
    pub took: Duration,
}

#[derive(Debug, Default)]
struct Counts {
    /// By the side that they were committed at: the source, the target.
    committed: [AtomicU64; 2],
    rolled_back: AtomicU64,
    /// The longest time between two commits of a client since it was last asked for, in microseconds.
    longest_pause_us: AtomicU64,
}

#[derive(Debug)]
pub struct Traffic {
    stop: CancellationToken,
    clients: JoinSet<anyhow::Result<()>>,
    counts: Arc<Counts>,
    started: Instant,
}

impl Traffic {
    /// Starts the clients. `urls`: the source and the target, as the application connects to them. They begin at the
    /// source, and go to the other side whenever the one they are at takes no writes.
    pub async fn start(urls: [String; 2], seed: u64) -> anyhow::Result<Traffic> {
        let stop = CancellationToken::new();
        let counts = Arc::new(Counts::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let session = shop::session(&urls[0]).await.context("a client of the shop could not connect")?;
            let mut client = Client {
                urls: urls.clone(),
                side: 0,
                session,
                random: fastrand::Rng::with_seed(seed.wrapping_add(number)),
                next_purchase: FIRST_PURCHASE * (number as i64 + 1),
                counts: Arc::clone(&counts),
                last_commit: Instant::now(),
            };
            let stop = stop.clone();
            clients.spawn(async move {
                while !stop.is_cancelled() {
                    client.transaction().await?;
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(())
            });
        }
        Ok(Traffic { stop, clients, counts, started: Instant::now() })
    }

    /// Returns the longest time between two commits of a client since this was last asked.
    pub fn longest_pause(&self) -> Duration {
        Duration::from_micros(self.counts.longest_pause_us.swap(0, Ordering::Relaxed))
    }

    /// Returns how many transactions were committed at a side so far.
    pub fn committed(&self, side: usize) -> u64 {
        self.counts.committed[side].load(Ordering::Relaxed)
    }

    /// Ends the traffic after the transactions under way.
    pub async fn stop(mut self) -> anyhow::Result<Totals> {
        self.stop.cancel();
        while let Some(client) = self.clients.join_next().await {
            client?.context("a client of the shop failed")?;
        }
        Ok(Totals {
            committed: [self.committed(0), self.committed(1)],
            rolled_back: self.counts.rolled_back.load(Ordering::Relaxed),
            took: self.started.elapsed(),
        })
    }
}

/// Tells whether a fence says that the application is being moved, and not yet that it has.
fn is_being_moved(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|said| {
        *said.code() == SqlState::READ_ONLY_SQL_TRANSACTION && !said.message().contains("has moved")
    })
}

#[derive(Debug)]
struct Client {
    urls: [String; 2],
    side: usize,
    session: Session,
    random: fastrand::Rng,
    next_purchase: i64,
    counts: Arc<Counts>,
    last_commit: Instant,
}

/// How a transaction ended.
enum Ended {
    Committed,
    /// The side that it was sent to takes no writes.
    Refused,
}

impl Client {
    async fn transaction(&mut self) -> anyhow::Result<()> {
        let sql = match self.random.u8(0..100) {
            0..48 => self.place(),
            48..70 => self.ship(),
            70..80 => self.cancel(),
            80..90 => self.re_price(),
            90..91 => self.trade_places(),
            91..94 => self.rename_product(),
            94..98 => self.change_of_mind(),
            _ => return self.roll_back().await,
        };
        match self.commit(&sql).await? {
            Ended::Committed => {
                self.counts.committed[self.side].fetch_add(1, Ordering::Relaxed);
                let pause = self.last_commit.elapsed().as_micros() as u64;
                self.counts.longest_pause_us.fetch_max(pause, Ordering::Relaxed);
                self.last_commit = Instant::now();
                Ok(())
            }
            Ended::Refused => self.go_to_the_other_side().await,
        }
    }

    /// Runs a transaction, again for as long as the database asks for that.
    async fn commit(&mut self, sql: &str) -> anyhow::Result<Ended> {
        loop {
            let Err(error) = self.session.batch_execute(&format!("BEGIN; {sql} COMMIT")).await else {
                return Ok(Ended::Committed);
            };
            // A connection that is gone has no transaction either.
            let _ = self.session.batch_execute("ROLLBACK").await;
            match error.code() {
                Some(code) if *code == SqlState::T_R_SERIALIZATION_FAILURE => {
                    tokio::time::sleep(PAUSE * self.random.u32(1..10)).await;
                }
                // Closed, and not moved yet: the other side may take writes, and must not get them.
                Some(_) if is_being_moved(&error) => tokio::time::sleep(REFUSED_PAUSE).await,
                Some(code) if REFUSALS.contains(code) => return Ok(Ended::Refused),
                _ => return Err(error.into()),
            }
        }
    }

    /// As an application does whose database says that it has moved.
    async fn go_to_the_other_side(&mut self) -> anyhow::Result<()> {
        tokio::time::sleep(REFUSED_PAUSE).await;
        self.side = 1 - self.side;
        self.session = shop::session(&self.urls[self.side]).await.context("a client could not connect again")?;
        Ok(())
    }

    fn sku(&mut self) -> String {
        format!("sku-{}", self.random.u32(1..=1900))
    }

    /// A purchase that this client made earlier; at the beginning perhaps none.
    fn own_purchase(&mut self) -> i64 {
        self.next_purchase - self.random.i64(1..=50)
    }

    fn place(&mut self) -> String {
        let id = self.next_purchase;
        self.next_purchase += 1;
        let customer = self.random.u32(1..=10_000);
        let mut sql = format!("INSERT INTO shop.purchase (id, customer_id) VALUES ({id}, {customer});");
        // In one order, so that clients do not wait for each other in a circle.
        let mut skus: Vec<String> = (0..self.random.u8(1..5)).map(|_| self.sku()).collect();
        skus.sort();
        skus.dedup();
        for (line, sku) in skus.iter().enumerate() {
            let quantity = self.random.u8(1..9);
            sql += &format!(
                "INSERT INTO shop.purchase_line (purchase_id, line, sku, quantity, price)
                     SELECT {id}, {line}, sku, {quantity}, price FROM shop.product WHERE sku = '{sku}';
                 UPDATE shop.stock SET quantity = quantity - {quantity} WHERE sku = '{sku}';"
            );
        }
        sql + &format!("INSERT INTO shop.audit VALUES (now(), 'placed', {id}::float8 / 3);")
    }

    fn ship(&mut self) -> String {
        let id = self.own_purchase();
        format!("UPDATE shop.purchase SET state = 'shipped', note = 'left the house' WHERE id = {id};")
    }

    /// Deletes through a foreign key, where that cascades.
    fn cancel(&mut self) -> String {
        let id = self.own_purchase();
        let lines = self.delete_lines(id);
        format!(
            "{lines} DELETE FROM shop.purchase WHERE id = {id};
             INSERT INTO shop.audit VALUES (now(), 'cancelled', NULL);"
        )
    }

    fn delete_lines(&self, purchase: i64) -> String {
        if self.session.is_cockroach() {
            format!("DELETE FROM shop.purchase_line WHERE purchase_id = {purchase};")
        } else {
            String::new()
        }
    }

    /// Updates a row whose TOASTed description does not change.
    fn re_price(&mut self) -> String {
        let (sku, price) = (self.sku(), self.random.u32(1..1000));
        format!("UPDATE shop.product SET price = {price} + 0.5 WHERE sku = '{sku}';")
    }

    /// Two customers swap a unique value within one transaction.
    fn trade_places(&mut self) -> String {
        let one = self.random.u32(10_001..15_000) / 2 * 2;
        let two = one + 1;
        format!(
            "SELECT id FROM shop.customer WHERE id IN ({one}, {two}) ORDER BY id FOR UPDATE;
             UPDATE shop.customer SET email = 'held-{one}' WHERE id = {one};
             UPDATE shop.customer SET email = 'c{one}@example.org' WHERE id = {two} AND email = 'c{two}@example.org';
             UPDATE shop.customer SET email = 'c{two}@example.org' WHERE id = {one}
                 AND EXISTS (SELECT 1 FROM shop.customer WHERE id = {two} AND email = 'c{one}@example.org');"
        )
    }

    /// Changes a primary key whose row holds an unchanged TOASTed value.
    fn rename_product(&mut self) -> String {
        let number = self.random.u32(1_901..=2_000);
        format!(
            "DELETE FROM shop.stock WHERE sku IN ('sku-{number}', 'new-{number}');
             DELETE FROM shop.purchase_line WHERE sku IN ('sku-{number}', 'new-{number}');
             UPDATE shop.product SET sku = CASE WHEN sku LIKE 'sku%' THEN 'new-' ELSE 'sku-' END || {number}
                 WHERE sku IN ('sku-{number}', 'new-{number}');"
        )
    }

    /// A savepoint that is rolled back within a transaction that commits, and a key deleted and inserted again.
    fn change_of_mind(&mut self) -> String {
        let id = self.own_purchase();
        let customer = self.random.u32(1..=10_000);
        let lines = self.delete_lines(id);
        format!(
            "SAVEPOINT mind; INSERT INTO shop.audit VALUES (now(), 'never', 1); ROLLBACK TO SAVEPOINT mind;
             {lines} DELETE FROM shop.purchase WHERE id = {id};
             INSERT INTO shop.purchase (id, customer_id, note) VALUES ({id}, {customer}, 'again');"
        )
    }

    async fn roll_back(&mut self) -> anyhow::Result<()> {
        let sql = "BEGIN; INSERT INTO shop.audit VALUES (now(), 'rolled back', 1); ROLLBACK";
        match self.session.batch_execute(sql).await {
            Ok(()) => {
                self.counts.rolled_back.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if is_being_moved(&error) => {
                let _ = self.session.batch_execute("ROLLBACK").await;
                Ok(())
            }
            Err(error) if error.code().is_some_and(|code| REFUSALS.contains(code)) => {
                let _ = self.session.batch_execute("ROLLBACK").await;
                self.go_to_the_other_side().await
            }
            Err(error) => Err(error.into()),
        }
    }
}
