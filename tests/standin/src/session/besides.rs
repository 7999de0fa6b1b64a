//! Settings, databases, zones and jobs: what happens outside the client's transaction.

use super::feeding::bound;
use super::{Portal, Session};
use crate::dialect::{Action, Rewritten};
use crate::error::SqlError;
use crate::jobs::{self, Control};
use crate::wire::answer;
use crate::{dialect, install};

impl Session {
    pub async fn act_besides(
        &mut self,
        rewritten: &Rewritten,
        portal: Option<&Portal>,
    ) -> anyhow::Result<Result<String, SqlError>> {
        match &rewritten.action {
            Action::SetVariable { name, value, sql } => {
                let done = self.own(sql, &[]).await?;
                if done.is_ok() {
                    self.variables.insert(name, value.clone());
                }
                Ok(done.map(|_| "SET".to_owned()))
            }
            Action::SetClusterSetting { name, value } => {
                let done = self.cluster.settings.set(name, value.as_deref()).await;
                Ok(done.map(|()| "SET CLUSTER SETTING".to_owned()))
            }
            Action::ConfigureZone { zone, values } => {
                let done = self.cluster.settings.configure_zone(zone, values).await;
                Ok(done.map(|()| "CONFIGURE ZONE 1".to_owned()))
            }
            Action::CreateDatabase { name, if_not_exists } => Ok(self.create_database(name, *if_not_exists).await),
            Action::DropDatabase { name, if_exists } => Ok(self.drop_database(name, *if_exists).await),
            Action::ControlJobs { control, ids } => {
                let backing = self.cluster.backing.config(&self.database);
                let done = jobs::control(&backing, &self.cluster.settings, *control, ids).await;
                let verb = match control {
                    Control::Pause => "PAUSE",
                    Control::Resume => "RESUME",
                    Control::Cancel => "CANCEL",
                };
                Ok(done.map(|()| format!("{verb} JOBS {}", ids.len())))
            }
            Action::CreateJob => self.create_job(rewritten, portal).await,
            _ => Ok(Err(SqlError::uncoded("the stand-in does not know how to do this"))),
        }
    }

    async fn create_database(&mut self, name: &str, if_not_exists: bool) -> Result<String, SqlError> {
        let client = self.cluster.backing.client("postgres").await?;
        match client.batch_execute(&install::create_sql(name)).await.map_err(SqlError::from) {
            Ok(()) => {
                let owner = format!(
                    "ALTER DATABASE {} OWNER TO {}",
                    dialect::names::quoted(name),
                    dialect::names::quoted(&self.user)
                );
                client.batch_execute(&owner).await?;
            }
            Err(error) if error.code == "42P04" && if_not_exists => {}
            Err(error) => return Err(error),
        }
        Ok("CREATE DATABASE".to_owned())
    }

    async fn drop_database(&mut self, name: &str, if_exists: bool) -> Result<String, SqlError> {
        if name == self.database {
            return Err(SqlError::new("42P12", "cannot drop the database that the session is in"));
        }
        let client = self.cluster.backing.client("postgres").await?;
        let exists = if if_exists { "IF EXISTS " } else { "" };
        let sql = format!("DROP DATABASE {exists}{} WITH (FORCE)", dialect::names::quoted(name));
        client.batch_execute(&sql).await?;
        Ok("DROP DATABASE".to_owned())
    }

    async fn create_job(
        &mut self,
        rewritten: &Rewritten,
        portal: Option<&Portal>,
    ) -> anyhow::Result<Result<String, SqlError>> {
        let (parameters, formats) = portal.and_then(bound).unwrap_or_default();
        let request = match self.feed_request(&rewritten.source, parameters).await? {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let (id, notices) = match jobs::create(&request).await {
            Ok(made) => made,
            Err(error) => return Ok(Err(error)),
        };
        for text in notices {
            answer::notice(self.client.output(), "NOTICE", &SqlError::new("00000", text));
        }
        if portal.is_none() {
            answer::columns(self.client.output(), &[("job_id", answer::INT8)]);
        }
        let text = id.to_string();
        let binary = id.to_be_bytes();
        let value = if formats[0] { binary.as_slice() } else { text.as_bytes() };
        answer::data_row(self.client.output(), &[Some(value)]);
        Ok(Ok("CREATE CHANGEFEED 1".to_owned()))
    }
}
