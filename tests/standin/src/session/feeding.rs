//! Changefeeds without a sink: the connection is theirs until they end.

use bytes::{BufMut, BytesMut};
use tokio::sync::mpsc;

use super::{Portal, Protocol, Session};
use crate::error::SqlError;
use crate::feed::{self, FeedEnd, FeedRequest, FeedSink};
use crate::wire::link::message;
use crate::wire::{Fields, answer};

const COLUMNS: [(&str, u32); 3] = [("table", answer::TEXT), ("key", answer::BYTEA), ("value", answer::BYTEA)];

/// Formats of the three columns: whether each is binary.
type Formats = [bool; 3];
/// So many pieces of output may wait for a client that does not read.
const PIECES_MAX: usize = 4;

/// Collects what a feed gives, and hands it over at each flush.
struct Sink {
    output: BytesMut,
    client: mpsc::Sender<BytesMut>,
    formats: Formats,
    /// Whether Describe has told the columns already.
    described: bool,
    hex: String,
}

impl FeedSink for Sink {
    fn notice(&mut self, text: &str) {
        answer::notice(&mut self.output, "NOTICE", &SqlError::new("00000", text));
    }

    fn started(&mut self) {
        if !self.described {
            answer::columns(&mut self.output, &COLUMNS);
        }
    }

    fn row(&mut self, table: Option<&str>, key: Option<&[u8]>, value: &[u8]) {
        let formats = self.formats;
        let hex = &mut self.hex;
        message(&mut self.output, b'D', |out| {
            out.put_i16(3);
            put(out, table.map(str::as_bytes));
            put_bytes(out, key, formats[1], hex);
            put_bytes(out, Some(value), formats[2], hex);
        });
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        let piece = self.output.split();
        self.client.send(piece).await.map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }
}

fn put(out: &mut BytesMut, value: Option<&[u8]>) {
    match value {
        None => out.put_i32(-1),
        Some(value) => {
            out.put_i32(i32::try_from(value.len()).expect("a value is below 2 GiB"));
            out.extend_from_slice(value);
        }
    }
}

fn put_bytes(out: &mut BytesMut, value: Option<&[u8]>, binary: bool, hex: &mut String) {
    match value {
        Some(value) if !binary => {
            hex.clear();
            hex.push_str("\\x");
            for byte in value {
                hex.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits are a digit"));
                hex.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits are a digit"));
            }
            put(out, Some(hex.as_bytes()));
        }
        value => put(out, value),
    }
}

impl Session {
    pub async fn feed_simple(&mut self, sql: &str) -> anyhow::Result<()> {
        self.feed(sql, Vec::new(), [false; 3], false).await
    }

    pub async fn feed_extended(&mut self, portal: &Portal) -> anyhow::Result<()> {
        let Some((parameters, formats)) = bound(portal) else {
            return self.fail(&SqlError::new("08P01", "a Bind message that cannot be read")).await;
        };
        let sql = portal.rewritten.source.clone();
        self.feed(&sql, parameters, formats, true).await
    }

    async fn feed(
        &mut self,
        sql: &str,
        parameters: Vec<Option<String>>,
        formats: Formats,
        described: bool,
    ) -> anyhow::Result<()> {
        let protocol = self.protocol;
        if self.transaction.status == b'I' {
            // What it takes to know the search path ends with a Sync here: a transaction that stayed open for as long as the
            // feed would keep the server from forgetting anything, row versions and predicate locks alike.
            self.protocol = Protocol::Simple;
        }
        let request = self.feed_request(sql, parameters).await?;
        self.protocol = protocol;
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.fail(&error).await,
        };
        let cancel = self.canceller.begin_feed(&self.cluster.stop);
        let _stops = cancel.clone().drop_guard();
        let (sender, mut pieces) = mpsc::channel(PIECES_MAX);
        let mut sink = Sink { output: BytesMut::new(), client: sender, formats, described, hex: String::new() };
        let runtime = tokio::runtime::Handle::current();
        // In a thread of its own: encoding rows is work, and other sessions go on meanwhile.
        let running = tokio::task::spawn_blocking(move || {
            runtime.block_on(async move {
                let ended = feed::run(request, &mut sink, cancel).await;
                let _ = sink.flush().await;
                ended
            })
        });
        while let Some(piece) = tokio::select! {
            piece = pieces.recv() => piece,
            () = self.client_left() => anyhow::bail!("the client of a changefeed left"),
        } {
            self.client.push_bytes(&piece);
            self.client.flush().await?;
        }
        let ended = running.await?;
        match ended {
            Ok(FeedEnd::Completed { rows }) => {
                answer::complete(self.client.output(), &format!("EXPERIMENTAL CHANGEFEED {rows}"));
                Ok(())
            }
            Ok(FeedEnd::Dropped) => anyhow::bail!("the connection of a changefeed was dropped"),
            Err(error) => self.fail(&error).await,
        }
    }

    /// Waits until the client closes the connection; what it sends before is kept.
    async fn client_left(&mut self) {
        while matches!(self.client.ahead().await, Ok(true)) {}
    }

    pub async fn feed_request(
        &mut self,
        sql: &str,
        parameters: Vec<Option<String>>,
    ) -> anyhow::Result<Result<FeedRequest, SqlError>> {
        let schemas = "SELECT unnest(current_schemas(false))::text";
        let rows = match self.own(schemas, &[]).await? {
            Ok(rows) => rows,
            Err(error) => return Ok(Err(error)),
        };
        Ok(Ok(FeedRequest {
            sql: sql.to_owned(),
            parameters,
            backing: self.cluster.backing.config(&self.database),
            settings: self.cluster.settings.clone(),
            database: self.database.clone(),
            search_path: rows.into_iter().filter_map(|mut row| row.pop().flatten()).collect(),
            user: self.user.clone(),
        }))
    }
}

/// Reads the parameters (as text) and the result formats of a Bind message.
pub fn bound(portal: &Portal) -> Option<(Vec<Option<String>>, Formats)> {
    let mut fields = Fields::of(portal.bind.as_ref()?);
    fields.text()?;
    fields.text()?;
    let formats = fields.int16()?;
    for _ in 0..formats {
        fields.int16()?;
    }
    let count = fields.int16()?;
    let mut parameters = Vec::new();
    for _ in 0..count {
        parameters.push(match usize::try_from(fields.int32()?) {
            Ok(length) => Some(String::from_utf8_lossy(&fields.take(length)?).into_owned()),
            Err(_) => None,
        });
    }
    let results: Vec<bool> = (0..fields.int16()?).map_while(|_| fields.int16().map(|format| format == 1)).collect();
    let formats = match results.as_slice() {
        [] => [false; 3],
        [one] => [*one; 3],
        [table, key, value, ..] => [*table, *key, *value],
        _ => return None,
    };
    Some((parameters, formats))
}
