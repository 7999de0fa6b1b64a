//! The server: version, settings, free slots and senders, the right to replicate, privileges on the database.

use postgres_protocol::escape::escape_identifier;
use tidegate_connect::{ReplicationSession, Session, Settings};
use tidegate_model::{Finding, MigrationName, Problem, Severity};

use super::not_answered;
use crate::ServerVersion;
use crate::problem::Asked;

const TOO_OLD: &str = "CK001";
const NEWER_THAN_TRIED: &str = "CK002";
const WAL_LEVEL: &str = "CK003";
const NO_SLOT_FREE: &str = "CK004";
const NO_SENDER_FREE: &str = "CK005";
const NO_REPLICATION_RIGHT: &str = "CK006";
const REPLICATION_REFUSED: &str = "CK007";
const STANDBY: &str = "CK008";
const WAL_UNBOUNDED: &str = "CK009";
const NO_CREATE_ON_DATABASE: &str = "CK010";
const STATE_SCHEMA_CLOSED: &str = "CK019";
const OPEN_TRANSACTIONS: &str = "CK023";

/// A transaction open this long is worth a word: making the slot waits for it.
const OPEN_SECONDS_NOTED: f64 = 60.0;

/// What the server says about itself and our role.
pub(super) struct Facts {
    pub(super) role: String,
    database: String,
    version: ServerVersion,
    wal_level: String,
    slots: Places,
    /// Whether our slot is there already and needs no other place.
    slot_exists: bool,
    senders: Places,
    is_standby: bool,
    slot_wal_kept: String,
    may_create_in_database: bool,
    publication_exists: bool,
    /// `None`: there is no such schema.
    may_create_in_state_schema: Option<bool>,
    open_transactions: i64,
}

/// A limited number of places.
#[derive(Clone, Copy)]
struct Places {
    max: i64,
    used: i64,
}

impl Places {
    fn is_full(self) -> bool {
        self.used >= self.max
    }
}

const FACTS: &str = "
SELECT current_user::text, current_database()::text, current_setting('server_version_num')::int4,
       current_setting('wal_level'),
       current_setting('max_replication_slots')::int8, (SELECT count(*) FROM pg_replication_slots),
       EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $2),
       current_setting('max_wal_senders')::int8, (SELECT count(*) FROM pg_stat_replication),
       pg_is_in_recovery(), current_setting('max_slot_wal_keep_size'),
       has_database_privilege(current_database(), 'CREATE'),
       EXISTS (SELECT FROM pg_publication WHERE pubname = $2),
       (SELECT has_schema_privilege(oid, 'USAGE') AND has_schema_privilege(oid, 'CREATE')
          FROM pg_namespace WHERE nspname = $1),
       (SELECT count(*) FROM pg_stat_activity
         WHERE backend_xid IS NOT NULL AND clock_timestamp() - xact_start > make_interval(secs => $3))
       + (SELECT count(*) FROM pg_prepared_xacts)";

impl Facts {
    pub(super) async fn ask(session: &Session, state_schema: &str, object: &str) -> Result<Facts, Problem> {
        let asked = Asked::new("asking the source for its settings");
        let row = session.query_one(FACTS, &[&state_schema, &object, &OPEN_SECONDS_NOTED]).await;
        let row = row.map_err(|error| asked.sql(error))?;
        let version = u32::try_from(row.get::<_, i32>(2)).map_err(|_| asked.unexpected("a negative version"))?;
        Ok(Facts {
            role: row.get(0),
            database: row.get(1),
            version: ServerVersion(version),
            wal_level: row.get(3),
            slots: Places { max: row.get(4), used: row.get(5) },
            slot_exists: row.get(6),
            senders: Places { max: row.get(7), used: row.get(8) },
            is_standby: row.get(9),
            slot_wal_kept: row.get(10),
            may_create_in_database: row.get(11),
            publication_exists: row.get(12),
            may_create_in_state_schema: row.get(13),
            open_transactions: row.get(14),
        })
    }

    pub(super) fn judge(&self, state_schema: &str, findings: &mut Vec<Finding>) {
        let all = [
            self.version(),
            self.wal_level(),
            self.slots(),
            self.senders(),
            self.standby(),
            self.bound(),
            self.database(),
            self.state_schema(state_schema),
            self.transactions(),
        ];
        findings.extend(all.into_iter().flatten());
    }

    fn version(&self) -> Option<Finding> {
        let version = self.version;
        if version.major() < ServerVersion::OLDEST_MAJOR {
            return Some(critical(
                TOO_OLD,
                format!("the server is PostgreSQL {version}"),
                "streaming of transactions in progress, which Tidegate asks for, exists from version 14 on",
                "upgrade the server to one of the versions 14 to 18".to_owned(),
            ));
        }
        (version.major() > ServerVersion::NEWEST_MAJOR).then(|| Finding {
            severity: Severity::Warning,
            ..critical(
                NEWER_THAN_TRIED,
                format!("the server is PostgreSQL {version}"),
                "Tidegate was tried with the versions 14 to 18; what a newer one does differently is not known",
                "try the migration with a copy of the database first".to_owned(),
            )
        })
    }

    fn wal_level(&self) -> Option<Finding> {
        (self.wal_level != "logical").then(|| {
            critical(
                WAL_LEVEL,
                format!("wal_level is {}", self.wal_level),
                "what a transaction changed can be read from the WAL only at wal_level = logical",
                "ALTER SYSTEM SET wal_level = logical; then restart the server".to_owned(),
            )
        })
    }

    fn slots(&self) -> Option<Finding> {
        (self.slots.is_full() && !self.slot_exists).then(|| {
            critical(
                NO_SLOT_FREE,
                format!("all {} replication slots are taken", self.slots.max),
                "a migration needs one, and a second for a moment when tables are copied again",
                format!(
                    "ALTER SYSTEM SET max_replication_slots = {}; then restart the server. Or drop one that nobody \
                     needs (pg_replication_slots)",
                    self.slots.max + 2
                ),
            )
        })
    }

    fn senders(&self) -> Option<Finding> {
        self.senders.is_full().then(|| {
            critical(
                NO_SENDER_FREE,
                format!("all {} WAL senders are taken", self.senders.max),
                "a migration needs one, and a second for a moment when it begins",
                format!("ALTER SYSTEM SET max_wal_senders = {}; then restart the server", self.senders.max + 2),
            )
        })
    }

    fn standby(&self) -> Option<Finding> {
        self.is_standby.then(|| {
            critical(
                STANDBY,
                "the server is a standby".to_owned(),
                "a publication cannot be made there, nor the table that remembers which side is open",
                "point --source at the primary".to_owned(),
            )
        })
    }

    fn bound(&self) -> Option<Finding> {
        (self.slot_wal_kept == "-1").then(|| Finding {
            severity: Severity::Notice,
            ..critical(
                WAL_UNBOUNDED,
                "max_slot_wal_keep_size is -1".to_owned(),
                "while the migration does not follow, its slot keeps WAL until the server's disk is full",
                "give --wal-budget, or ALTER SYSTEM SET max_slot_wal_keep_size = '<size>'; SELECT pg_reload_conf()"
                    .to_owned(),
            )
        })
    }

    fn database(&self) -> Option<Finding> {
        let needed = !self.publication_exists || self.may_create_in_state_schema.is_none();
        (needed && !self.may_create_in_database).then(|| {
            critical(
                NO_CREATE_ON_DATABASE,
                format!("role \"{}\" may not CREATE in database \"{}\"", self.role, self.database),
                "the publication and the schema of Tidegate's own tables are made there",
                format!(
                    "GRANT CREATE ON DATABASE {} TO {}",
                    escape_identifier(&self.database),
                    escape_identifier(&self.role)
                ),
            )
        })
    }

    fn state_schema(&self, state_schema: &str) -> Option<Finding> {
        (self.may_create_in_state_schema == Some(false)).then(|| {
            critical(
                STATE_SCHEMA_CLOSED,
                format!("role \"{}\" may not use or create in schema \"{state_schema}\"", self.role),
                "Tidegate's own tables are there",
                format!(
                    "GRANT USAGE, CREATE ON SCHEMA {} TO {}",
                    escape_identifier(state_schema),
                    escape_identifier(&self.role)
                ),
            )
        })
    }

    fn transactions(&self) -> Option<Finding> {
        (self.open_transactions > 0 && !self.slot_exists).then(|| {
            Finding {
            severity: Severity::Warning,
            ..critical(
                OPEN_TRANSACTIONS,
                format!("{} writing transactions are open for more than a minute or prepared", self.open_transactions),
                "making the slot waits for every one of them, in whatever database of the server they are",
                "end them: SELECT pid, datname, xact_start, query FROM pg_stat_activity WHERE backend_xid IS NOT NULL; \
                 SELECT gid, database, prepared FROM pg_prepared_xacts"
                    .to_owned(),
            )
        }
        })
    }
}

/// Tries what the migration will do: a replication session. Attributes and group roles of managed services say less
/// than the attempt.
pub(super) async fn probe_replication(
    settings: &Settings,
    name: &MigrationName,
    role: &str,
    findings: &mut Vec<Finding>,
) {
    let tried = async {
        let mut session = ReplicationSession::connect(settings, &name.application_name("check")).await?;
        let answer = session.query("IDENTIFY_SYSTEM").await;
        answer.map_err(|error| Asked::new("asking for the system's identity").replication(error))
    };
    let Err(problem) = tried.await else { return };
    findings.push(judge_refusal(&problem, role));
}

/// Reads the refusal of a replication session where an SQL session with the same settings was let in.
fn judge_refusal(problem: &Problem, role: &str) -> Finding {
    match problem.code {
        "CN013" => critical(
            NO_REPLICATION_RIGHT,
            format!("role \"{role}\" may not replicate"),
            &problem.why,
            format!(
                "ALTER ROLE {} REPLICATION (managed services have a role to grant instead, such as rds_replication)",
                escape_identifier(role)
            ),
        ),
        "CN009" => critical(
            REPLICATION_REFUSED,
            format!("the server lets role \"{role}\" in, but not for replication"),
            &problem.why,
            format!(
                "add a line to pg_hba.conf that lets \"{role}\" in for this database, not only for \"replication\", \
                 from this address: host <database> {role} <address> scram-sha-256; then SELECT pg_reload_conf()"
            ),
        ),
        "CN011" => critical(
            NO_SENDER_FREE,
            "no replication session is to be had now".to_owned(),
            &problem.why,
            "raise max_wal_senders and restart the server, or end a session that nobody needs".to_owned(),
        ),
        _ => not_answered("right to replicate", problem),
    }
}

fn critical(code: &'static str, what: String, why: &str, fix: String) -> Finding {
    let subject = "source".to_owned();
    Finding { code, severity: Severity::Critical, subject, what, why: why.to_owned(), fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            role: "app".to_owned(),
            database: "shop".to_owned(),
            version: ServerVersion(150_000),
            wal_level: "logical".to_owned(),
            slots: Places { max: 10, used: 9 },
            slot_exists: false,
            senders: Places { max: 10, used: 0 },
            is_standby: false,
            slot_wal_kept: "10GB".to_owned(),
            may_create_in_database: true,
            publication_exists: false,
            may_create_in_state_schema: None,
            open_transactions: 0,
        }
    }

    fn codes(facts: &Facts) -> Vec<&'static str> {
        let mut findings = Vec::new();
        facts.judge("tidegate", &mut findings);
        assert!(findings.iter().all(|finding| !finding.why.is_empty() && !finding.fix.is_empty()));
        findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_server_that_fits_gives_no_finding() {
        assert!(codes(&facts()).is_empty());
    }

    #[test]
    fn each_obstacle_is_found() {
        let full = Places { max: 10, used: 10 };
        let cases = [
            (Facts { version: ServerVersion(130_000), ..facts() }, TOO_OLD),
            (Facts { version: ServerVersion(190_000), ..facts() }, NEWER_THAN_TRIED),
            (Facts { wal_level: "replica".to_owned(), ..facts() }, WAL_LEVEL),
            (Facts { slots: full, ..facts() }, NO_SLOT_FREE),
            (Facts { senders: full, ..facts() }, NO_SENDER_FREE),
            (Facts { is_standby: true, ..facts() }, STANDBY),
            (Facts { slot_wal_kept: "-1".to_owned(), ..facts() }, WAL_UNBOUNDED),
            (Facts { may_create_in_database: false, ..facts() }, NO_CREATE_ON_DATABASE),
            (Facts { may_create_in_state_schema: Some(false), ..facts() }, STATE_SCHEMA_CLOSED),
            (Facts { open_transactions: 1, ..facts() }, OPEN_TRANSACTIONS),
        ];
        for (facts, code) in cases {
            assert_eq!(codes(&facts), [code]);
        }
    }

    #[test]
    fn what_is_there_already_needs_no_room_and_no_right() {
        let full = Places { max: 10, used: 10 };
        assert!(codes(&Facts { slots: full, slot_exists: true, ..facts() }).is_empty());
        let made = Facts {
            may_create_in_database: false,
            publication_exists: true,
            may_create_in_state_schema: Some(true),
            ..facts()
        };
        assert!(codes(&made).is_empty());
    }

    #[test]
    fn an_unknown_refusal_of_replication_is_no_pass() {
        let problem = Problem::transient("CN004", "what", "why", "next");
        assert_eq!(judge_refusal(&problem, "app").severity, Severity::Unknown);
    }
}
