//! Transfers between accounts: a workload for either kind of server whose sum never changes.
//!
//! Each transaction moves an amount from one account to another and writes down what it did; some replace an account by
//! another with the same balance. A reader that sees whole transactions sees the same sum at every moment. Clients
//! number their transactions and note which ones were acknowledged; a transaction that the server asks to run again is
//! run again.

mod client;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::database::Database;
use crate::random::Random;
use client::Client;

/// The lines have no key, so a transaction applied twice shows as double lines; and they have a parent, which must be
/// there before them.
const SCHEMA: &str = "
    CREATE TABLE account (id INT8 PRIMARY KEY, balance INT8 NOT NULL, moves INT4 NOT NULL, note TEXT);
    CREATE TABLE transfer (client INT4, n INT8, amount INT8 NOT NULL, PRIMARY KEY (client, n));
    CREATE TABLE transfer_line (client INT4 NOT NULL, n INT8 NOT NULL, account INT8 NOT NULL, change INT8 NOT NULL,
        CONSTRAINT transfer_line_of FOREIGN KEY (client, n) REFERENCES transfer (client, n));
    CREATE TABLE ballast (id INT8 PRIMARY KEY, body TEXT NOT NULL, touched INT4 NOT NULL)";

/// What each account holds at first.
const BALANCE: i64 = 1_000;
/// Accounts that belong to one client, which may replace them.
const OWN_ACCOUNTS: i64 = 20;
/// Numbers of accounts that a client may use in its life.
const NUMBERS_PER_CLIENT: i64 = 1_000_000_000;

/// How large it is.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Accounts that all clients share.
    pub accounts: u32,
    /// Clients at work.
    pub clients: u32,
    /// The number of the first client. Clients that write to the two ends of one migration have different numbers.
    pub first_client: u32,
    /// Every `stride`th number is an account's, from `offset` on: so two workloads write disjoint rows of one table.
    pub stride: u32,
    /// See `stride`.
    pub offset: u32,
    /// Transactions per second, all clients together.
    pub rate: u32,
    /// Rows that are hardly ever written, for the copy to have some work.
    pub ballast: u32,
    /// Decides what is done.
    pub seed: u64,
}

impl Plan {
    /// Returns a plan for one end.
    pub fn new(clients: u32, rate: u32, seed: u64) -> Plan {
        Plan { accounts: 1_000, clients, first_client: 0, stride: 1, offset: 0, rate, ballast: 0, seed }
    }

    /// Returns the sum over the accounts of this plan.
    pub fn total(&self) -> i64 {
        (i64::from(self.accounts) + i64::from(self.clients) * OWN_ACCOUNTS) * BALANCE
    }

    fn account(&self, number: i64) -> i64 {
        number * i64::from(self.stride) + i64::from(self.offset)
    }

    fn first_own(&self, client: u32) -> i64 {
        i64::from(client + 1) * NUMBERS_PER_CLIENT
    }

    fn numbers(&self) -> std::ops::Range<u32> {
        self.first_client..self.first_client + self.clients
    }
}

/// Makes the tables of the workload.
pub fn create_tables(database: &Database) {
    database.sql(SCHEMA);
    database.only_postgres("ALTER TABLE transfer_line REPLICA IDENTITY FULL");
}

/// Opens the accounts of a plan.
pub fn fill(database: &Database, plan: &Plan) {
    let shared = (1..=i64::from(plan.accounts)).map(|number| plan.account(number));
    let own =
        plan.numbers().flat_map(|client| (0..OWN_ACCOUNTS).map(move |k| plan.account(plan.first_own(client) + k)));
    let rows: Vec<String> = shared.chain(own).map(|id| format!("({id}, {BALANCE}, 0, NULL)")).collect();
    for rows in rows.chunks(500) {
        database.sql(&format!("INSERT INTO account VALUES {}", rows.join(", ")));
    }
    let body = "x".repeat(400);
    let ballast: Vec<i64> = (1..=i64::from(plan.ballast)).map(|number| plan.account(number)).collect();
    for ids in ballast.chunks(2_000) {
        let rows: Vec<String> = ids.iter().map(|id| format!("({id}, '{id}{body}', 0)")).collect();
        database.sql(&format!("INSERT INTO ballast VALUES {}", rows.join(", ")));
    }
}

/// Clients at work.
#[derive(Debug)]
pub struct Transfers {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Made>>,
}

/// What clients know of their transactions.
#[derive(Clone, Debug, Default)]
pub struct Made {
    /// Acknowledged transactions, by client.
    acknowledged: BTreeMap<u32, BTreeSet<u64>>,
    /// Rows that acknowledged transactions inserted, updated or deleted: each transaction writes a row at most once.
    pub rows_written: u64,
    /// How often the server asked to run a transaction again.
    pub retries: u64,
    /// How often nobody knew what became of a transaction.
    pub unknown: u64,
}

impl Transfers {
    /// Starts the clients.
    pub fn start(database: &Database, plan: &Plan) -> Transfers {
        let stop = Arc::new(AtomicBool::new(false));
        let pause = Duration::from_secs_f64(f64::from(plan.clients) / f64::from(plan.rate.max(1)));
        let start = |number: u32| {
            let random = Random::seeded(plan.seed ^ (u64::from(number) << 32));
            let client = Client::new(database.clone(), plan.clone(), number, pause, random, Arc::clone(&stop));
            std::thread::spawn(move || client.run())
        };
        let clients = plan.numbers().map(start).collect();
        Transfers { stop, clients }
    }

    /// Stops them.
    pub fn stop(self) -> Made {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Made::default();
        for client in self.clients {
            let made = client.join().expect("a client does not panic");
            all.acknowledged.extend(made.acknowledged);
            all.rows_written += made.rows_written;
            all.retries += made.retries;
            all.unknown += made.unknown;
        }
        all
    }
}

impl Made {
    /// Returns how many transactions were acknowledged.
    pub fn count(&self) -> usize {
        self.acknowledged.values().map(BTreeSet::len).sum()
    }

    /// Checks a database against what the clients know and against the sum; returns what is wrong.
    pub fn problems(&self, database: &Database, total: i64) -> Vec<String> {
        let mut found = Vec::new();
        let there: BTreeSet<(u32, u64)> = pairs(&database.sql("SELECT client, n FROM transfer"));
        for (client, numbers) in &self.acknowledged {
            let lost = numbers.iter().filter(|n| !there.contains(&(*client, **n)));
            found.extend(lost.map(|n| format!("client {client}: acknowledged transaction {n} is lost")));
        }
        let torn = "SELECT t.client, t.n FROM transfer t LEFT JOIN transfer_line l ON l.client = t.client AND l.n = t.n
                     GROUP BY t.client, t.n HAVING count(l.account) <> 2 OR sum(l.change) <> 0";
        let torn = pairs(&database.sql(torn));
        found.extend(torn.iter().map(|(client, n)| format!("client {client}: transaction {n} has not its two lines")));
        let orphans =
            "SELECT l.client, l.n FROM transfer_line l LEFT JOIN transfer t ON l.client = t.client AND l.n = t.n
                        WHERE t.n IS NULL";
        let orphans = pairs(&database.sql(orphans));
        found.extend(orphans.iter().map(|(client, n)| format!("client {client}: lines of {n} without a transfer")));
        let sum = database.number("SELECT sum(balance) FROM account");
        if sum != total {
            found.push(format!("the sum over all accounts is {sum} and not {total}"));
        }
        found
    }
}

fn pairs(text: &str) -> BTreeSet<(u32, u64)> {
    let pair = |line: &str| {
        let (client, n) = line.split_once('|').expect("two columns");
        (client.parse().expect("a number"), n.parse().expect("a number"))
    };
    text.lines().map(pair).collect()
}
