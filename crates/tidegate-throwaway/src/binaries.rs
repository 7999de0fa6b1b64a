//! Where the server's programs are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// The programs of one PostgreSQL version.
#[derive(Clone, Debug)]
pub struct Binaries {
    directory: PathBuf,
    version: String,
    major: u32,
}

impl Binaries {
    /// Finds the programs of this major version, or of the newest one installed: in `TIDEGATE_PG_BIN`, below
    /// `/usr/lib/postgresql`, where `pg_config` says, or on the `PATH`.
    pub fn find(major: Option<u32>) -> anyhow::Result<Binaries> {
        let mut found: Vec<Binaries> = candidates().into_iter().filter_map(|dir| Binaries::at(dir).ok()).collect();
        if let Some(chosen) = std::env::var_os("TIDEGATE_PG_BIN") {
            let chosen = Binaries::at(PathBuf::from(chosen)).context("TIDEGATE_PG_BIN holds no usable server")?;
            if major.is_none() {
                return Ok(chosen);
            }
            found.push(chosen);
        }
        found.retain(|binaries| major.is_none_or(|major| binaries.major == major));
        match found.into_iter().max_by_key(|binaries| binaries.major) {
            Some(newest) => Ok(newest),
            None => {
                let which = major.map_or(String::new(), |major| format!(" {major}"));
                bail!(
                    "no PostgreSQL{which} server was found: run `make setup`, \
                     or set TIDEGATE_PG_BIN to the directory of its programs"
                )
            }
        }
    }

    fn at(directory: PathBuf) -> anyhow::Result<Binaries> {
        let server = directory.join("postgres");
        let output = Command::new(&server).arg("--version").output().with_context(|| server.display().to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text.split_whitespace().nth(2).context("no version")?;
        let digits: String = number.chars().take_while(char::is_ascii_digit).collect();
        if !directory.join("initdb").exists() {
            bail!("{} has no initdb", directory.display());
        }
        Ok(Binaries { version: number.to_owned(), directory, major: digits.parse().context("no version")? })
    }

    /// Returns the version as the programs tell it, such as `15.18`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Returns the major version.
    pub fn major(&self) -> u32 {
        self.major
    }

    /// Returns the path of one of the programs, such as `psql` or `pgbench`.
    pub fn program(&self, name: &str) -> PathBuf {
        let beside = self.directory.join(name);
        // Some distributions split the programs over several packages and directories.
        if beside.exists() { beside } else { PathBuf::from(name) }
    }
}

fn candidates() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = Vec::new();
    if let Ok(versions) = Path::new("/usr/lib/postgresql").read_dir() {
        directories.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        directories.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    directories.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    directories.retain(|directory| directory.join("postgres").exists());
    directories
}
