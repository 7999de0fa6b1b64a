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
const PAUSE: Duration = Duration::from_millis(4);

/// What the traffic did.
#[derive(Debug)]
pub struct Totals {
    pub committed: u64,
    pub rolled_back: u64,
    pub took: Duration,
}

#[derive(Debug, Default)]
struct Counts {
    committed: AtomicU64,
    rolled_back: AtomicU64,
}

#[derive(Debug)]
pub struct Traffic {
    stop: CancellationToken,
    clients: JoinSet<anyhow::Result<()>>,
    counts: Arc<Counts>,
    started: Instant,
}

impl Traffic {
    /// Starts the clients. Each round of traffic has purchase numbers of its own.
    pub async fn start(url: &str, round: i64, seed: u64) -> anyhow::Result<Traffic> {
        let stop = CancellationToken::new();
        let counts = Arc::new(Counts::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let session = shop::session(url).await.context("a client of the shop could not connect")?;
            let mut client = Client {
                session,
                random: fastrand::Rng::with_seed(seed.wrapping_add(number)),
                next_purchase: FIRST_PURCHASE * (round * CLIENTS as i64 + number as i64 + 1),
                counts: Arc::clone(&counts),
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

    /// Returns the number of transactions committed so far.
    pub fn committed(&self) -> u64 {
        self.counts.committed.load(Ordering::Relaxed)
    }

    /// Ends the traffic after the transactions under way.
    pub async fn stop(mut self) -> anyhow::Result<Totals> {
        self.stop.cancel();
        while let Some(client) = self.clients.join_next().await {
            client?.context("a client of the shop failed")?;
        }
        Ok(Totals {
            committed: self.committed(),
            rolled_back: self.counts.rolled_back.load(Ordering::Relaxed),
            took: self.started.elapsed(),
        })
    }
}

#[derive(Debug)]
struct Client {
    session: Session,
    random: fastrand::Rng,
    next_purchase: i64,
    counts: Arc<Counts>,
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
        self.commit(&sql).await?;
        self.counts.committed.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Runs a transaction, again for as long as the database asks for that.
    async fn commit(&mut self, sql: &str) -> anyhow::Result<()> {
        loop {
            match self.session.batch_execute(&format!("BEGIN; {sql} COMMIT")).await {
                Err(error) if error.code() == Some(&SqlState::T_R_SERIALIZATION_FAILURE) => {
                    self.session.batch_execute("ROLLBACK").await?;
                    tokio::time::sleep(PAUSE * self.random.u32(1..10)).await;
                }
                done => return Ok(done?),
            }
        }
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
        self.session.batch_execute(sql).await?;
        self.counts.rolled_back.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
