//! The server: version, licence, settings, how long it keeps history.

use tidegate_connect::{CockroachVersion, Session};
use tidegate_model::{Finding, Problem, Severity};
use tokio_postgres::SimpleQueryMessage;

use super::{critical, not_answered};
use crate::gc::{TTL_SECONDS_DEFAULT, Ttl};
use crate::problem::Asked;
use crate::statement;

const TOO_OLD: &str = "CK132";
const LICENCE: &str = "CK133";
const NO_MARK: &str = "CK134";
const RANGEFEEDS_OFF: &str = "CK135";
const FEEDS_DISABLED: &str = "CK136";
const WINDOW_SHORT: &str = "CK137";
const WINDOW_TOO_SHORT: &str = "CK138";

/// The oldest version that Tidegate is written for.
const OLDEST: (u32, u32) = (23, 1);
/// Below this a restart of Tidegate after a bad night is a new copy.
const TTL_SECONDS_MIN: u64 = 600;
/// Rows that a copy reads in a second when it is slow.
const ROWS_PER_SECOND_SLOW: u64 = 10_000;
/// What to raise the window to: a day and an hour.
const TTL_SECONDS_ADVISED: u64 = 90_000;

pub(super) fn judge_version(version: &CockroachVersion, both_directions: bool, findings: &mut Vec<Finding>) {
    if !version.at_least(OLDEST.0, OLDEST.1) {
        findings.push(critical(
            TOO_OLD,
            format!("the server is CockroachDB {version}"),
            "Tidegate reads the changefeeds of v23.1 and newer",
            "upgrade the cluster to one of the supported releases".to_owned(),
        ));
    }
    if version.at_least(24, 3) {
        findings.push(Finding {
            severity: Severity::Notice,
            ..critical(
                LICENCE,
                format!("the server is CockroachDB {version}"),
                "from v24.3 on every cluster needs a licence, a free one included, and is throttled without it",
                "look at the licence with SHOW CLUSTER SETTING enterprise.license".to_owned(),
            )
        });
    }
    if both_directions && !version.at_least(24, 1) {
        findings.push(critical(
            NO_MARK,
            format!("CockroachDB {version} cannot keep what Tidegate writes out of its changefeeds"),
            "with both directions at once a change would come back to where it was made \
             (disable_changefeed_replication exists from v24.1 on)",
            "upgrade the cluster to v24.1, or run one direction at a time".to_owned(),
        ));
    }
}

pub(super) async fn judge_settings(session: &Session, findings: &mut Vec<Finding>) {
    match is_off(session, statement::RANGEFEED_SETTING).await {
        Ok(true) => findings.push(critical(
            RANGEFEEDS_OFF,
            "rangefeeds are off in this cluster".to_owned(),
            "changefeeds are made of them",
            "SET CLUSTER SETTING kv.rangefeed.enabled = true".to_owned(),
        )),
        Ok(false) => {}
        Err(problem) => findings.push(not_answered("setting kv.rangefeed.enabled", &problem)),
    }
    match is_off(session, statement::CHANGEFEED_SETTING).await {
        Ok(true) => findings.push(critical(
            FEEDS_DISABLED,
            "changefeeds are disabled in this cluster".to_owned(),
            "an administrator switched them off",
            "SET CLUSTER SETTING feature.changefeed.enabled = true".to_owned(),
        )),
        Ok(false) => {}
        Err(problem) => findings.push(not_answered("setting feature.changefeed.enabled", &problem)),
    }
}

pub(super) async fn role(session: &Session) -> Result<String, Problem> {
    let row = session.query_one(statement::DATABASE_AND_ROLE, &[]).await;
    Ok(row.map_err(|error| Asked::new("asking the source for our role").sql(error))?.get(1))
}

/// Simple protocol: the type of the answer is that of the setting, and its text is the same in every version.
async fn is_off(session: &Session, setting: &str) -> Result<bool, Problem> {
    let answer = session.simple_query(setting).await;
    let answer = answer.map_err(|error| Asked::new("asking the source for a setting").sql(error))?;
    let value = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(matches!(value, Some("f" | "false" | "off")))
}

pub(super) fn judge_window(ttl: Ttl, rows: u64) -> Option<Finding> {
    let copy_seconds = rows / ROWS_PER_SECOND_SLOW;
    let assumed = if ttl.assumed { " (the server does not tell; this is its default)" } else { "" };
    let what = format!("the source keeps history for {} s{assumed}", ttl.seconds);
    let fix = format!(
        "ALTER DATABASE ... CONFIGURE ZONE USING gc.ttlseconds = {TTL_SECONDS_ADVISED} for the time of the migration"
    );
    if ttl.seconds < TTL_SECONDS_MIN {
        return Some(critical(
            WINDOW_TOO_SHORT,
            what,
            "the initial copy reads as of one time, and a stream that was away for longer has to begin anew",
            fix,
        ));
    }
    let warning = |why: String| Finding {
        severity: Severity::Warning,
        ..critical(WINDOW_SHORT, what.clone(), &why, fix.clone())
    };
    if copy_seconds > ttl.seconds / 2 {
        return Some(warning(format!(
            "about {rows} rows are to be copied as of one time, which may take longer than half of it"
        )));
    }
    (ttl.seconds < TTL_SECONDS_DEFAULT).then(|| {
        warning(
            "that is shorter than CockroachDB's default: a stream that was away for longer has to begin anew"
                .to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: u32, minor: u32) -> CockroachVersion {
        CockroachVersion { text: String::new(), major, minor, patch: 0 }
    }

    fn codes(version: &CockroachVersion, both_directions: bool) -> Vec<&'static str> {
        let mut findings = Vec::new();
        judge_version(version, both_directions, &mut findings);
        findings.iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn versions_are_judged_for_what_is_asked_of_them() {
        assert_eq!(codes(&version(22, 2), false), [TOO_OLD]);
        assert_eq!(codes(&version(23, 1), false), Vec::<&str>::new());
        assert_eq!(codes(&version(23, 2), true), [NO_MARK]);
        assert_eq!(codes(&version(24, 1), true), Vec::<&str>::new());
        assert_eq!(codes(&version(25, 4), true), [LICENCE]);
    }

    #[test]
    fn the_window_must_bear_the_copy() {
        let judged = |seconds, rows| judge_window(Ttl { seconds, assumed: false }, rows).map(|finding| finding.code);
        assert_eq!(judged(14_400, 1_000_000), None);
        assert_eq!(judged(14_400, 100_000_000), Some(WINDOW_SHORT));
        assert_eq!(judged(3_600, 0), Some(WINDOW_SHORT));
        assert_eq!(judged(60, 0), Some(WINDOW_TOO_SHORT));
    }
}
