//! The cluster: version, licence, whether it can be written, and whether our own writes can be told apart.

use tidegate_connect::{CockroachVersion, Server, Session};
use tidegate_model::{Finding, Severity};

use super::super::TargetQuestion;
use super::super::database::{look_at_state, unanswered};

/// The oldest version that is supported, and the first one that needs a licence.
const OLDEST: (u32, u32) = (23, 1);
const LICENSED: (u32, u32) = (24, 3);
/// The first version with `disable_changefeed_replication`.
const MARKED: (u32, u32) = (24, 1);

/// Looks at the database.
pub(in crate::check) async fn look(session: &Session, question: &TargetQuestion<'_>, findings: &mut Vec<Finding>) {
    if let Server::Cockroach(version) = session.server() {
        findings.extend(of_version(version, question.both));
    }
    match session.query_one("SHOW transaction_read_only", &[]).await {
        Ok(row) if row.get::<_, &str>(0) == "on" => findings.push(read_only()),
        Ok(_) => {}
        Err(error) => findings.push(unanswered("CK101", "whether the target can be written cannot be read", error)),
    }
    look_at_state(session, question.key, findings).await;
}

fn of_version(version: &CockroachVersion, both: bool) -> Vec<Finding> {
    let at_least = |(major, minor)| version.at_least(major, minor);
    if version.major == 0 {
        let what = format!("the target does not say which version of CockroachDB it is: \"{}\"", version.text);
        let (why, fix) = ("versions differ in what they can do", "connect to a server that tells its version");
        return vec![finding("CK100", Severity::Unknown, what, why, fix)];
    }
    let mut findings = Vec::new();
    if !at_least(OLDEST) {
        let (why, fix) = ("targets are supported from CockroachDB v23.1 on", "upgrade the cluster");
        findings.push(finding("CK100", Severity::Critical, runs(version), why, fix));
    }
    if !at_least(MARKED) {
        let why = "rows written by Tidegate cannot be kept out of changefeeds (disable_changefeed_replication comes \
                   with v24.1): a second direction would carry them back";
        let severity = if both { Severity::Critical } else { Severity::Notice };
        let fix = "upgrade the cluster to v24.1, or run one direction at a time";
        findings.push(finding("CK102", severity, runs(version), why, fix));
    }
    if at_least(LICENSED) {
        let why = "from v24.3 on a cluster without a licence is throttled after its grace period";
        let fix = "SHOW CLUSTER SETTING enterprise.license tells whether there is one; free ones can be had";
        findings.push(finding("CK103", Severity::Notice, runs(version), why, fix));
    }
    findings
}

fn runs(version: &CockroachVersion) -> String {
    format!("the target runs CockroachDB {version}")
}

fn read_only() -> Finding {
    let why = "transactions there are read only: it is a standby, or the role is restricted";
    let fix = "connect to the primary cluster, with a role that may write";
    finding("CK101", Severity::Critical, "the target cannot be written".to_owned(), why, fix)
}

fn finding(code: &'static str, severity: Severity, what: String, why: &str, fix: &str) -> Finding {
    Finding { code, severity, subject: "target".to_owned(), what, why: why.to_owned(), fix: fix.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(major: u32, minor: u32, both: bool) -> Vec<(&'static str, Severity)> {
        let version = CockroachVersion { text: String::new(), major, minor, patch: 0 };
        of_version(&version, both).iter().map(|finding| (finding.code, finding.severity)).collect()
    }

    #[test]
    fn old_versions_are_refused_and_two_directions_want_a_newer_one() {
        assert_eq!(found(22, 2, false), [("CK100", Severity::Critical), ("CK102", Severity::Notice)]);
        assert_eq!(found(23, 2, false), [("CK102", Severity::Notice)]);
        assert_eq!(found(23, 2, true), [("CK102", Severity::Critical)]);
        assert_eq!(found(24, 1, true), []);
        assert_eq!(found(25, 4, true), [("CK103", Severity::Notice)]);
        assert_eq!(found(0, 0, false), [("CK100", Severity::Unknown)]);
    }
}
