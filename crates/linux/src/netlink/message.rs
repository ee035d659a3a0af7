//! Netlink messages: a batch under construction, and attributes of a received one.
//!
//! A batch is one buffer of messages that goes to the kernel in one `send`. Everything is in host byte order, except
//! what nftables wants in network byte order (`*_be`). See linux/Documentation/userspace-api/netlink/intro.rst.

/// Bytes of `struct nlmsghdr`.
pub const HEADER: usize = 16;
/// The attribute holds attributes.
const NESTED: u16 = 1 << 15;

/// Flags of a request (`NLM_F_*`).
pub mod flags {
    pub const REQUEST: u16 = 0x1;
    pub const ACK: u16 = 0x4;
    /// Of requests that answer with a list.
    pub const DUMP: u16 = 0x300;
    /// Replace what is there.
    pub const REPLACE: u16 = 0x100;
    /// Fail where it is there already.
    pub const EXCL: u16 = 0x200;
    pub const CREATE: u16 = 0x400;
    pub const APPEND: u16 = 0x800;
}

/// Messages that go to the kernel together.
#[derive(Debug, Default)]
pub struct Batch {
    buffer: Vec<u8>,
    /// Where each message begins.
    starts: Vec<usize>,
}

impl Batch {
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Appends a message: `header` is the family's own (`struct ifinfomsg`, `struct nfgenmsg`, …), `fill` its attributes.
    pub fn message(&mut self, kind: u16, flags: u16, header: &[u8], fill: impl FnOnce(&mut Attributes)) {
        let start = self.buffer.len();
        self.starts.push(start);
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        // The socket numbers them; the port is the kernel's to fill in.
        self.buffer.extend_from_slice(&[0; 8]);
        self.buffer.extend_from_slice(header);
        pad(&mut self.buffer);
        fill(&mut Attributes {
            buffer: &mut self.buffer,
        });
        let length = u32::try_from(self.buffer.len() - start).expect("messages are small");
        self.buffer[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Asks for an acknowledgement of the last message: where a batch is all or nothing, one is enough.
    pub fn acknowledge_last(&mut self) {
        if let Some(start) = self.starts.last() {
            let flags = u16::from_ne_bytes([self.buffer[start + 6], self.buffer[start + 7]]) | flags::ACK;
            self.buffer[start + 6..start + 8].copy_from_slice(&flags.to_ne_bytes());
        }
    }

    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Numbers the messages from `first` on, and gives the bytes to send.
    pub(crate) fn number(&mut self, first: u32) -> &[u8] {
        for (index, start) in (0..).zip(&self.starts) {
            let number = first.wrapping_add(index);
            self.buffer[start + 8..start + 12].copy_from_slice(&number.to_ne_bytes());
        }
        &self.buffer
    }

    /// Which messages asked for an acknowledgement.
    pub(crate) fn acknowledged(&self) -> impl Iterator<Item = bool> + '_ {
        let flags = |start: &usize| u16::from_ne_bytes([self.buffer[start + 6], self.buffer[start + 7]]);
        self.starts.iter().map(move |start| flags(start) & flags::ACK != 0)
    }
}

/// Attributes under construction.
#[derive(Debug)]
pub struct Attributes<'a> {
    buffer: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).expect("attributes are small");
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        pad(self.buffer);
        self
    }

    /// Text with its NUL.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub fn flag(&mut self, kind: u16) -> &mut Self {
        self.bytes(kind, &[])
    }

    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    pub fn u16_be(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn u32_be(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub fn u64_be(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An attribute of attributes.
    pub fn nested(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes)) -> &mut Self {
        self.nested_after(kind, &[], fill)
    }

    /// An attribute that begins with a structure of its own (`VETH_INFO_PEER` and its `struct ifinfomsg`).
    pub fn nested_after(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Attributes)) -> &mut Self {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        self.buffer.extend_from_slice(header);
        pad(self.buffer);
        fill(&mut Attributes { buffer: self.buffer });
        let length = u16::try_from(self.buffer.len() - start).expect("attributes are small");
        self.buffer[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self
    }
}

fn pad(buffer: &mut Vec<u8>) {
    buffer.resize(buffer.len().next_multiple_of(4), 0);
}

/// The attributes of a received message, or of a nested attribute. Stops at what is malformed.
#[derive(Debug, Clone)]
pub struct Received<'a> {
    bytes: &'a [u8],
}

impl<'a> Received<'a> {
    /// `bytes` begin behind the family's header, at a multiple of four.
    pub fn new(bytes: &'a [u8]) -> Received<'a> {
        Received { bytes }
    }

    /// The first attribute of a kind.
    pub fn find(&self, kind: u16) -> Option<&'a [u8]> {
        self.clone().find_map(|(found, value)| (found == kind).then_some(value))
    }

    pub fn nested(&self, kind: u16) -> Option<Received<'a>> {
        self.find(kind).map(Received::new)
    }

    pub fn u32(&self, kind: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.find(kind)?.get(..4)?.try_into().ok()?))
    }

    pub fn u32_be(&self, kind: u16) -> Option<u32> {
        self.u32(kind).map(u32::from_be)
    }

    /// Text up to its NUL.
    pub fn text(&self, kind: u16) -> Option<&'a str> {
        let bytes = self.find(kind)?;
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(&bytes[..end]).ok()
    }
}

impl<'a> Iterator for Received<'a> {
    /// The kind without its flags, and the value.
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.bytes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(self.bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = self.bytes.get(4..length)?;
        self.bytes = self.bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_padded_and_nested() {
        let mut batch = Batch::new();
        batch.message(16, flags::REQUEST | flags::ACK, &[1; 16], |attributes| {
            attributes.text(3, "eth0").nested(18, |inner| {
                inner.u8(1, 7).u32_be(2, 9);
            });
        });
        batch.message(17, flags::REQUEST, &[], |_| {});
        assert_eq!(batch.acknowledged().collect::<Vec<_>>(), [true, false]);
        let bytes = batch.number(41);
        assert_eq!(bytes.len() % 4, 0);
        let first = u32::from_ne_bytes(bytes[..4].try_into().expect("four")) as usize;
        assert_eq!(bytes[8..12], 41_u32.to_ne_bytes());
        assert_eq!(bytes[first + 8..first + 12], 42_u32.to_ne_bytes());
        let received = Received::new(&bytes[HEADER + 16..first]);
        assert_eq!(received.text(3), Some("eth0"));
        let inner = received.nested(18).expect("it was written");
        assert_eq!((inner.find(1), inner.u32_be(2)), (Some(&[7][..]), Some(9)));
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        for bytes in [&[1, 0, 3, 0][..], &[200, 0, 3, 0, 1], &[0; 3], &[3, 0, 1, 0]] {
            assert_eq!(Received::new(bytes).count(), 0, "{bytes:?}");
        }
    }
}
