//! The extended query protocol: Parse, Bind, Describe, Execute, Close, up to a Sync or Flush.

use std::sync::Arc;

use anyhow::Context;

use super::pending::{Group, Pending};
use super::receive::Until;
use super::simple::{RETRIES_MAX, back_off};
use super::{Portal, Prepared, Protocol, Session};
use crate::dialect::lexer;
use crate::dialect::{Action, Rewritten};
use crate::error::SqlError;
use crate::wire::link::message;
use crate::wire::{Fields, Frame, answer};

/// A group of messages that is longer than this is passed on before its Sync.
const UNSENT_BYTES_MAX: usize = 4 << 20;

impl Session {
    pub async fn extended(&mut self, frame: Frame) -> anyhow::Result<()> {
        if self.group.failed {
            return Ok(());
        }
        self.protocol = Protocol::Extended;
        match frame.tag() {
            b'P' => self.parse(&frame).await?,
            b'B' => self.bind(frame).await?,
            b'D' => self.describe(frame),
            b'E' => self.execute(frame).await?,
            _ => self.close(frame),
        }
        if self.backing.output_bytes() > UNSENT_BYTES_MAX {
            self.group.settled = true;
            self.settle().await?;
        }
        Ok(())
    }

    async fn parse(&mut self, frame: &Frame) -> anyhow::Result<()> {
        let mut fields = Fields::of(frame);
        let name = fields.text().context("Parse without a name")?;
        let source: Arc<str> = fields.text().context("Parse without a text")?.into();
        let parameter_types = fields.rest();
        let rewritten = match self.rewrite_prepared(&source).await? {
            Ok(rewritten) => Arc::new(rewritten),
            Err(error) => {
                self.settle().await?;
                return self.fail(&error).await;
            }
        };
        if self.group.failed {
            return Ok(());
        }
        let mut message = bytes::BytesMut::new();
        answer::parse(&mut message, &name, &rewritten.sql, &parameter_types);
        self.send(Frame::new(message.freeze()), Pending::Parse);
        let moment = self.moment();
        self.statements.insert(name, Prepared { source, parameter_types, rewritten, moment });
        Ok(())
    }

    async fn rewrite_prepared(&mut self, source: &str) -> anyhow::Result<Result<Rewritten, SqlError>> {
        match lexer::statements(source) {
            Err(error) => Ok(Err(error)),
            Ok(statements) => match statements.as_slice() {
                [] => Ok(Ok(Rewritten::plain(source.to_owned()))),
                [statement] if statement.is(0, "copy") => {
                    let way = if crate::dialect::copies_out(statement) { "CopyTo" } else { "CopyFrom" };
                    Ok(Err(SqlError::uncoded(format!("{way} not supported in extended protocol mode"))))
                }
                [statement] => self.rewrite(statement).await,
                more => {
                    let text = format!("prepared statement had {} statements, expected 1", more.len());
                    Ok(Err(SqlError::new("42601", text)))
                }
            },
        }
    }

    async fn bind(&mut self, frame: Frame) -> anyhow::Result<()> {
        let mut fields = Fields::of(&frame);
        let portal = fields.text().context("Bind without a portal")?;
        let name = fields.text().context("Bind without a statement")?;
        let Some(prepared) = self.statements.get(&name).cloned() else {
            self.settle().await?;
            let text = format!("unknown prepared statement {name:?}");
            return self.fail(&SqlError::new("26000", text)).await;
        };
        let rewritten = match self.refreshed(&name, prepared).await? {
            Ok(rewritten) => rewritten,
            Err(error) => {
                self.settle().await?;
                return self.fail(&error).await;
            }
        };
        if rewritten.past {
            self.wrap().await?;
        }
        if self.group.failed {
            return Ok(());
        }
        // The parameters of what is passed on are not kept: they may be large.
        let bind = (rewritten.action != Action::None).then(|| frame.clone());
        self.portals.insert(portal, Portal { rewritten, bind });
        self.send(frame, Pending::Bind);
        Ok(())
    }

    /// Begins a transaction that is not serializable for a statement that reads the past; the Sync ends it.
    pub async fn wrap(&mut self) -> anyhow::Result<()> {
        let needed = self.protocol == Protocol::Extended && self.transaction.status == b'I';
        if !needed || self.group.wrapped || self.group.failed {
            return Ok(());
        }
        self.group.wrapped = true;
        self.group.settled = true;
        match self.own(crate::dialect::BEGIN_PAST, &[]).await? {
            Ok(_) => Ok(()),
            Err(error) => self.fail(&error).await,
        }
    }

    /// A statement whose text depends on when it runs is prepared anew where that has moved on.
    async fn refreshed(&mut self, name: &str, prepared: Prepared) -> anyhow::Result<Result<Arc<Rewritten>, SqlError>> {
        let moment = self.moment();
        if !prepared.rewritten.of_moment && prepared.moment.as_of == moment.as_of || prepared.moment == moment {
            return Ok(Ok(prepared.rewritten));
        }
        let rewritten = match self.rewrite_prepared(&prepared.source).await? {
            Ok(rewritten) => Arc::new(rewritten),
            Err(error) => return Ok(Err(error)),
        };
        if rewritten.sql != prepared.rewritten.sql && !self.group.failed {
            self.own_parse(name, &rewritten.sql, &prepared.parameter_types);
        }
        let again = Prepared { rewritten: rewritten.clone(), moment, ..prepared };
        self.statements.insert(name.to_owned(), again);
        Ok(Ok(rewritten))
    }

    fn describe(&mut self, frame: Frame) {
        let portal = frame.body().first() == Some(&b'P');
        self.send(frame, if portal { Pending::DescribePortal } else { Pending::DescribeStatement });
    }

    fn close(&mut self, frame: Frame) {
        let mut fields = Fields::of(&frame);
        let kind = fields.byte();
        if let Some(name) = fields.text() {
            match kind {
                Some(b'S') => drop(self.statements.remove(&name)),
                _ => drop(self.portals.remove(&name)),
            }
        }
        self.send(frame, Pending::Close);
    }

    async fn execute(&mut self, frame: Frame) -> anyhow::Result<()> {
        let name = Fields::of(&frame).text().context("Execute without a portal")?;
        let Some(portal) = self.portals.get(&name).cloned() else {
            self.settle().await?;
            let text = format!("unknown portal {name:?}");
            return self.fail(&SqlError::new("34000", text)).await;
        };
        let rewritten = portal.rewritten.clone();
        if rewritten.action != Action::None {
            return self.execute_action(portal).await;
        }
        if self.has_duties() || rewritten.ddl {
            self.settle().await?;
            if self.group.failed {
                return Ok(());
            }
            if let Some(error) = self.before_statement().await? {
                return self.fail(&error).await;
            }
        }
        self.group.executed += 1;
        if !rewritten.ddl {
            self.transaction.used = true;
            self.send(frame, Pending::Execute(rewritten));
            return Ok(());
        }
        if let Err(error) = self.before_ddl().await? {
            return self.fail(&error).await;
        }
        self.send(frame, Pending::Execute(rewritten));
        self.settle().await?;
        self.after_ddl();
        Ok(())
    }

    async fn execute_action(&mut self, portal: Portal) -> anyhow::Result<()> {
        self.group.settled = true;
        self.settle().await?;
        if self.group.failed {
            return Ok(());
        }
        if portal.rewritten.action == Action::Feed {
            return self.feed_extended(&portal).await;
        }
        match self.act(&portal.rewritten.clone(), Some(&portal)).await? {
            Ok(tag) => answer::complete(self.client.output(), &tag),
            Err(error) => self.fail(&error).await?,
        }
        Ok(())
    }

    /// Passes a message on, and remembers it in case the statement has to be run again.
    fn send(&mut self, frame: Frame, pending: Pending) {
        self.backing.push(&frame);
        if !self.group.settled && (!self.group.replay.is_empty() || matches!(pending, Pending::Bind)) {
            self.group.replay.push((frame, pending.clone()));
        }
        self.pending.push_back(pending);
    }

    /// Waits until all that was asked is answered. An error is told to the client, and fails the group.
    pub async fn settle(&mut self) -> anyhow::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.group.settled = true;
        answer::flush(self.backing.output());
        let received = self.receive(Until::Answered).await?;
        if let Some(error) = received.error {
            answer::error(self.client.output(), &error);
            self.group.failed = true;
        }
        Ok(())
    }

    pub async fn flush(&mut self) -> anyhow::Result<()> {
        if !self.group.failed {
            self.settle().await?;
        }
        Ok(self.client.flush().await?)
    }

    /// Ends a group of messages: with its transaction, unless BEGIN came before.
    pub async fn sync(&mut self) -> anyhow::Result<()> {
        let alone = self.transaction.status == b'I' && self.group.executed == 1;
        if self.group.wrapped && !self.group.failed {
            self.settle().await?;
        }
        if self.group.wrapped
            && !self.group.failed
            && let Err(error) = self.own("COMMIT", &[]).await?
        {
            answer::error(self.client.output(), &error);
            self.group.failed = true;
        }
        for attempt in 0.. {
            answer::sync(self.backing.output());
            let received = self.receive(Until::Ready).await?;
            let Some(error) = received.error else { break };
            // The results of an implicit transaction are not told before it has committed.
            let from = self.group.replay_from.take().filter(|_| alone && !self.group.settled);
            if let Some(from) = from {
                self.client.output().truncate(from);
            }
            if from.is_some() && error.code == "40001" && attempt < RETRIES_MAX {
                back_off(attempt).await;
                for (frame, pending) in &self.group.replay {
                    self.backing.push(frame);
                    self.pending.push_back(pending.clone());
                }
                continue;
            }
            if !self.group.failed {
                answer::error(self.client.output(), &error);
            }
            break;
        }
        if self.group.wrapped && self.transaction.status != b'I' {
            self.protocol = Protocol::Simple;
            self.own_statement("ROLLBACK").await??;
        }
        self.group = Group::default();
        answer::ready(self.client.output(), self.transaction.client_status());
        Ok(self.client.flush().await?)
    }
}

/// Closes and prepares a statement without the client hearing of it.
impl Session {
    fn own_parse(&mut self, name: &str, sql: &str, parameter_types: &[u8]) {
        use super::pending::Step;
        answer::close_statement(self.backing.output(), name);
        self.pending.push_back(Pending::Own(Step::Close));
        message(self.backing.output(), b'P', |out| {
            crate::wire::link::text(out, name);
            crate::wire::link::text(out, sql);
            out.extend_from_slice(parameter_types);
        });
        self.pending.push_back(Pending::Own(Step::Parse));
    }
}
