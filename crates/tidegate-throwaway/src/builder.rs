//! What a server is like before it starts.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use nix::unistd::{Uid, User};
use tempfile::TempDir;

use crate::{Binaries, Server};

/// Settings that suit short-lived servers; [`Builder::setting`] overrides them.
///
/// `fsync` and `full_page_writes` protect from a crash of the machine, not of the server: a killed server still loses
/// nothing that it has answered.
const DEFAULTS: &[(&str, &str)] = &[
    ("wal_level", "logical"),
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("max_connections", "200"),
    ("max_wal_senders", "30"),
    ("max_replication_slots", "30"),
    ("max_prepared_transactions", "20"),
    ("shared_buffers", "64MB"),
    ("log_line_prefix", "%m [%p] %a "),
    ("timezone", "UTC"),
];

/// Collects what a server shall be like, then starts it.
#[derive(Clone, Debug, Default)]
pub struct Builder {
    major: Option<u32>,
    settings: Vec<(String, String)>,
    hba: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
}

impl Builder {
    /// Asks for a major version instead of the newest one installed.
    pub fn major_version(mut self, major: u32) -> Self {
        self.major = Some(major);
        self
    }

    /// Sets a server setting. The last value of a name counts.
    pub fn setting(mut self, name: &str, value: impl ToString) -> Self {
        self.settings.push((name.to_owned(), value.to_string()));
        self
    }

    /// Adds a line to `pg_hba.conf`, before the lines that let everyone in over the socket directory and with a SCRAM
    /// password over TCP.
    pub fn hba(mut self, line: &str) -> Self {
        self.hba.push(line.to_owned());
        self
    }

    /// Puts a file into the data directory, readable for the server alone: a certificate or a key, for instance.
    pub fn file(mut self, name: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.push((name.to_owned(), content.into()));
        self
    }

    /// Makes a new cluster, with a system identifier of its own, and starts it.
    pub fn start(self) -> anyhow::Result<Server> {
        let home = Home::make(self.major)?;
        let password = random_password()?;
        let password_file = home.directory().join("password");
        home.write(&password_file, password.as_bytes())?;
        let mut initdb = home.command("initdb");
        initdb.args(["--no-sync", "--encoding=UTF8", "--locale=C", "--username=postgres", "--auth=scram-sha-256"]);
        initdb.arg("--pwfile").arg(&password_file).arg("--pgdata").arg(home.data_dir());
        run(initdb)?;
        self.launch(home, password)
    }

    /// Copies a running server and starts the copy as its standby.
    pub fn start_standby_of(self, primary: &Server) -> anyhow::Result<Server> {
        let home = Home::make(Some(primary.binaries().major()))?;
        let mut backup = home.command("pg_basebackup");
        backup.args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf", "--username=postgres"]);
        backup.arg("--host").arg(primary.socket_dir()).arg("--port").arg(primary.port().to_string());
        backup.arg("--pgdata").arg(home.data_dir());
        run(backup)?;
        self.launch(home, primary.password().to_owned())
    }

    fn launch(self, home: Home, password: String) -> anyhow::Result<Server> {
        for (name, content) in &self.files {
            home.write(&home.data_dir().join(name), content)?;
        }
        let mut hba = self.hba.join("\n");
        hba.push_str("\nlocal all,replication all trust\nhost all,replication all 127.0.0.1/32 scram-sha-256\n");
        home.write(&home.data_dir().join("pg_hba.conf"), hba.as_bytes())?;
        Server::launch(home, self.configuration(), password)
    }

    fn configuration(&self) -> String {
        let defaults = DEFAULTS.iter().map(|(name, value)| (*name, *value));
        let asked = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let line = |(name, value): (&str, &str)| format!("{name} = '{}'\n", value.replace('\'', "''"));
        defaults.chain(asked).map(line).collect()
    }
}

/// The directory of a server, the user that owns it, and the programs that work on it.
#[derive(Debug)]
pub struct Home {
    directory: TempDir,
    // With symbolic links resolved, as the kernel shows it in the working directories of processes.
    path: PathBuf,
    user: Option<User>,
    pub binaries: Binaries,
}

impl Home {
    fn make(major: Option<u32>) -> anyhow::Result<Home> {
        let binaries = Binaries::find(major)?;
        let user = unprivileged_user()?;
        let directory = tempfile::Builder::new()
            .prefix("tidegate-pg-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .context("could not make a temporary directory")?;
        let path = directory.path().canonicalize().context("could not resolve the temporary directory")?;
        let home = Home { directory, path, user, binaries };
        home.own(&home.path)?;
        fs::create_dir(home.data_dir()).context("could not make the data directory")?;
        fs::set_permissions(home.data_dir(), fs::Permissions::from_mode(0o700))?;
        home.own(&home.data_dir())?;
        Ok(home)
    }

    /// Returns the directory that holds everything of the server, its socket too.
    pub fn directory(&self) -> &Path {
        &self.path
    }

    pub fn data_dir(&self) -> PathBuf {
        self.path.join("data")
    }

    pub fn log_file(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Writes a file that only the server's user can read.
    pub fn write(&self, path: &Path, content: &[u8]) -> anyhow::Result<()> {
        let failed = || format!("could not write {}", path.display());
        let mut file = fs::File::create(path).with_context(failed)?;
        file.set_permissions(fs::Permissions::from_mode(0o600)).with_context(failed)?;
        file.write_all(content).with_context(failed)?;
        self.own(path)
    }

    fn own(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(user) = &self.user {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
                .with_context(|| format!("could not give {} to {}", path.display(), user.name))?;
        }
        Ok(())
    }

    /// Returns a command that runs one of the server's programs as its user, free of our own libpq environment.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.program(program));
        if let Some(user) = &self.user {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.current_dir(&self.path).env("LC_ALL", "C");
        clear_libpq_environment(&mut command);
        command
    }

    pub fn remove(&mut self) {
        let _ = fs::remove_dir_all(self.directory.path());
    }
}

/// Keeps a command from connecting elsewhere than it is told to.
pub fn clear_libpq_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("PG")) {
            command.env_remove(name);
        }
    }
}

/// Runs a program to its end; its output is the error when it fails.
fn run(mut command: Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("could not run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Chooses whom the server runs as: nobody else unless we are root.
fn unprivileged_user() -> anyhow::Result<Option<User>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let asked = std::env::var("TIDEGATE_PG_USER").ok();
    let names = asked.as_deref().map_or(vec!["tidegate", "postgres"], |name| vec![name]);
    for name in &names {
        if let Some(user) = User::from_name(name).context("could not read the user database")? {
            return Ok(Some(user));
        }
    }
    bail!("PostgreSQL does not run as root, and there is no user {} (run `make setup`)", names.join(" or "))
}

fn random_password() -> anyhow::Result<String> {
    let mut bytes = [0; 12];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).context("no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
