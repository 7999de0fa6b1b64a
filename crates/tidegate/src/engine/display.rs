//! Progress for people: one line that rewrites itself on a terminal, a plain line now and then elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::output::bytes;
use crate::status::{StreamState, StreamStatus};

const REWRITE_EVERY: Duration = Duration::from_millis(250);
const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// Shows the status of streams, all in one line, until the sender of one is gone.
pub async fn show(mut streams: Vec<watch::Receiver<StreamStatus>>) {
    let terminal = std::io::stderr().is_terminal();
    let mut ticks = interval(if terminal { REWRITE_EVERY } else { PLAIN_EVERY });
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            gone = async { while streams[0].changed().await.is_ok() {} } => return gone,
        }
        let mut line = lines(&streams);
        // A line that wraps cannot be rewritten. Looked up each time: windows change.
        if terminal && let Some((terminal_size::Width(width), _)) = terminal_size::terminal_size_of(std::io::stderr()) {
            line = line.chars().take(usize::from(width).saturating_sub(1)).collect();
        }
        let mut out = std::io::stderr().lock();
        // Losing a line of progress is no reason to stop.
        let _ =
            if terminal { write!(out, "\r\x1b[2K{line}").and_then(|()| out.flush()) } else { writeln!(out, "{line}") };
    }
}

fn lines(streams: &[watch::Receiver<StreamStatus>]) -> String {
    // A stream that never ran has nothing to show.
    let runs = |status: &StreamStatus| status.state != StreamState::Stopped || status.applied_position.is_some();
    let shown: Vec<StreamStatus> = streams.iter().map(|stream| stream.borrow().clone()).filter(runs).collect();
    match shown.as_slice() {
        [only] => line(only),
        all => all.iter().map(|one| format!("{}: {}", one.stream, line(one))).collect::<Vec<_>>().join(" | "),
    }
}

/// Says in one line what a stream is doing.
pub fn line(status: &StreamStatus) -> String {
    let mut parts = vec![headline(status)];
    match &status.copy {
        Some(copy) if status.state == StreamState::Copying => {
            parts.push(format!("{} rows", copy.rows));
            parts.push(format!("{} of about {}", bytes(copy.bytes), bytes(copy.bytes_estimated)));
            parts.push(format!("{}/s", bytes(copy.bytes_per_second)));
            parts.extend(copy.seconds_left.map(|left| format!("{} left", seconds(left))));
        }
        _ => {
            parts.extend(status.source_lag_bytes.map(|lag| format!("source lag {}", bytes(lag))));
            parts.extend(status.apply_lag_seconds.map(|lag| format!("apply lag {}", seconds(lag))));
            parts.push(format!("{} transactions", status.transactions));
            if status.conflicts > 0 {
                parts.push(format!("{} conflicts", status.conflicts));
            }
            if status.spooled_bytes > 0 {
                parts.push(format!("{} on disk", bytes(status.spooled_bytes)));
            }
        }
    }
    let read = status.reads();
    parts.extend(status.retained_wal_bytes.map(|kept| format!("{read} keeps {}", bytes(kept))));
    parts.extend(status.history_seconds_left.map(|left| format!("{read} keeps history for {}", seconds(left))));
    parts.extend(status.waiting_for.as_ref().map(|why| format!("waiting: {why}")));
    parts.join(", ")
}

fn headline(status: &StreamStatus) -> String {
    let tables = status.tables;
    match (status.state, &status.applied_position) {
        (StreamState::Copying, _) => format!("copying {}/{} tables", tables.copied, tables.total),
        (StreamState::CatchingUp, Some(at)) => format!("catching up at {at}"),
        (StreamState::Streaming, Some(at)) => format!("streaming at {at}"),
        (state @ (StreamState::Held | StreamState::Armed | StreamState::Parked), Some(at)) => {
            format!("{} at {at}", state.as_str())
        }
        (state, _) => state.as_str().to_owned(),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        s if s < 10.0 => format!("{:.0} ms", s * 1000.0),
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{CopyStatus, TableCounts};

    fn status(state: StreamState) -> StreamStatus {
        StreamStatus { tables: TableCounts { total: 6, copied: 2 }, ..StreamStatus::new("forward", state) }
    }

    #[test]
    fn a_copy_says_how_far_and_how_long() {
        let copy = CopyStatus {
            rows: 1_000,
            bytes: 3 << 20,
            bytes_estimated: 4 << 30,
            bytes_per_second: 1 << 20,
            seconds_left: Some(4_093.0),
        };
        let text = line(&StreamStatus { copy: Some(copy), ..status(StreamState::Copying) });
        assert_eq!(text, "copying 2/6 tables, 1000 rows, 3.0 MiB of about 4.0 GiB, 1.0 MiB/s, 68 min left");
    }

    #[test]
    fn a_stream_says_where_it_is_and_keeps_its_two_lags_apart() {
        let text = line(&StreamStatus {
            applied_position: Some("postgres:0/16B3748".to_owned()),
            source_lag_bytes: Some(0),
            apply_lag_seconds: Some(0.012),
            waiting_for: Some("the target does not answer".to_owned()),
            ..status(StreamState::Streaming)
        });
        let wanted = "streaming at postgres:0/16B3748, source lag 0 B, apply lag 12 ms, 0 transactions, \
                      waiting: the target does not answer";
        assert_eq!(text, wanted);
    }
}
