//! Certificates made for one test run with the `openssl` command.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A directory with an authority (`ca`), a second one nobody trusts (`other`), a server's certificate for `localhost`
/// signed by the first (`server`), one for the role `cert_user` (`client`), and two self-signed ones of servers:
/// `self_signed` (an authority with only a common name, as the manual shows) and `version_1` (without extensions).
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    pub fn make() -> Self {
        let certificates = Certificates { directory: TempDir::new().unwrap() };
        certificates.self_signed("ca", "/CN=authority");
        certificates.self_signed("other", "/CN=stranger");
        certificates.self_signed("self_signed", "/CN=localhost");
        certificates.signed("server", "/CN=anything", "subjectAltName=DNS:localhost");
        certificates.signed("client", "/CN=cert_user", "extendedKeyUsage=clientAuth");
        certificates.version_1("version_1", "/CN=localhost");
        certificates.revocation_lists();
        certificates
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn self_signed(&self, name: &str, subject: &str) {
        let key = format!("{name}.key");
        let certificate = format!("{name}.crt");
        self.openssl(
            &["req", "-new", "-x509", "-days", "2", "-nodes", "-newkey", "rsa:2048", "-subj", subject],
            &[("-keyout", &key), ("-out", &certificate)],
        );
    }

    fn request(&self, name: &str, subject: &str) {
        let key = format!("{name}.key");
        let request = format!("{name}.csr");
        self.openssl(
            &["req", "-new", "-nodes", "-newkey", "rsa:2048", "-subj", subject],
            &[("-keyout", &key), ("-out", &request)],
        );
    }

    fn signed(&self, name: &str, subject: &str, extension: &str) {
        self.request(name, subject);
        fs::write(self.path("extensions"), extension).unwrap();
        let (request, certificate) = (format!("{name}.csr"), format!("{name}.crt"));
        self.openssl(
            &["x509", "-req", "-days", "2", "-CAcreateserial"],
            &[
                ("-in", &request),
                ("-CA", "ca.crt"),
                ("-CAkey", "ca.key"),
                ("-extfile", "extensions"),
                ("-out", &certificate),
            ],
        );
    }

    fn version_1(&self, name: &str, subject: &str) {
        self.request(name, subject);
        let (request, key, certificate) = (format!("{name}.csr"), format!("{name}.key"), format!("{name}.crt"));
        self.openssl(&["x509", "-req", "-days", "2"], &[("-in", &request), ("-signkey", &key), ("-out", &certificate)]);
        let told =
            Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(self.path(&certificate)).output();
        assert!(String::from_utf8_lossy(&told.unwrap().stdout).contains("Version: 1 "));
    }

    /// Makes `none.crl`, in which the first authority revokes nothing, and `server.crl`, in which it revokes the server.
    fn revocation_lists(&self) {
        let configuration = "[ca]\ndefault_ca = a\n[a]\ndatabase = index\ncrlnumber = number\ndefault_md = sha256\n\
                             default_crl_days = 2\ncrl_extensions = e\n[e]\nauthorityKeyIdentifier = keyid:always\n";
        for (file, content) in [("ca.cnf", configuration), ("index", ""), ("number", "01\n")] {
            fs::write(self.path(file), content).unwrap();
        }
        let authority = [("-config", "ca.cnf"), ("-cert", "ca.crt"), ("-keyfile", "ca.key")];
        let with = |option, file| [authority.as_slice(), &[(option, file)]].concat();
        self.openssl(&["ca", "-gencrl"], &with("-out", "none.crl"));
        self.openssl(&["ca"], &with("-revoke", "server.crt"));
        self.openssl(&["ca", "-gencrl"], &with("-out", "server.crl"));
    }

    fn openssl(&self, arguments: &[&str], files: &[(&str, &str)]) {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.directory.path());
        for (option, file) in files {
            command.arg(option).arg(file);
        }
        let output = command.output().expect("the openssl command");
        assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Writes a path into connection text.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}
