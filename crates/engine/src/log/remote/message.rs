//! What every remote driver is given and makes: the contract. `driver.rs` chooses.
/// A line, or a piece of a long one, without its newline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message<'a> {
    pub text: &'a [u8],
    pub stderr: bool,
    /// Since the epoch.
    pub nanoseconds: i64,
    /// Only of a line that was too long for one message.
    pub piece: Option<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The same for all pieces of a line: 64 hexadecimal digits.
    pub id: String,
    /// From 1.
    pub ordinal: u64,
    pub last: bool,
}

/// Messages, encoded; which bytes are one datagram, where they are sent as such.
#[derive(Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub ends: Vec<usize>,
    /// What the remote must send back before it has taken them.
    pub acknowledgements: Vec<String>,
}

impl Batch {
    /// What was appended since the last time is one message.
    pub fn end(&mut self) {
        self.ends.push(self.bytes.len());
    }

    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.acknowledgements.clear();
    }
}

/// How a driver writes messages. Kept for a container's whole life: what it counts goes on.
pub trait Encoder: Send {
    /// Appends it to the batch; what the driver does not send, not at all.
    fn encode(&mut self, message: &Message, batch: &mut Batch);
}

/// Of the host, as remotes are told.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

pub fn random_hex() -> String {
    crate::names::random_id()
}
