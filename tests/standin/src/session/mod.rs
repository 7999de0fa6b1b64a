//! One client's session, and the backing session that does its work.
//!
//! Messages are worked off in the order in which they come. What the backing session is asked goes into a queue of
//! expected answers ([`pending`]); the answers are read at a Sync, at a Flush, and wherever the stand-in has to know
//! how things stand before it goes on.

mod act;
mod besides;
mod copy;
mod extended;
mod feeding;
mod lookup;
mod pending;
mod receive;
mod simple;
mod startup;
mod transaction;
mod translation;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::Client;

use crate::dialect::Rewritten;
use crate::error::SqlError;
use crate::server::{Canceller, Cluster};
use crate::wire::link::Link;
use crate::wire::{Frame, answer};
use lookup::TableCache;
use pending::{Group, Pending};
use transaction::Transaction;

pub use act::retry_error;
pub use startup::serve;

/// No message of a client may be longer; `sql.conn.max_read_buffer_message_size`.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

#[derive(Debug)]
struct Session {
    cluster: Arc<Cluster>,
    client: Link,
    backing: Link,
    canceller: Arc<Canceller>,
    database: String,
    user: String,
    /// Whether the shapes of its statements are held against the reviewed list.
    watched: bool,
    statements: HashMap<String, Prepared>,
    portals: HashMap<String, Portal>,
    pending: VecDeque<Pending>,
    group: Group,
    protocol: Protocol,
    transaction: Transaction,
    /// Session variables that the stand-in itself goes by.
    variables: HashMap<&'static str, String>,
    tables: TableCache,
    /// A second session, for what must not happen in the client's transaction.
    helper: Option<Client>,
}

/// Decides how the stand-in's own statements end: with a Flush inside a client's group of messages, or with a Sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Simple,
    Extended,
}

/// A prepared statement.
#[derive(Clone, Debug)]
struct Prepared {
    source: Arc<str>,
    /// The parameter types as the client gave them: their number and their object identifiers.
    parameter_types: Bytes,
    rewritten: Arc<Rewritten>,
    moment: translation::Moment,
}

/// A bound statement, with the Bind message for those that the stand-in executes itself.
#[derive(Clone, Debug)]
struct Portal {
    rewritten: Arc<Rewritten>,
    bind: Option<Frame>,
}

impl Session {
    async fn run(&mut self) -> anyhow::Result<()> {
        while let Some(frame) = self.next_message().await? {
            match frame.tag() {
                b'Q' => self.simple(&frame).await?,
                b'P' | b'B' | b'D' | b'E' | b'C' => self.extended(frame).await?,
                b'H' => self.flush().await?,
                b'S' => self.sync().await?,
                b'X' => return Ok(()),
                // The end of a copy that has failed already.
                b'd' | b'c' | b'f' => {}
                other => {
                    let text = format!("unrecognized client message type {:?}", char::from(other));
                    answer::fatal(self.client.output(), &SqlError::new("08P01", text));
                    self.client.flush().await?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Waits for the client's next message, and notices when the backing session ends meanwhile.
    async fn next_message(&mut self) -> anyhow::Result<Option<Frame>> {
        loop {
            if let Some(head) = self.client.head()?.filter(|head| head.body_bytes > MESSAGE_BYTES_MAX) {
                self.client.skip(head).await?;
                self.refuse_long_message(head.tag, head.body_bytes).await?;
                continue;
            }
            if let Some(frame) = self.client.frame()? {
                return Ok(Some(frame));
            }
            tokio::select! {
                more = self.client.exchange() => if !more? { return Ok(None) },
                more = self.backing.ahead() => if !more? {
                    let lost = SqlError::new("57P01", "server is shutting down");
                    answer::fatal(self.client.output(), &lost);
                    self.client.flush().await?;
                    anyhow::bail!("the backing session ended");
                },
            }
        }
    }

    async fn refuse_long_message(&mut self, tag: u8, bytes: usize) -> anyhow::Result<()> {
        let mebibytes = bytes.div_ceil(1 << 20);
        let text = format!("message size {mebibytes} MiB bigger than maximum allowed message size 16 MiB");
        let hint = "the maximum message size can be configured using the \
                    sql.conn.max_read_buffer_message_size cluster setting";
        let error = SqlError::new("08P01", text).hint(hint);
        if tag == b'Q' {
            self.protocol = Protocol::Simple;
            self.fail(&error).await?;
            return self.ready().await;
        }
        self.protocol = Protocol::Extended;
        self.settle().await?;
        self.fail(&error).await
    }

    /// Tells the client of an error that the stand-in found itself, and puts the backing session's transaction into the
    /// state that the client now expects.
    async fn fail(&mut self, error: &SqlError) -> anyhow::Result<()> {
        if self.group.failed {
            return Ok(());
        }
        answer::error(self.client.output(), error);
        // What came before in a group of messages must not be committed by its Sync either.
        if self.transaction.is_open() || self.protocol == Protocol::Extended {
            self.break_transaction().await?;
        }
        self.group.failed = true;
        Ok(())
    }

    /// Ends the answer to a simple query.
    async fn ready(&mut self) -> anyhow::Result<()> {
        self.group = Group::default();
        answer::ready(self.client.output(), self.transaction.client_status());
        Ok(self.client.flush().await?)
    }
}
