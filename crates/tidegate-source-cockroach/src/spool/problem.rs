//! What can be wrong with the spool, as the user reads it.

use std::io;
use std::path::Path;

use tidegate_model::Problem;

use super::Spool;

const NEXT: &str = "make room, set spool_bytes_max (--spool-bytes-max) or a directory on a larger disk (--spool-dir), \
                    and start again: nothing is lost, the changefeed sends the rows again";

/// The cap is reached.
pub(super) fn cap(spool: &Spool, in_use: u64, wanted: u64) -> Problem {
    let (dir, max) = (spool.dir().display(), spool.bytes_max());
    Problem::definite(
        "CR110",
        format!("spool directory \"{dir}\" would hold more than spool_bytes_max: {in_use} + {wanted} of {max} bytes"),
        "rows that do not fit into memory wait there until a resolved timestamp passes them and they are applied",
        NEXT,
    )
}

/// The directory cannot be used.
pub(super) fn directory(dir: &Path, error: io::Error) -> Problem {
    Problem::definite(
        "CR113",
        format!("spool directory \"{}\" cannot be used", dir.display()),
        error.to_string(),
        "make the directory, allow this user to write to it, or name another one (--spool-dir)",
    )
    .caused_by(error)
}

/// A write failed.
pub(super) fn write(spool: &Spool, error: io::Error) -> Problem {
    let dir = spool.dir().display();
    let problem = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Problem::definite(
            "CR111",
            format!("spool directory \"{dir}\" has no room left, at {} bytes of ours", spool.disk_bytes()),
            error.to_string(),
            NEXT,
        ),
        _ => Problem::definite(
            "CR112",
            format!("spool file in \"{dir}\" cannot be written"),
            error.to_string(),
            "look for faults of that disk, or name another directory (--spool-dir), and start again",
        ),
    };
    problem.caused_by(error)
}

/// A read failed.
pub(super) fn read(spool: &Spool, error: io::Error) -> Problem {
    Problem::definite(
        "CR112",
        format!("spool file in \"{}\" cannot be read", spool.dir().display()),
        error.to_string(),
        "look for faults of that disk, or name another directory (--spool-dir), and start again",
    )
    .caused_by(error)
}
