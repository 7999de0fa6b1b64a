//! Certificates made for one test by `openssl`.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A certificate authority and what it signed.
#[derive(Debug)]
pub struct Authority {
    directory: TempDir,
}

impl Authority {
    /// Makes a new one.
    pub fn new() -> Authority {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority { directory };
        authority.openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2
             -keyout ca.key -out ca.crt -subj /CN=test-ca",
        );
        authority
    }

    /// Signs a certificate for this common name, which is also its DNS name, and returns the files of certificate and
    /// key.
    pub fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes
             -keyout {name}.key -out {name}.csr -subj /CN={name}"
        ));
        std::fs::write(self.path("extensions"), format!("subjectAltName=DNS:{name}\n")).expect("a file");
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2
             -extfile extensions -out {name}.crt"
        ));
        (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")))
    }

    /// Returns the file of its own certificate.
    pub fn root(&self) -> PathBuf {
        self.path("ca.crt")
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::join(self.directory.path(), name)
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(self.directory.path())
            .output()
            .expect("openssl can be run");
        assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

impl Default for Authority {
    fn default() -> Self {
        Authority::new()
    }
}
