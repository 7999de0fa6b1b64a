//! The password file (manual section 34.16): lines `host:port:database:user:password`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::secret::Secret;

/// A password file as read.
#[derive(Default)]
pub(super) struct PasswordFile {
    lines: Vec<[String; 5]>,
    /// Why the file was left aside, for the message of a server that asks for a password.
    pub(super) ignored: Option<String>,
}

impl PasswordFile {
    /// Reads it. A file that is missing, not a plain file or readable by others is left aside, no error, as in libpq.
    pub(super) fn read(path: &Path) -> Self {
        let ignored = |why: String| {
            tracing::warn!(file = %path.display(), reason = why, "password file ignored");
            let ignored = Some(format!("password file {} was ignored: {why}", path.display()));
            PasswordFile { lines: Vec::new(), ignored }
        };
        let Ok(metadata) = fs::metadata(path) else { return PasswordFile::default() };
        if !metadata.is_file() {
            return ignored("it is not a plain file".to_owned());
        }
        let mode = metadata.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return ignored(format!("group or others may access it (mode {mode:04o}, must be 0600 or less)"));
        }
        match fs::read_to_string(path) {
            Ok(text) => PasswordFile { lines: text.lines().filter_map(fields).collect(), ignored: None },
            Err(error) => ignored(error.to_string()),
        }
    }

    /// Returns the password of the first line that fits.
    pub(super) fn password(&self, host: &str, port: u16, database: &str, user: &str) -> Option<Secret> {
        let wanted = [host, &port.to_string(), database, user];
        let fits = |line: &&[String; 5]| {
            line.iter().zip(wanted).all(|(field, wanted)| field == "*" || unescape(field) == wanted)
        };
        self.lines.iter().find(fits).map(|line| Secret::new(unescape(&line[4])))
    }
}

/// Splits a line at its unescaped colons. What follows a fifth colon belongs to no field, as in libpq.
fn fields(line: &str) -> Option<[String; 5]> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().expect("there is always a last field");
        match c {
            '\\' => {
                field.push(c);
                field.extend(chars.next());
            }
            ':' => fields.push(String::new()),
            _ => field.push(c),
        }
    }
    fields.truncate(5);
    fields.try_into().ok()
}

fn unescape(field: &str) -> String {
    let mut text = String::with_capacity(field.len());
    let mut chars = field.chars();
    while let Some(c) = chars.next() {
        text.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    text
}
