//! Cutting the rows of a chunk into pieces.

use bytes::{Buf, Bytes};

/// A piece is full with this many rows or bytes: what a transaction may write without hurting others.
const ROWS_MAX: u64 = 20_000;
const BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Whole rows of the text form, as slices of the blocks in which they came. In that form a row ends with the only line
/// feed that is in it.
#[derive(Debug, Default)]
pub(super) struct Piece {
    parts: Vec<Bytes>,
    rows: u64,
    bytes: u64,
}

impl Piece {
    /// Takes rows from the front of `block` until it is full or the block is at its end. Returns whether it is full. A
    /// row that is larger than a piece makes one by itself.
    pub(super) fn fill(&mut self, block: &mut Bytes) -> bool {
        let mut end = 0;
        let mut full = false;
        while end < block.len() && !full {
            let row = row_length(&block[end..]);
            let length = row.unwrap_or(block.len() - end);
            if self.rows > 0 && self.bytes + (end + length) as u64 > BYTES_MAX && self.ends_with_row(&block[..end]) {
                full = true;
                break;
            }
            end += length;
            if row.is_some() {
                self.rows += 1;
                full = self.rows >= ROWS_MAX || self.bytes + end as u64 >= BYTES_MAX;
            }
        }
        self.bytes += end as u64;
        if end > 0 {
            self.parts.push(block.split_to(end));
        }
        full
    }

    fn ends_with_row(&self, taken: &[u8]) -> bool {
        let last = taken.last().or_else(|| self.parts.last().and_then(|part| part.last()));
        last.is_none_or(|&byte| byte == b'\n')
    }

    /// Returns its bytes.
    pub(super) fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Returns how many rows it has.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Returns how many bytes it has.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Takes up to `rows` rows from the front of `block` and returns how many are still to be taken.
pub(super) fn skip(block: &mut Bytes, mut rows: u64) -> u64 {
    while rows > 0 && !block.is_empty() {
        let row = row_length(block);
        block.advance(row.unwrap_or(block.len()));
        rows -= u64::from(row.is_some());
    }
    rows
}

/// Returns the length of the row at the front with its line feed; `None` if it does not end here.
fn row_length(bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|&byte| byte == b'\n').map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts text that arrives in blocks of `block_bytes`, after skipping rows.
    fn cut(text: &str, block_bytes: usize, skipped: u64) -> (Vec<Piece>, u64) {
        let (mut pieces, mut piece, mut left) = (Vec::new(), Piece::default(), skipped);
        for block in text.as_bytes().chunks(block_bytes) {
            let mut block = Bytes::copy_from_slice(block);
            left = skip(&mut block, left);
            while !block.is_empty() {
                if piece.fill(&mut block) {
                    pieces.push(std::mem::take(&mut piece));
                }
            }
        }
        pieces.push(piece);
        (pieces, left)
    }

    fn text_of(pieces: &[Piece]) -> String {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.parts()).flatten().copied().collect();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn every_row_is_in_one_piece_whatever_the_blocks() {
        let text: String = (0..45_000).map(|row| format!("{row}\n")).collect();
        for block_bytes in [1, 7, 4096, 1 << 20] {
            let (pieces, _) = cut(&text, block_bytes, 0);
            let rows: Vec<u64> = pieces.iter().map(Piece::rows).collect();
            assert_eq!(rows, [20_000, 20_000, 5_000], "blocks of {block_bytes}");
            assert!(pieces.iter().all(|piece| text_of(std::slice::from_ref(piece)).ends_with('\n')));
            assert_eq!(text_of(&pieces), text);
        }
    }

    #[test]
    fn a_piece_is_bounded_by_bytes_and_a_larger_row_stands_alone() {
        let row = |bytes: usize| format!("{}\n", "x".repeat(bytes - 1));
        let text = [row(3 << 20), row(3 << 20), row(3 << 20), row(9 << 20), row(10)].concat();
        let (pieces, _) = cut(&text, 32 << 20, 0);
        let rows: Vec<u64> = pieces.iter().map(Piece::rows).collect();
        assert_eq!(rows, [2, 1, 1, 1]);
        let (pieces, _) = cut(&text, 1 << 20, 0);
        assert_eq!(text_of(&pieces), text);
        assert!(pieces.iter().all(|piece| piece.rows() == 1 || piece.bytes() < 13 << 20));
    }

    #[test]
    fn rows_that_are_there_are_skipped_wherever_blocks_end() {
        let text = "one\ntwo\nthree\nfour\n";
        for block_bytes in 1..=text.len() {
            let (pieces, left) = cut(text, block_bytes, 3);
            assert_eq!((text_of(&pieces).as_str(), left), ("four\n", 0));
            assert_eq!(cut(text, block_bytes, 6).1, 2);
        }
    }
}
