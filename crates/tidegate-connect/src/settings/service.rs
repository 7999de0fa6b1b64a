//! The connection service file (manual section 34.17): named groups of parameters.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use tidegate_model::Problem;

use super::surroundings::Surroundings;
use super::{Given, invalid};

/// The directory where Debian and Ubuntu keep the system-wide file; other systems name theirs in `PGSYSCONFDIR`.
const SYSTEM_DIRECTORY: &str = "/etc/postgresql-common";

/// Returns the parameters of service `name`: from the user's file, or else from the system's.
///
/// `file` is the file the user named (`servicefile` or `PGSERVICEFILE`).
pub(super) fn look_up(name: &str, file: Option<&str>, around: &Surroundings) -> Result<Given, Problem> {
    let own = file.map(PathBuf::from).or_else(|| around.in_home(".pg_service.conf"));
    let system = Path::new(around.variable("PGSYSCONFDIR").unwrap_or(SYSTEM_DIRECTORY)).join("pg_service.conf");
    let mut searched = Vec::new();
    for path in own.into_iter().chain([system]) {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                searched.push(format!("{} (does not exist)", path.display()));
                continue;
            }
            Err(error) => return Err(unreadable(&path, &error.to_string())),
        };
        if let Some(given) = section(&text, name, &path)? {
            return Ok(given);
        }
        searched.push(path.display().to_string());
    }
    Err(Problem::definite(
        "CN003",
        format!("connection service \"{name}\" is not defined"),
        format!("searched in {}", searched.join(", ")),
        format!("add a section [{name}] to one of these files, or name the file in PGSERVICEFILE"),
    ))
}

/// Returns the parameters of section `name`; of several mentions of one the first counts, as in libpq.
fn section(text: &str, name: &str, path: &Path) -> Result<Option<Given>, Problem> {
    let mut found: Option<Given> = None;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.starts_with('[') {
            if found.is_some() {
                break;
            }
            if line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) == Some(name) {
                found = Some(Given::default());
            }
            continue;
        }
        let Some(given) = &mut found else { continue };
        let refuse = |why: &str| unreadable(path, &format!("line {}: {why}", index + 1));
        let (key, value) = line.split_once('=').ok_or_else(|| refuse("no \"=\" in it"))?;
        if key == "service" || key == "servicefile" {
            return Err(refuse("a service may not name another service"));
        }
        if !given.has(key) {
            given.set(key, value.to_owned()).map_err(|problem| refuse(&problem.why))?;
        }
    }
    Ok(found)
}

fn unreadable(path: &Path, why: &str) -> Problem {
    Problem { code: "CN003", ..invalid(format!("service file {}: {why}", path.display())) }
}
