//! A log on its way to a remote: read from its files, encoded by the driver, and how far that has come.
use std::{fs::File, io, ops::ControlFlow};

use corten_runtime::shim::log::position::Position;

use crate::log::{
    entry::{Entry, Text},
    files::{LogFiles, Reading, Start},
    place::Place,
    remote::message::{Batch, Encoder, Message, Piece},
};

/// What is delivered, or delivered again, at once.
const BLOCK_BYTES: usize = 32 << 10;

pub struct Feed {
    files: LogFiles,
    encoder: Box<dyn Encoder>,
    container: String,
    pub position: Position,
}

impl Feed {
    /// Goes on where the position says; at the beginning where there is none.
    pub fn open(place: &Place, container: &str, encoder: Box<dyn Encoder>, saved: &File) -> io::Result<Feed> {
        let position = Position::read(saved);
        let start = match position {
            None => Start::Oldest,
            Some(Position {
                inode, first, offset, ..
            }) => Start::Place { inode, first, offset },
        };
        let files = LogFiles::open(place.path.clone(), place.format, start, true)?;
        if files.lost {
            tracing::warn!(%container, "what was to be delivered next has been rotated away: lines of a log are lost");
        }
        Ok(Feed {
            files,
            encoder,
            container: container.to_owned(),
            position: Position {
                hold: place.blocking,
                ..position.unwrap_or_default()
            },
        })
    }

    /// Fills the batch with what comes next. What comes back is the position behind it; absent at the present end.
    pub fn next(&mut self, batch: &mut Batch) -> io::Result<Option<Position>> {
        batch.clear();
        let mut pieces = self.position.pieces;
        let (encoder, container, mut scratch) = (&mut self.encoder, &self.container, Vec::new());
        let reading = self.files.read(BLOCK_BYTES, |entry| {
            let piece = piece(entry, container, &mut pieces);
            let text = match entry.text {
                Text::Plain(text) => text,
                Text::Escaped(_) => {
                    scratch.clear();
                    entry.text.append_to(&mut scratch);
                    scratch.as_slice()
                }
            };
            let message = Message {
                text,
                stderr: entry.stderr,
                nanoseconds: entry.time.nanoseconds().unwrap_or_default(),
                piece,
            };
            encoder.encode(&message, batch);
            ControlFlow::Continue(())
        })?;
        let (Reading::Block, Some((inode, offset))) = (reading, self.files.place()) else {
            return Ok(None);
        };
        let first = match inode == self.position.inode && self.position.first != 0 {
            true => self.position.first,
            false => self.files.first_time()?,
        };
        Ok(Some(Position {
            inode,
            first,
            offset,
            pieces,
            ..self.position
        }))
    }

    /// Holds on to what is there: the files are about to go.
    pub fn let_go(&mut self) -> io::Result<()> {
        self.files.let_go()
    }
}

/// Which piece of a long line it is; absent for a whole one.
fn piece(entry: &Entry, container: &str, pieces: &mut [(u64, i64); 2]) -> Option<Piece> {
    let (count, begun) = &mut pieces[usize::from(entry.stderr)];
    if entry.last && !entry.continues {
        (*count, *begun) = (0, 0);
        return None;
    }
    if !entry.continues || *count == 0 {
        (*count, *begun) = (0, entry.time.nanoseconds().unwrap_or_default());
    }
    *count += 1;
    let piece = Piece {
        id: piece_id(container, entry.stderr, *begun),
        ordinal: *count,
        last: entry.last,
    };
    if entry.last {
        (*count, *begun) = (0, 0);
    }
    Some(piece)
}

/// The same for all pieces of a line, also when a new daemon goes on in its middle: 64 hexadecimal digits.
fn piece_id(container: &str, stderr: bool, begun: i64) -> String {
    let bytes = container.bytes().chain([u8::from(stderr)]).chain(begun.to_le_bytes());
    let mut id = String::with_capacity(64);
    for part in 0..4u8 {
        let sum = bytes
            .clone()
            .chain([part])
            .fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
                (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
            });
        id.push_str(&format!("{sum:016x}"));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::entry::Time;

    fn entry(continues: bool, last: bool, time: i64) -> Entry<'static> {
        Entry {
            text: Text::Plain(b"x"),
            stderr: false,
            ended: last,
            continues,
            last,
            time: Time::Nanoseconds(time),
        }
    }

    #[test]
    fn pieces_of_a_line_are_counted_and_have_one_name() {
        let mut pieces = [(0, 0); 2];
        assert_eq!(piece(&entry(false, true, 1), "c", &mut pieces), None);
        let found: Vec<Piece> = [entry(false, false, 2), entry(true, false, 3), entry(true, true, 4)]
            .iter()
            .map(|entry| piece(entry, "c", &mut pieces).expect("a piece"))
            .collect();
        let counted: Vec<_> = found.iter().map(|piece| (piece.ordinal, piece.last)).collect();
        assert_eq!(counted, [(1, false), (2, false), (3, true)]);
        assert!(
            found
                .iter()
                .all(|piece| piece.id == found[0].id && piece.id.len() == 64)
        );
        let next = piece(&entry(false, false, 9), "c", &mut pieces).expect("a piece");
        assert!(next.ordinal == 1 && next.id != found[0].id);
    }
}
