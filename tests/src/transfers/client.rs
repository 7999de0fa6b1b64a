//! One client of the workload.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Made, Plan};
use crate::database::Database;
use crate::random::Random;
use crate::wire::{Refused, Wire};

/// How long a client waits before it connects again, and at most before it runs a transaction again.
const BACK_OFF: Duration = Duration::from_millis(50);

pub(super) struct Client {
    database: Database,
    plan: Plan,
    number: u32,
    pause: Duration,
    random: Random,
    stop: Arc<AtomicBool>,
    n: u64,
    /// Its own accounts, as its last acknowledged transaction left them.
    own: Vec<i64>,
    made: Made,
}

/// What a transaction is to do.
#[derive(Clone, Copy, Debug)]
struct Deed {
    debtor: i64,
    creditor: i64,
    amount: u64,
    /// An own account that is replaced, and by which.
    replaced: Option<(i64, i64)>,
    /// A row of the ballast that is touched.
    touched: Option<i64>,
}

/// How a transaction ended.
enum Outcome {
    /// It wrote this many rows.
    Done(u64),
    /// It wrote nothing: one of the accounts is not there any more.
    Missed,
}

impl Client {
    pub(super) fn new(
        database: Database,
        plan: Plan,
        number: u32,
        pause: Duration,
        random: Random,
        stop: Arc<AtomicBool>,
    ) -> Client {
        Client { database, plan, number, pause, random, stop, n: 0, own: Vec::new(), made: Made::default() }
    }

    pub(super) fn run(mut self) -> Made {
        self.made.acknowledged.insert(self.number, BTreeSet::new());
        while self.goes_on() {
            // A session ends with its server. What it left behind is read anew.
            let session = Wire::connect(&self.database);
            let ended = session.and_then(|session| self.session(&session));
            if let Err(Refused::Sql(code, message)) = ended {
                panic!("client {} was refused for good: {code} {message}", self.number);
            }
            std::thread::sleep(BACK_OFF);
        }
        self.made
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn session(&mut self, session: &Wire) -> Result<(), Refused> {
        self.read_own_accounts(session)?;
        while self.goes_on() {
            let began = Instant::now();
            self.n += 1;
            let deed = self.choose();
            match self.until_done(session, deed)? {
                Outcome::Done(rows) => self.note(deed, rows),
                // A transaction of an earlier session may have taken effect after its end.
                Outcome::Missed => self.read_own_accounts(session)?,
            }
            std::thread::sleep(self.pause.saturating_sub(began.elapsed()));
        }
        Ok(())
    }

    fn note(&mut self, deed: Deed, rows: u64) {
        self.made.acknowledged.entry(self.number).or_default().insert(self.n);
        self.made.rows_written += rows;
        if let Some((old, new)) = deed.replaced {
            self.own.retain(|id| *id != old);
            self.own.push(new);
        }
    }

    fn read_own_accounts(&mut self, session: &Wire) -> Result<(), Refused> {
        let (from, until) = (self.plan.first_own(self.number), self.plan.first_own(self.number + 1));
        let (from, until) = (self.plan.account(from), self.plan.account(until));
        let rows = session.rows(&format!("SELECT id FROM account WHERE id >= {from} AND id < {until}"))?;
        self.own = rows.iter().map(|row| row[0].as_ref().and_then(|id| id.parse().ok()).expect("a number")).collect();
        Ok(())
    }

    /// Chooses different accounts, so that a transaction writes no row twice.
    fn choose(&mut self) -> Deed {
        let shared = |random: &mut Random| 1 + random.below(u64::from(self.plan.accounts)).cast_signed();
        let debtor = shared(&mut self.random);
        let creditor = 1 + (debtor + shared(&mut self.random)) % i64::from(self.plan.accounts);
        let creditor = if creditor == debtor { 1 + debtor % i64::from(self.plan.accounts) } else { creditor };
        // No number is used twice: the newest one of a session that ended is not known to have failed.
        let fresh = self.plan.account(self.plan.first_own(self.number) + 1_000 + self.n.cast_signed());
        let replaced = (self.random.below(5) == 0 && !self.own.is_empty())
            .then(|| (self.own[self.random.below(self.own.len() as u64) as usize], fresh));
        let touches = self.plan.ballast > 0 && self.random.below(4) == 0;
        let touched = touches.then(|| 1 + self.random.below(u64::from(self.plan.ballast)).cast_signed());
        Deed {
            debtor: self.plan.account(debtor),
            creditor: self.plan.account(creditor),
            amount: 1 + self.random.below(9),
            replaced,
            touched: touched.map(|number| self.plan.account(number)),
        }
    }

    fn until_done(&mut self, session: &Wire, deed: Deed) -> Result<Outcome, Refused> {
        loop {
            match self.once(session, deed) {
                Err(Refused::Retry) => {
                    self.made.retries += 1;
                    session.run("ROLLBACK")?;
                    std::thread::sleep(self.random.time_below(BACK_OFF));
                    if !self.goes_on() {
                        return Ok(Outcome::Missed);
                    }
                }
                Err(Refused::Unknown(why)) => {
                    self.made.unknown += 1;
                    return Err(Refused::Unknown(why));
                }
                other => return other,
            }
        }
    }

    fn once(&self, session: &Wire, deed: Deed) -> Result<Outcome, Refused> {
        let (client, n, amount) = (self.number, self.n, deed.amount);
        let Deed { debtor, creditor, .. } = deed;
        session.run("BEGIN")?;
        let mut rows = 0;
        // In one order everywhere: two clients then never wait for each other.
        let mut moves = [(debtor, format!("- {amount}")), (creditor, format!("+ {amount}"))];
        moves.sort();
        for (account, change) in moves {
            let update =
                format!("UPDATE account SET balance = balance {change}, moves = moves + 1 WHERE id = {account}");
            rows += session.run(&update)?;
        }
        if rows < 2 {
            session.run("ROLLBACK")?;
            return Ok(Outcome::Missed);
        }
        rows += session.run(&format!("INSERT INTO transfer VALUES ({client}, {n}, {amount})"))?;
        rows += session.run(&format!(
            "INSERT INTO transfer_line
             VALUES ({client}, {n}, {debtor}, -{amount}), ({client}, {n}, {creditor}, {amount})"
        ))?;
        if let Some((old, new)) = deed.replaced {
            let held = session.rows(&format!("SELECT balance FROM account WHERE id = {old} FOR UPDATE"))?;
            let Some(balance) = held.first().and_then(|row| row[0].clone()) else {
                session.run("ROLLBACK")?;
                return Ok(Outcome::Missed);
            };
            rows += session.run(&format!("DELETE FROM account WHERE id = {old}"))?;
            rows += session.run(&format!("INSERT INTO account VALUES ({new}, {balance}, 0, 'after {old}')"))?;
        }
        if let Some(touched) = deed.touched {
            rows += session.run(&format!("UPDATE ballast SET touched = touched + 1 WHERE id = {touched}"))?;
        }
        session.run("COMMIT")?;
        Ok(Outcome::Done(rows))
    }
}
