//! What a process has around it that completes a connection text: variables, a home directory, a user name.

use std::collections::HashMap;
use std::env;
use std::path::{Path, PathBuf};

use nix::unistd::{User, geteuid};

/// A snapshot of it, so that resolving settings is a function of its arguments.
pub(super) struct Surroundings {
    pub(super) variables: HashMap<String, String>,
    /// `$HOME`, or the home directory of the user.
    pub(super) home: Option<PathBuf>,
    pub(super) user: Option<String>,
}

impl Surroundings {
    /// Takes those of this process.
    pub(super) fn of_this_process() -> Self {
        let account = User::from_uid(geteuid()).ok().flatten();
        let variables: HashMap<String, String> = env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let home = match variables.get("HOME").filter(|home| !home.is_empty()) {
            Some(home) => Some(PathBuf::from(home)),
            None => account.as_ref().map(|account| account.dir.clone()),
        };
        Surroundings { variables, home, user: account.map(|account| account.name) }
    }

    /// Returns a variable's value; an empty one counts as given.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str)
    }

    /// Returns the path of a file in the home directory.
    pub(super) fn in_home(&self, path: &str) -> Option<PathBuf> {
        self.home.as_deref().map(|home: &Path| home.join(path))
    }
}
