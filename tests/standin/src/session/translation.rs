//! From a statement of the client to what becomes of it.

use super::Session;
use crate::dialect::lexer::Statement;
use crate::dialect::{self, Context, Known, Needs, Rewritten};
use crate::error::SqlError;
use crate::history::{self, Hlc};
use crate::jobs;

/// What a rewritten statement depends on besides its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub schema_changes: u64,
    /// The time that the transaction reads at.
    pub as_of: Option<Hlc>,
}

impl Session {
    pub fn moment(&self) -> Moment {
        Moment { schema_changes: self.cluster.schema_changes(), as_of: self.transaction.as_of }
    }

    /// Returns whether a statement cannot be rewritten before the ones ahead of it have run.
    pub fn depends(&self, statement: &Statement<'_>) -> bool {
        dialect::needs(statement, &self.context(None)).map_or(true, |needs| needs != Needs::default())
    }

    pub async fn rewrite(&mut self, statement: &Statement<'_>) -> anyhow::Result<Result<Rewritten, SqlError>> {
        if let Some(shapes) = self.cluster.shapes.as_ref().filter(|_| self.watched)
            && let Err(error) = shapes.check(statement)
        {
            return Ok(Err(error));
        }
        let needs = match dialect::needs(statement, &self.context(self.transaction.as_of)) {
            Ok(needs) => needs,
            Err(error) => return Ok(Err(error)),
        };
        let as_of = match &needs.as_of {
            None => self.transaction.as_of,
            Some(text) => match self.read_point(text).await? {
                Ok(at) => Some(at),
                Err(error) => return Ok(Err(error)),
            },
        };
        if as_of.is_some() {
            // Before anything is asked about tables: the transaction's level cannot be chosen after that.
            self.wrap().await?;
        }
        let known = match self.find_out(&needs, as_of).await? {
            Ok(known) => known,
            Err(error) => return Ok(Err(error)),
        };
        Ok(dialect::rewrite(statement, &self.context(as_of), &known))
    }

    fn context(&self, as_of: Option<Hlc>) -> Context<'_> {
        Context {
            database: &self.database,
            user: &self.user,
            version: self.cluster.version,
            banner: &self.cluster.banner,
            builtins: &self.cluster.builtins,
            cluster_id: &self.cluster.id,
            as_of,
        }
    }

    async fn find_out(&mut self, needs: &Needs, as_of: Option<Hlc>) -> anyhow::Result<Result<Known, SqlError>> {
        let mut known = Known::default();
        for name in &needs.tables {
            match self.table(name).await? {
                Ok(Some(info)) => drop(known.tables.insert(name.clone(), info)),
                Ok(None) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        if let Err(error) = self.find_sources(needs, as_of, &mut known).await? {
            return Ok(Err(error));
        }
        if let Some(name) = &needs.setting {
            match self.cluster.settings.show(name) {
                Ok(found) => known.setting = Some(found),
                Err(error) => return Ok(Err(error)),
            }
        }
        known.zone = needs.zone.as_ref().map(|zone| self.cluster.settings.zone_configuration(zone));
        if needs.sessions {
            known.clients = self.cluster.clients();
        }
        if let Some(query) = needs.jobs {
            let backing = self.cluster.backing.config(&self.database);
            let settings = &self.cluster.settings;
            let table = match query.changefeeds {
                true => jobs::show_changefeed_jobs(&backing, settings, query.id).await,
                false => jobs::show_jobs(&backing, settings, query.id).await,
            };
            match table {
                Ok(table) => known.jobs = Some(table),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(known))
    }

    /// Finds what stands in for the tables that are read: their rows of the past, or with their timestamps.
    async fn find_sources(
        &mut self,
        needs: &Needs,
        as_of: Option<Hlc>,
        known: &mut Known,
    ) -> anyhow::Result<Result<(), SqlError>> {
        if as_of.is_none() && !needs.mvcc {
            return Ok(Ok(()));
        }
        let cluster = self.cluster.clone();
        let database = self.database.clone();
        for name in &needs.read {
            let Some(info) = known.tables.get(name).filter(|info| info.stored) else { continue };
            let helper = match self.helper().await? {
                Ok(helper) => helper,
                Err(error) => return Ok(Err(error)),
            };
            let (schema, table) = (&info.schema, &info.table);
            let source = match as_of {
                Some(at) => history::as_of(helper, &cluster.settings, &database, schema, table, at, needs.mvcc).await,
                None => history::with_mvcc(helper, schema, table).await,
            };
            match source {
                Ok(source) => drop(known.sources.insert(name.clone(), source)),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }
}
