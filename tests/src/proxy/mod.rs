//! A network between the engine and a server that fails on demand.
//!
//! ```text
//!   engine --> [ messages: what is it? COMMIT? ] --> server
//!   engine <-- [ bytes: delayed, slowed, withheld ] <-- server
//! ```
//!
//! The proxy follows the client's side of the PostgreSQL protocol (manual, "Message Formats"), so that a fault can
//! strike
//! at a COMMIT of a session of a given role. Connections must not be encrypted.

mod messages;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::wait::wait_for;
use messages::{ClientMessages, CommitAnswers};

/// What happens to a COMMIT, to its connection, and what the server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection is cut and the server never gets the COMMIT: it rolls back.
    CutBeforeCommit,
    /// The server commits, its answer is swallowed, and the connection is cut.
    LoseCommitAnswer,
    /// The server gets the COMMIT and everything behind it only at [`Proxy::release`], even if the client is long gone.
    HoldCommit,
    /// As `HoldCommit`, but from the BEGIN on: the server has seen nothing of the transaction.
    HoldTransaction,
}

#[derive(Debug, Default)]
struct Rules {
    armed: Option<Armed>,
    sprung: u32,
    released: bool,
    paused: bool,
    delay: Duration,
    bytes_per_second: Option<u64>,
    connections: Vec<(TcpStream, TcpStream)>,
    commits: u64,
    sessions: Vec<Arc<Mutex<Session>>>,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    role: String,
    commits_before: u32,
}

#[derive(Debug, Default)]
struct Shared {
    rules: Mutex<Rules>,
    changed: Condvar,
}

/// A proxy to one port of 127.0.0.1. Ends with its value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    upstream: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    /// Starts a proxy that passes everything on.
    pub fn start(upstream: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound port").port();
        let shared = Arc::new(Shared::default());
        let accepting = Arc::downgrade(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(shared) = accepting.upgrade() else { return };
                std::thread::spawn(move || shared.serve(client, upstream));
            }
        });
        Proxy { port, upstream, shared }
    }

    /// Returns this URL with the proxy's port in place of the server's.
    ///
    /// # Panics
    /// If the URL is not one of the server behind the proxy.
    pub fn redirect(&self, url: &str) -> String {
        let server = format!("127.0.0.1:{}", self.upstream);
        assert!(url.contains(&server), "the URL is not one of port {}", self.upstream);
        url.replace(&server, &format!("127.0.0.1:{}", self.port))
    }

    /// Makes the fault strike a COMMIT of a session whose `application_name` ends with `/role`, after this many others.
    pub fn arm(&self, fault: Fault, role: &str, commits_before: u32) {
        let mut rules = self.shared.rules();
        rules.released = false;
        rules.armed = Some(Armed { fault, role: format!("/{role}"), commits_before });
    }

    /// Returns how many faults have struck.
    pub fn sprung(&self) -> u32 {
        self.shared.rules().sprung
    }

    /// Returns how many COMMITs went through.
    pub fn commits(&self) -> u64 {
        self.shared.rules().commits
    }

    /// Does something, such as killing the client, while at least one COMMIT of a session whose `application_name` ends
    /// with `/role` is unanswered: no answer gets through meanwhile. Returns whether there was such a moment within
    /// `limit`; if not, nothing is done.
    pub fn while_unanswered(&self, role: &str, limit: Duration, action: impl FnOnce()) -> bool {
        let role = format!("/{role}");
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let rules = self.shared.rules();
            if rules.sessions.iter().any(|session| session.lock_it().waits_for_a_commit(&role)) {
                action();
                return true;
            }
            drop(rules);
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// Waits until that many faults have struck in all.
    pub fn wait_sprung(&self, count: u32) {
        wait_for(&format!("{count} faults struck"), crate::wait::PATIENCE, || (self.sprung() >= count).then_some(()));
    }

    /// Lets go what a fault holds back.
    pub fn release(&self) {
        self.shared.change(|rules| rules.released = true);
    }

    /// Stops passing anything on, in both directions, until [`Proxy::resume`]. Connections stay open.
    pub fn pause(&self) {
        self.shared.change(|rules| rules.paused = true);
    }

    /// Goes on after [`Proxy::pause`].
    pub fn resume(&self) {
        self.shared.change(|rules| rules.paused = false);
    }

    /// Makes everything that the server sends arrive that much later.
    pub fn delay(&self, delay: Duration) {
        self.shared.change(|rules| rules.delay = delay);
    }

    /// Bounds what the server sends, per connection.
    pub fn throttle(&self, bytes_per_second: Option<u64>) {
        self.shared.change(|rules| rules.bytes_per_second = bytes_per_second);
    }

    /// Cuts every connection in both directions. New ones are let through.
    pub fn cut(&self) {
        self.shared.change(|rules| {
            for (client, server) in rules.connections.drain(..) {
                let _ = client.shutdown(Shutdown::Both);
                let _ = server.shutdown(Shutdown::Both);
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.change(|rules| {
            rules.released = true;
            rules.paused = false;
        });
        self.cut();
        // Wakes the accepting thread, which then finds that the proxy is gone.
        self.shared = Arc::default();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

/// What the two sides of one connection know of each other.
#[derive(Debug, Default)]
struct Session {
    application_name: String,
    /// COMMITs that went up and whose answers have not come down.
    unanswered: i64,
    /// Whether answers are swallowed, and the connection is cut once the COMMIT has been answered.
    swallows: bool,
    /// Whether the client has gone: it waits for nothing any more.
    ended: bool,
}

impl Session {
    fn waits_for_a_commit(&self, role: &str) -> bool {
        !self.ended && self.unanswered > 0 && self.application_name.ends_with(role)
    }
}

trait LockIt<T> {
    fn lock_it(&self) -> MutexGuard<'_, T>;
}

impl<T> LockIt<T> for Mutex<T> {
    /// A panic elsewhere fails its own test; what it held is still good.
    fn lock_it(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock_it()
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        change(&mut self.rules());
        self.changed.notify_all();
    }

    fn wait_while(&self, condition: impl Fn(&Rules) -> bool) {
        drop(self.changed.wait_while(self.rules(), |rules| condition(rules)).unwrap_or_else(PoisonError::into_inner));
    }

    fn serve(self: Arc<Self>, client: TcpStream, upstream: u16) {
        self.wait_while(|rules| rules.paused);
        let Ok(server) = TcpStream::connect(("127.0.0.1", upstream)) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let copies = (client.try_clone(), server.try_clone(), client.try_clone(), server.try_clone());
        let (Ok(a), Ok(b), Ok(answers_to), Ok(answers_from)) = copies else { return };
        self.rules().connections.push((a, b));
        let session = Arc::new(Mutex::new(Session::default()));
        self.rules().sessions.push(Arc::clone(&session));
        let (shared, same) = (Arc::clone(&self), Arc::clone(&session));
        std::thread::spawn(move || shared.pass_answers(answers_from, answers_to, &same));
        self.pass_requests(client, server, &session);
        session.lock_it().ended = true;
        self.rules().sessions.retain(|known| !Arc::ptr_eq(known, &session));
    }

    fn pass_requests(&self, mut client: TcpStream, mut server: TcpStream, session: &Mutex<Session>) {
        let mut messages = ClientMessages::default();
        let mut held: Option<Vec<u8>> = None;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = client.read(&mut buffer).unwrap_or(0);
            if read == 0 {
                break;
            }
            self.wait_while(|rules| rules.paused);
            messages.push(&buffer[..read]);
            while let Some(message) = messages.next() {
                let fault = self.fault_at(&messages, message.begins, message.commits);
                if let Some(held) = held.as_mut() {
                    held.extend_from_slice(&message.bytes);
                    continue;
                }
                match fault {
                    None => {}
                    Some(Fault::CutBeforeCommit) => {
                        let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
                        return;
                    }
                    Some(Fault::LoseCommitAnswer) => {
                        session.lock_it().swallows = true;
                    }
                    Some(Fault::HoldCommit | Fault::HoldTransaction) => {
                        held = Some(message.bytes);
                        continue;
                    }
                }
                if message.commits {
                    let mut session = session.lock_it();
                    messages.application_name().clone_into(&mut session.application_name);
                    session.unanswered += 1;
                }
                if server.write_all(&message.bytes).is_err() {
                    break;
                }
            }
        }
        if let Some(held) = held {
            self.wait_while(|rules| !rules.released);
            let _ = server.write_all(&held);
        }
        let _ = server.shutdown(Shutdown::Write);
    }

    /// Decides whether the armed fault strikes at this message, and disarms it if so.
    fn fault_at(&self, messages: &ClientMessages, begins: bool, commits: bool) -> Option<Fault> {
        if !begins && !commits {
            return None;
        }
        let mut rules = self.rules();
        if commits {
            rules.commits += 1;
        }
        let armed = rules.armed.as_mut().filter(|armed| messages.application_name().ends_with(&armed.role))?;
        let strikes_at_begin = armed.fault == Fault::HoldTransaction;
        if armed.commits_before > 0 {
            armed.commits_before -= u32::from(commits);
            return None;
        }
        if strikes_at_begin != begins {
            return None;
        }
        let fault = armed.fault;
        rules.armed = None;
        rules.sprung += 1;
        drop(rules);
        self.changed.notify_all();
        Some(fault)
    }

    fn pass_answers(&self, mut server: TcpStream, mut client: TcpStream, session: &Mutex<Session>) {
        let mut buffer = vec![0; 1 << 16];
        let mut answers = CommitAnswers::default();
        loop {
            let read = server.read(&mut buffer).unwrap_or(0);
            if read == 0 {
                break;
            }
            let arrived = Instant::now();
            self.wait_while(|rules| rules.paused);
            let seen = answers.push(&buffer[..read]);
            if session.lock_it().swallows {
                if seen.commits > 0 {
                    let _ = (client.shutdown(Shutdown::Both), server.shutdown(Shutdown::Both));
                    return;
                }
                continue;
            }
            let (delay, rate) = {
                let rules = self.rules();
                (rules.delay, rules.bytes_per_second)
            };
            let slow = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(read as f64 / rate.max(1) as f64));
            std::thread::sleep((delay + slow).saturating_sub(arrived.elapsed()));
            {
                // Under the lock of `while_unanswered`: what it sees as unanswered is not answered behind its back.
                let _rules = self.rules();
                let mut session = session.lock_it();
                // Behind an error COMMITs may get no answer: then none is known to be under way.
                session.unanswered = if seen.failed { 0 } else { session.unanswered - seen.commits };
            }
            if client.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Write);
    }
}
