//! A copy into a table: the client's data goes to the backing session as it comes.

use super::Session;
use super::receive::{Received, Until};
use crate::error::SqlError;
use crate::translate;
use crate::wire::Frame;

/// Data is passed on in pieces of about this size.
const PIECE_BYTES: usize = 256 * 1024;
const LEFT: &str = "the client left in the midst of a copy";

impl Session {
    /// Passes the answer to the COPY on, then the data, until the backing session ends the copy.
    pub async fn copy_in(&mut self, answer: &Frame) -> anyhow::Result<Received> {
        self.client.push(answer);
        self.client.flush().await?;
        let mut ended = false;
        while !ended {
            while self.backing.output_bytes() < PIECE_BYTES {
                let Some(frame) = self.client.frame()? else { break };
                match frame.tag() {
                    b'd' => self.backing.push(&frame),
                    b'c' | b'f' => {
                        self.backing.push(&frame);
                        ended = true;
                        break;
                    }
                    // Sync and Flush mean nothing here.
                    b'S' | b'H' => {}
                    b'X' => anyhow::bail!(LEFT),
                    other => return self.copy_broken(other).await,
                }
            }
            // What was read together with the piece, perhaps the end, is looked at before more is waited for.
            let full = self.backing.output_bytes() >= PIECE_BYTES;
            if ended || self.backing.output_bytes() > 0 {
                self.backing.flush_reading().await?;
            }
            if self.backing_has_error()? {
                break;
            }
            if !ended && !full && self.backing.output_bytes() == 0 {
                tokio::select! {
                    more = self.client.exchange() => if !more? { anyhow::bail!(LEFT) },
                    more = self.backing.exchange() => if !more? { anyhow::bail!("the backing session ended") },
                }
            }
        }
        self.receive(Until::Ready).await
    }

    /// Returns whether the backing session has given up the copy.
    fn backing_has_error(&mut self) -> anyhow::Result<bool> {
        while let Some(head) = self.backing.head()? {
            match head.tag {
                b'N' | b'S' | b'A' => match self.backing.frame()? {
                    Some(frame) if frame.tag() == b'N' => translate::notice(&frame, self.client.output()),
                    Some(frame) if frame.tag() == b'S' => self.parameter(&frame),
                    Some(_) => {}
                    None => return Ok(false),
                },
                _ => return Ok(true),
            }
        }
        Ok(false)
    }

    async fn copy_broken(&mut self, tag: u8) -> anyhow::Result<Received> {
        crate::wire::link::message(self.backing.output(), b'f', |out| crate::wire::link::text(out, "broken off"));
        let mut received = self.receive(Until::Ready).await?;
        let text = format!("unexpected message type {:?} during COPY from stdin", char::from(tag));
        received.error = Some(SqlError::new("08P01", text));
        Ok(received)
    }
}
