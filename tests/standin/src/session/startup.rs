//! How a client's session begins.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::lookup::TableCache;
use super::pending::Group;
use super::transaction::Transaction;
use super::{Protocol, Session};
use crate::dialect::variables::{self, Variable};
use crate::error::SqlError;
use crate::install;
use crate::server::Cluster;
use crate::wire::answer;
use crate::wire::link::Link;
use crate::wire::startup::{self, Welcome};

/// Statements of sessions whose application name begins so are held against the reviewed shapes.
const WATCHED: &str = "tidegate/";
const NAME_BYTES_MAX: usize = 63;

/// What a client asked for.
#[derive(Debug, Default)]
struct Wishes {
    user: String,
    database: String,
    application: String,
    /// Settings of the backing session, in the order given.
    settings: Vec<(String, String)>,
    variables: HashMap<&'static str, String>,
}

/// Serves one client until it leaves.
pub async fn serve(mut client: Link, parameters: Vec<(String, String)>, cluster: Arc<Cluster>) -> anyhow::Result<()> {
    let begun = begin(&mut client, parameters, &cluster).await?;
    let (wishes, backing, welcome) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            answer::fatal(client.output(), &error);
            return Ok(client.flush().await?);
        }
    };
    let (key, canceller) = cluster.register(welcome.key, &wishes.user);
    startup::welcome(&mut client, &reported(&wishes, &welcome, &cluster), key);
    client.flush().await?;
    let mut session = Session {
        cluster: cluster.clone(),
        client,
        backing,
        canceller,
        database: wishes.database,
        user: wishes.user,
        watched: wishes.application.starts_with(WATCHED),
        statements: HashMap::new(),
        portals: HashMap::new(),
        pending: VecDeque::new(),
        group: Group::default(),
        protocol: Protocol::Simple,
        transaction: Transaction::default(),
        variables: wishes.variables,
        tables: TableCache::default(),
        helper: None,
    };
    let ended = session.run().await;
    cluster.forget(key);
    // What still runs for a client that left is ended, as CockroachDB does.
    if ended.is_err() {
        let _ = cluster.backing.cancel(welcome.key).await;
    }
    ended
}

async fn begin(
    client: &mut Link,
    parameters: Vec<(String, String)>,
    cluster: &Cluster,
) -> anyhow::Result<Result<(Wishes, Link, Welcome), SqlError>> {
    let wishes = match wishes(parameters, cluster) {
        Ok(wishes) => wishes,
        Err(error) => return Ok(Err(error)),
    };
    if let Some(password) = &cluster.password
        && startup::password(client).await? != *password
    {
        let text = format!("password authentication failed for user {}", wishes.user);
        return Ok(Err(SqlError::new("28P01", text)));
    }
    if wishes.database == install::TEMPLATE {
        return Ok(Err(unknown_database(&wishes.database)));
    }
    let mut options: Vec<(&str, &str)> = vec![
        ("application_name", &wishes.application),
        ("client_encoding", "UTF8"),
        ("default_transaction_isolation", "serializable"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        // The types of a client's parameters are decided by the statement alone, and plans do not change on the way.
        ("jit", "off"),
    ];
    options.extend(wishes.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let (mut backing, welcome) = match cluster.backing.session(&wishes.database, &options).await? {
        Ok(begun) => begun,
        Err(error) if error.code == "3D000" => return Ok(Err(unknown_database(&wishes.database))),
        Err(error) => return Ok(Err(error)),
    };
    // A database that was made past the stand-in lacks what the template brings.
    if run(&mut backing, "SELECT 1 FROM standin_catalog.installed LIMIT 0").await?.is_some()
        && let Err(error) = install::database(&cluster.backing, &wishes.database).await
    {
        return Ok(Err(error));
    }
    let become_user = format!("SET SESSION AUTHORIZATION \"{}\"", wishes.user.replace('"', "\"\""));
    Ok(match run(&mut backing, &become_user).await? {
        Some(_) => Err(SqlError::new("28000", format!("user {} does not exist", wishes.user))),
        None => Ok((wishes, backing, welcome)),
    })
}

fn unknown_database(name: &str) -> SqlError {
    SqlError::new("3D000", format!("database {name:?} does not exist"))
}

/// Runs a statement before the relay begins; returns the error, if there was one.
async fn run(backing: &mut Link, sql: &str) -> anyhow::Result<Option<SqlError>> {
    answer::query(backing.output(), sql);
    let mut error = None;
    loop {
        let Some(frame) = backing.next().await? else { anyhow::bail!("the backing session ended") };
        match frame.tag() {
            b'E' => error = Some(crate::translate::plain(&frame)),
            b'Z' => return Ok(error),
            _ => {}
        }
    }
}

fn wishes(parameters: Vec<(String, String)>, cluster: &Cluster) -> Result<Wishes, SqlError> {
    let mut wishes = Wishes { database: install::FIRST_DATABASE.to_owned(), ..Wishes::default() };
    for (name, value) in parameters {
        match name.as_str() {
            "user" => wishes.user = value,
            "database" if !value.is_empty() => wishes.database = value,
            "database" => {}
            "application_name" => wishes.application = value,
            "replication" if matches!(value.as_str(), "false" | "off" | "no" | "0") => {}
            "replication" => {
                let text = "unimplemented: replication protocol not supported";
                return Err(SqlError::new("0A000", text));
            }
            "options" => {
                for (name, value) in options(&value)? {
                    wish(&mut wishes, &name, &value, cluster)?;
                }
            }
            _ => wish(&mut wishes, &name, &value, cluster)?,
        }
    }
    if wishes.user.is_empty() || wishes.user.len() > NAME_BYTES_MAX {
        return Err(SqlError::new("28000", "no user name was given"));
    }
    Ok(wishes)
}

fn wish(wishes: &mut Wishes, name: &str, value: &str, cluster: &Cluster) -> Result<(), SqlError> {
    let lower = name.to_lowercase();
    match variables::find(&lower, cluster.version)? {
        Variable::Backing(setting) => wishes.settings.push((setting.to_owned(), value.to_owned())),
        Variable::Own { name, setting, .. } => {
            let value = variables::check(&lower, value, cluster.version)?;
            wishes.settings.push((setting, value.clone()));
            wishes.variables.insert(name, value);
        }
        Variable::Custom(setting) => wishes.settings.push((setting, value.to_owned())),
        Variable::Fixed(_) => {
            return Err(SqlError::new("55P02", format!("parameter {name:?} cannot be changed")));
        }
    }
    Ok(())
}

/// Takes `-c name=value`, `-cname=value` and `--name=value` apart; a backslash keeps the next character as it is.
fn options(text: &str) -> Result<Vec<(String, String)>, SqlError> {
    let mut words: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => word.extend(characters.next()),
            ' ' if word.is_empty() => {}
            ' ' => words.push(std::mem::take(&mut word)),
            other => word.push(other),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    let mut found = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--").or_else(|| word.strip_prefix("-c")) {
            Some("") => words.next().unwrap_or_default(),
            Some(setting) => setting.to_owned(),
            None => return Err(bad_option(&word)),
        };
        let (name, value) = setting.split_once('=').ok_or_else(|| bad_option(&setting))?;
        found.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(found)
}

fn bad_option(option: &str) -> SqlError {
    let text = format!("option {option:?} is invalid, check for the equal sign");
    SqlError::new("08P01", text)
}

/// The parameters that a CockroachDB reports to a new session.
fn reported(wishes: &Wishes, welcome: &Welcome, cluster: &Cluster) -> Vec<(String, String)> {
    let told = |name: &str, otherwise: &str| {
        let found = welcome.parameters.iter().find(|(told, _)| told == name);
        (name.to_owned(), found.map_or_else(|| otherwise.to_owned(), |(_, value)| value.clone()))
    };
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    vec![
        own("server_version", variables::SERVER_VERSION),
        own("server_encoding", "UTF8"),
        own("client_encoding", "UTF8"),
        told("application_name", ""),
        told("DateStyle", "ISO, MDY"),
        told("IntervalStyle", "postgres"),
        own("is_superuser", if matches!(wishes.user.as_str(), "root" | "admin") { "on" } else { "off" }),
        told("TimeZone", "UTC"),
        own("integer_datetimes", "on"),
        told("standard_conforming_strings", "on"),
        own("crdb_version", &cluster.banner),
        own("session_authorization", &wishes.user),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_taken_in_each_of_their_spellings() {
        let found = options(r"-c a=1 -cb=2 --c-d=x\ y").expect("valid options");
        let wanted = [("a", "1"), ("b", "2"), ("c_d", "x y")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(found, wanted);
        assert_eq!(options("-x").expect_err("unknown").code, "08P01");
    }
}
