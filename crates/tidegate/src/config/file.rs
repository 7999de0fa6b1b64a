//! The configuration file.
//!
//! ```toml
//! [[migration]]
//! name = "orders"
//! source_env = "ORDERS_SOURCE_URL"   # the secret stays in the environment
//! target = "postgres://tidegate@new/orders"
//! tables = ["public.*"]
//! [migration.pipeline]
//! batch_bytes_max = "8MiB"
//! ```

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_model::Problem;

use super::{CONNECT_TIMEOUT, Interval, Migration, PipelineOptions, STATE_SCHEMA, bad_configuration};
use crate::cli::MigrationArgs;

/// Where a connection text is found. Shown without its secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Location {
    /// Given as it is.
    Text(String),
    /// In an environment variable.
    Variable(String),
    /// In a file.
    File(PathBuf),
}

impl Location {
    /// Returns the connection text.
    pub fn resolve(&self) -> Result<String, Problem> {
        let missing = |what: String, why: String| {
            Problem::definite("CF002", what, why, "set it, or give the connection with --source and --target")
        };
        match self {
            Location::Text(text) => Ok(text.clone()),
            Location::Variable(name) => std::env::var(name).map_err(|error| {
                missing(format!("no connection in environment variable \"{name}\""), error.to_string())
            }),
            Location::File(path) => std::fs::read_to_string(path).map(|text| text.trim().to_owned()).map_err(|error| {
                missing(format!("cannot read the connection from file \"{}\"", path.display()), error.to_string())
            }),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Text(text) => f.write_str(&redact(text)),
            Location::Variable(name) => write!(f, "${name}"),
            Location::File(path) => write!(f, "file {}", path.display()),
        }
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Replaces the secrets of a connection text by `***`: the password of a URL's user, and every parameter that holds one.
fn redact(text: &str) -> String {
    // An unencoded `?` in a password would be taken for the beginning of the parameters.
    if text.rfind('@') > text.find('?') && text.contains('?') {
        return "***".to_owned();
    }
    let (head, query) = match text.split_once('?') {
        Some((head, query)) => (head.to_owned(), Some(query)),
        None => (text.to_owned(), None),
    };
    let head = match head.split_once("://") {
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((user, host)) => {
                let user = user.split_once(':').map_or(user.to_owned(), |(name, _)| format!("{name}:***"));
                format!("{scheme}://{user}@{host}")
            }
            None => head,
        },
        None => redact_words(&head, ' '),
    };
    match query {
        Some(query) => format!("{head}?{}", redact_words(query, '&')),
        None => head,
    }
}

fn redact_words(words: &str, separator: char) -> String {
    if separator == ' ' && words.contains('\'') {
        // Quoted values may hold the separator; nothing of such a text is shown.
        return "***".to_owned();
    }
    let redacted = words.split(separator).map(|word| match word.split_once('=') {
        Some((key, _)) if matches!(key.trim(), "password" | "sslpassword") => format!("{key}=***"),
        _ => word.to_owned(),
    });
    redacted.collect::<Vec<_>>().join(&separator.to_string())
}

/// One `[[migration]]` table.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MigrationTable {
    name: Option<String>,
    #[serde(default)]
    source: Option<Secret>,
    source_env: Option<String>,
    source_file: Option<PathBuf>,
    #[serde(default)]
    target: Option<Secret>,
    target_env: Option<String>,
    target_file: Option<PathBuf>,
    #[serde(default)]
    tables: Vec<String>,
    #[serde(default)]
    exclude: Vec<String>,
    state_schema: Option<String>,
    connect_timeout: Option<Interval>,
    #[serde(default)]
    pub(super) pipeline: PipelineOptions,
}

/// A connection text as the file holds it; its debug text shows nothing.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl MigrationTable {
    pub(super) fn take_flags(&mut self, args: &MigrationArgs, source: Option<Location>, target: Option<Location>) {
        let text = |location| match location {
            Some(Location::Text(text)) => Some(Secret(text)),
            _ => None,
        };
        self.source = text(source).or(self.source.take());
        self.target = text(target).or(self.target.take());
        self.name = args.name.clone().or(self.name.take());
        if !args.tables.is_empty() {
            self.tables = args.tables.clone();
        }
        if !args.exclude.is_empty() {
            self.exclude = args.exclude.clone();
        }
        self.state_schema = args.state_schema.clone().or(self.state_schema.take());
        self.connect_timeout = args.connect_timeout.or(self.connect_timeout);
    }

    fn name(&self) -> &str {
        self.name.as_deref().unwrap_or("default")
    }

    /// Returns the effective migration and adds every problem to `found`.
    pub(super) fn effective(self, found: &mut Vec<String>) -> Option<Migration> {
        let name = self.name().parse().map_err(|error: tidegate_model::InvalidName| found.push(error.to_string())).ok();
        let source = location("source", self.source, self.source_env, self.source_file, found);
        let target = location("target", self.target, self.target_env, self.target_file, found);
        let state_schema = self.state_schema.unwrap_or_else(|| STATE_SCHEMA.to_owned());
        if state_schema.is_empty() || state_schema.len() > 63 || state_schema.starts_with("pg_") {
            found.push(format!("state_schema \"{state_schema}\" is not a name that a schema of ours can have"));
        }
        let pipeline = self.pipeline.or(PipelineOptions::defaults());
        pipeline.problems(found);
        Some(Migration {
            name: name?,
            source: source?,
            target: target?,
            tables: self.tables,
            exclude: self.exclude,
            state_schema,
            connect_timeout: self.connect_timeout.map_or(CONNECT_TIMEOUT, |timeout| timeout.0),
            pipeline,
        })
    }
}

fn location(
    end: &str,
    text: Option<Secret>,
    variable: Option<String>,
    file: Option<PathBuf>,
    found: &mut Vec<String>,
) -> Option<Location> {
    let given = [text.map(|text| Location::Text(text.0)), variable.map(Location::Variable), file.map(Location::File)];
    let mut given: Vec<Location> = given.into_iter().flatten().collect();
    match given.len() {
        1 => given.pop(),
        0 => {
            found.push(format!("no {end} is named: give --{end} URL, or {end}, {end}_env or {end}_file in the file"));
            None
        }
        _ => {
            found.push(format!("only one of {end}, {end}_env and {end}_file may be given"));
            None
        }
    }
}

/// A configuration file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    #[serde(default, rename = "migration")]
    migrations: Vec<MigrationTable>,
}

impl File {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<File, Problem> {
        let next = "correct the file and check again: tidegate config check -c FILE";
        let text = std::fs::read_to_string(path).map_err(|error| {
            let what = format!("cannot read configuration file \"{}\"", path.display());
            Problem::definite("CF003", what, error.to_string(), "name an existing file with -c")
        })?;
        toml::from_str(&text).map_err(|error| {
            let what = format!("configuration file \"{}\" is not valid", path.display());
            let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
            Problem::definite("CF003", what, format!("line {line}: {}", error.message()), next)
        })
    }

    /// Returns the migration called `name`, or the only one.
    pub(super) fn choose(self, name: Option<&str>, path: &Path) -> Result<MigrationTable, Problem> {
        let names: Vec<String> = self.migrations.iter().map(|migration| migration.name().to_owned()).collect();
        let mut matching: Vec<MigrationTable> =
            self.migrations.into_iter().filter(|migration| name.is_none_or(|name| name == migration.name())).collect();
        if matching.len() == 1 {
            return Ok(matching.remove(0));
        }
        let what = match name {
            Some(name) => format!("configuration file \"{}\" has no migration \"{name}\"", path.display()),
            None => format!("configuration file \"{}\" does not say which migration is meant", path.display()),
        };
        Err(Problem::definite("CF004", what, format!("it has: {}", names.join(", ")), "choose one with --name"))
    }

    /// Returns every migration of the file with its defaults, or every problem of the file.
    pub fn effective(self) -> Result<Vec<Migration>, Vec<String>> {
        let mut found = Vec::new();
        if self.migrations.is_empty() {
            found.push("the file has no [[migration]]".to_owned());
        }
        let mut seen = HashSet::new();
        let mut migrations = Vec::new();
        for table in self.migrations {
            let name = table.name().to_owned();
            if !seen.insert(name.clone()) {
                found.push(format!("two migrations are named \"{name}\""));
            }
            let mut own = Vec::new();
            migrations.extend(table.effective(&mut own));
            found.extend(own.into_iter().map(|problem| format!("migration \"{name}\": {problem}")));
        }
        if found.is_empty() { Ok(migrations) } else { Err(found) }
    }

    /// Turns the problems of [`File::effective`] into one.
    pub fn problem(found: &[String]) -> Problem {
        bad_configuration(found)
    }
}

/// A migration as `config show` prints it.
#[derive(Debug, Serialize)]
pub struct Shown {
    name: String,
    source: String,
    target: String,
    tables: Vec<String>,
    exclude: Vec<String>,
    state_schema: String,
    connect_timeout: Interval,
    pipeline: PipelineOptions,
}

impl From<&Migration> for Shown {
    fn from(migration: &Migration) -> Self {
        Shown {
            name: migration.name.to_string(),
            source: migration.source.to_string(),
            target: migration.target.to_string(),
            tables: migration.tables.clone(),
            exclude: migration.exclude.clone(),
            state_schema: migration.state_schema.clone(),
            connect_timeout: Interval(migration.connect_timeout),
            pipeline: migration.pipeline.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        for text in [
            "postgres://app:s3cret@db:5432/orders?sslmode=require",
            "postgres://db/orders?user=app&password=s3cret",
            "host=db password=s3cret user=app",
            "host=db password='s3cret s3cret'",
            "postgres://app:s3cret@s3cret@db/orders?sslpassword=s3cret",
            "postgres://app:s3cret?s3cret@db/orders",
        ] {
            let shown = Location::Text(text.to_owned()).to_string();
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn every_problem_of_a_file_is_found_at_once() {
        let text = r#"
            [[migration]]
            name = "Orders"
            source = "postgres://a/b"
            source_env = "X"
            [migration.pipeline]
            batches_in_flight_max = 0
            [[migration]]
            source = "postgres://a/b"
            target = "postgres://a/c"
            [[migration]]
            source = "postgres://a/b"
            target = "postgres://a/c"
        "#;
        let found = toml::from_str::<File>(text).unwrap().effective().unwrap_err();
        assert_eq!(found.len(), 5, "{found:#?}");
    }
}
