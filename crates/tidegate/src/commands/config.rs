//! `config check` and `config show`.

use std::path::Path;

use serde::Serialize;

use crate::cli::{ConfigArgs, ConfigCommand};
use crate::config::{File, Migration, Shown};
use crate::output::{Exit, Failure, print_json, say};

#[derive(Serialize)]
struct ShownFile {
    migration: Vec<Shown>,
}

pub fn run(command: ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check(args) => check(&args),
        ConfigCommand::Show(args) => show(&args),
    }
}

fn check(args: &ConfigArgs) -> Result<Exit, Failure> {
    let found = match File::read(&args.file).map_err(Failure::unknown)?.effective() {
        Ok(migrations) => unresolved(&migrations),
        Err(found) => found,
    };
    if args.json {
        print_json(&serde_json::json!({ "valid": found.is_empty(), "problems": found }));
    } else if found.is_empty() {
        say!("{} is valid", args.file.display());
    } else {
        for problem in &found {
            say!("{}: {problem}", args.file.display());
        }
    }
    // Exit code 2, not 1: a bad configuration is no answer about a migration.
    Ok(if found.is_empty() { Exit::Done } else { Exit::Unknown })
}

/// Finds connections that are named but cannot be read or are no connection texts.
fn unresolved(migrations: &[Migration]) -> Vec<String> {
    let mut found = Vec::new();
    for migration in migrations {
        for settings in [migration.source_settings(), migration.target_settings()] {
            found.extend(
                settings
                    .err()
                    .map(|problem| format!("migration \"{}\": {} ({})", migration.name, problem.what, problem.why)),
            );
        }
    }
    found
}

fn show(args: &ConfigArgs) -> Result<Exit, Failure> {
    let shown = effective(&args.file)?;
    if args.json {
        print_json(&shown);
    } else {
        print!("{}", toml::to_string(&shown).expect("the effective configuration is valid TOML"));
    }
    Ok(Exit::Done)
}

fn effective(path: &Path) -> Result<ShownFile, Failure> {
    let file = File::read(path).map_err(Failure::unknown)?;
    let migrations = file.effective().map_err(|found| Failure::unknown(File::problem(&found)))?;
    Ok(ShownFile { migration: migrations.iter().map(Shown::from).collect() })
}
