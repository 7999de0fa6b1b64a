//! The simple query protocol.

use std::sync::Arc;

use super::pending::{Group, Pending, Step};
use super::receive::Until;
use super::{Protocol, Session};
use crate::dialect::lexer::{self, Statement};
use crate::dialect::{self, Action, Rewritten};
use crate::error::SqlError;
use crate::wire::{Fields, Frame, answer};

/// How often a statement that is a transaction of its own is run again before its client hears of it.
pub const RETRIES_MAX: u32 = 10;

impl Session {
    pub async fn simple(&mut self, frame: &Frame) -> anyhow::Result<()> {
        self.protocol = Protocol::Simple;
        self.group = Group::default();
        let sql = Fields::of(frame).text().unwrap_or_default();
        match lexer::statements(&sql) {
            Err(error) => self.fail(&error).await?,
            Ok(statements) if statements.is_empty() => {
                crate::wire::link::message(self.client.output(), b'I', |_| ());
            }
            Ok(statements) => self.run_all(&statements).await?,
        }
        self.ready().await
    }

    async fn run_all(&mut self, statements: &[Statement<'_>]) -> anyhow::Result<()> {
        if let Some(together) = self.plain(statements).await? {
            return self.run_together(&together).await;
        }
        // A batch is one transaction, unless it says otherwise.
        let own = statements.len() > 1
            && self.transaction.client_status() == b'I'
            && !statements.iter().any(|statement| is_control(statement) || dialect::is_ddl(statement));
        if own && let Err(error) = self.own_statement("BEGIN").await? {
            return self.fail(&error).await;
        }
        for statement in statements {
            self.run_one(statement).await?;
            if self.group.failed {
                break;
            }
        }
        if own && self.transaction.status != b'I' {
            let end = if self.group.failed { "ROLLBACK" } else { "COMMIT" };
            if let Err(error) = self.own_statement(end).await? {
                answer::error(self.client.output(), &error);
            }
        }
        Ok(())
    }

    /// Returns the statements of a batch if each can be rewritten without knowing what the ones before it do.
    async fn plain(&mut self, statements: &[Statement<'_>]) -> anyhow::Result<Option<Vec<Arc<Rewritten>>>> {
        if statements.len() < 2 || statements.iter().any(|statement| self.depends(statement)) {
            return Ok(None);
        }
        let mut all = Vec::new();
        for statement in statements {
            match self.rewrite(statement).await? {
                Ok(rewritten) if rewritten.is_plain() => all.push(Arc::new(rewritten)),
                // Told when its turn comes.
                _ => return Ok(None),
            }
        }
        Ok(Some(all))
    }

    async fn run_together(&mut self, statements: &[Arc<Rewritten>]) -> anyhow::Result<()> {
        if let Some(error) = self.before_statement().await? {
            return self.fail(&error).await;
        }
        let texts: Vec<&str> = statements.iter().map(|statement| statement.sql.as_str()).collect();
        self.query(&texts.join(";\n"), statements).await
    }

    async fn run_one(&mut self, statement: &Statement<'_>) -> anyhow::Result<()> {
        let rewritten = match self.rewrite(statement).await? {
            Ok(rewritten) => Arc::new(rewritten),
            Err(error) => return self.fail(&error).await,
        };
        if rewritten.action == Action::Feed {
            return self.feed_simple(statement.span(0..statement.len())).await;
        }
        if rewritten.action != Action::None {
            return match self.act(&rewritten, None).await? {
                Ok(tag) => {
                    answer::complete(self.client.output(), &tag);
                    Ok(())
                }
                Err(error) => self.fail(&error).await,
            };
        }
        if let Some(error) = self.before_statement().await? {
            return self.fail(&error).await;
        }
        if rewritten.ddl
            && let Err(error) = self.before_ddl().await?
        {
            return self.fail(&error).await;
        }
        if rewritten.past && self.transaction.status == b'I' {
            return self.query_past(&rewritten).await;
        }
        self.query(&rewritten.sql, std::slice::from_ref(&rewritten)).await?;
        if rewritten.ddl {
            self.after_ddl();
        }
        Ok(())
    }

    /// A statement that reads the past gets a transaction that is not serializable.
    async fn query_past(&mut self, rewritten: &Arc<Rewritten>) -> anyhow::Result<()> {
        answer::query(self.backing.output(), &format!("{};\n{};\nCOMMIT", dialect::BEGIN_PAST, rewritten.sql));
        let own = Pending::Own(Step::Execute);
        self.pending.extend([own.clone(), Pending::Execute(rewritten.clone()), own]);
        let received = self.receive(Until::Ready).await?;
        if let Some(error) = received.error {
            self.own_statement("ROLLBACK").await??;
            answer::error(self.client.output(), &error);
            self.group.failed = true;
        }
        Ok(())
    }

    /// Sends a query, again while the backing server asks for it and the client has seen nothing of it.
    async fn query(&mut self, sql: &str, statements: &[Arc<Rewritten>]) -> anyhow::Result<()> {
        let alone = self.transaction.status == b'I';
        for attempt in 0.. {
            let from = self.client.output_bytes();
            answer::query(self.backing.output(), sql);
            self.pending = statements.iter().cloned().map(Pending::Execute).collect();
            let mut received = self.receive(Until::Ready).await?;
            if let Some(copy) = received.copy_in.take() {
                received = self.copy_in(&copy).await?;
                self.group.settled = true;
            }
            let Some(error) = received.error else { return Ok(()) };
            if alone && error.code == "40001" && !self.group.settled && attempt < RETRIES_MAX {
                self.client.output().truncate(from);
                back_off(attempt).await;
                continue;
            }
            // The results of an implicit transaction are not told before it has committed.
            if alone && !self.group.settled && statements.len() == 1 {
                self.client.output().truncate(from);
            }
            answer::error(self.client.output(), &error);
            self.group.failed = true;
            return Ok(());
        }
        Ok(())
    }

    /// Runs one of the stand-in's own statements without rows.
    pub async fn own_statement(&mut self, sql: &str) -> anyhow::Result<Result<(), SqlError>> {
        Ok(self.own(sql, &[]).await?.map(drop))
    }
}

fn is_control(statement: &Statement<'_>) -> bool {
    statement.is_any(0, &["begin", "start", "commit", "end", "rollback", "abort", "savepoint", "release"])
}

/// Lets the other transaction finish: a little longer each time.
pub async fn back_off(attempt: u32) {
    let most = 2u64 << attempt.min(6);
    tokio::time::sleep(std::time::Duration::from_millis(fastrand::u64(1..=most))).await;
}
