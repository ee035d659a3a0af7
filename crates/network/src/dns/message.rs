//! The wire: what a query asks, and answers of our own.
//!
//! Bytes come from inside containers and may be anything. Messages that are only passed on are never rewritten: of them
//! just the id and the flags are looked at (RFC 1035; RFC 6891 for sizes beyond 512 bytes).
use std::net::IpAddr;

use domain::{
    base::{
        Message, MessageBuilder, Name, ParsedName, Question, StaticCompressor,
        iana::{Class, Opcode, Rcode, Rtype},
        message_builder::AnswerBuilder,
    },
    rdata::{A, Aaaa, Ptr},
};

/// Bytes of the header.
pub const HEADER: usize = 12;
/// What every client takes over UDP.
const UDP: usize = 512;
/// What an IPv4 packet holds.
const UDP_MAX: usize = 65507;
/// What we say that we take over UDP.
const OUR_UDP: u16 = 4096;
/// Of an OPT record without options.
const OPT: usize = 11;
/// Seconds; Docker's.
const TTL: u32 = 600;

/// What a container sent.
#[derive(Debug)]
pub enum Received<'a> {
    Query(Query<'a>),
    /// No query that anybody could answer: this is the reply.
    Malformed(Vec<u8>),
    /// Not even that.
    Noise,
}

/// One question.
#[derive(Debug)]
pub struct Query<'a> {
    message: Message<&'a [u8]>,
    question: Question<ParsedName<&'a [u8]>>,
    /// In lower case and without the last dot; absent where it is no text that a name of ours could be.
    pub name: Option<String>,
    pub kind: Rtype,
    /// The most bytes that an answer over UDP may have.
    pub limit: usize,
    extended: bool,
}

impl<'a> Received<'a> {
    pub fn read(bytes: &'a [u8]) -> Received<'a> {
        let Ok(message) = Message::from_octets(bytes) else {
            return Received::Noise;
        };
        let header = message.header();
        if header.qr() {
            return Received::Noise;
        }
        if header.opcode() != Opcode::QUERY {
            return Received::Malformed(failure(bytes, Rcode::NOTIMP));
        }
        // There is nothing yet that the first name could point back to, but the id, and that will be another one.
        let question = message
            .sole_question()
            .ok()
            .filter(|question| !question.qname().is_compressed());
        let Some(question) = question else {
            return Received::Malformed(failure(bytes, Rcode::FORMERR));
        };
        let extended = message.opt();
        let limit = extended
            .as_ref()
            .map_or(UDP, |opt| usize::from(opt.udp_payload_size()).clamp(UDP, UDP_MAX));
        Received::Query(Query {
            name: text(&question),
            kind: question.qtype(),
            limit,
            extended: extended.is_some(),
            message,
            question,
        })
    }
}

impl<'a> Query<'a> {
    /// As it came.
    pub fn bytes(&self) -> &'a [u8] {
        self.message.as_octets()
    }

    /// Is it about the Internet's names, of which ours are a part?
    pub fn of_internet(&self) -> bool {
        matches!(self.question.qclass(), Class::IN | Class::ANY)
    }

    /// The addresses of a kind; none is an answer too. What does not fit is left out, and the answer says so.
    pub fn addresses(&self, addresses: &[IpAddr], limit: usize) -> Vec<u8> {
        self.answer(Rcode::NOERROR, limit, |answer| {
            let name = self.question.qname();
            addresses.iter().all(|address| {
                match address {
                    IpAddr::V4(address) => answer.push((name, Class::IN, TTL, A::new(*address))),
                    IpAddr::V6(address) => answer.push((name, Class::IN, TTL, Aaaa::new(*address))),
                }
                .is_ok()
            })
        })
    }

    /// The name of an address; `None` when it is none that a message can hold.
    pub fn pointer(&self, target: &str, limit: usize) -> Option<Vec<u8>> {
        let target = Name::<Vec<u8>>::from_chars(target.chars()).ok()?;
        Some(self.answer(Rcode::NOERROR, limit, |answer| {
            answer
                .push((self.question.qname(), Class::IN, TTL, Ptr::new(&target)))
                .is_ok()
        }))
    }

    pub fn failure(&self, code: Rcode) -> Vec<u8> {
        self.answer(code, UDP, |_| true)
    }

    /// An answer that says: ask again over TCP.
    pub fn truncated(&self) -> Vec<u8> {
        self.answer(Rcode::NOERROR, UDP, |_| false)
    }

    /// `fill` says whether all of it fitted.
    fn answer(
        &self,
        code: Rcode,
        limit: usize,
        fill: impl FnOnce(&mut AnswerBuilder<StaticCompressor<Vec<u8>>>) -> bool,
    ) -> Vec<u8> {
        let target = StaticCompressor::new(Vec::with_capacity(UDP));
        let builder = MessageBuilder::from_target(target).expect("vectors take everything");
        let mut answer = builder.start_error(&self.message, code);
        answer.header_mut().set_ra(true);
        answer.set_push_limit(limit.saturating_sub(OPT));
        if !fill(&mut answer) {
            answer.header_mut().set_tc(true);
        }
        answer.clear_push_limit();
        let mut rest = answer.additional();
        if self.extended {
            rest.opt(|opt| {
                opt.set_udp_payload_size(OUR_UDP);
                Ok(())
            })
            .expect("vectors take everything");
        }
        rest.finish().into_target()
    }
}

/// Labels as the dotted text that users write, in lower case.
fn text(question: &Question<ParsedName<&[u8]>>) -> Option<String> {
    let mut name = String::new();
    for label in question.qname().iter() {
        if label.is_root() {
            break;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for &byte in label.as_slice() {
            if !byte.is_ascii_graphic() || byte == b'.' {
                return None;
            }
            name.push(char::from(byte.to_ascii_lowercase()));
        }
    }
    Some(name)
}

/// A header alone, for who sent one.
fn failure(bytes: &[u8], code: Rcode) -> Vec<u8> {
    let mut answer = vec![0; HEADER];
    answer[..2].copy_from_slice(&bytes[..2]);
    // QR, the opcode and RD as asked; RA.
    answer[2] = 0x80 | (bytes[2] & 0x79);
    answer[3] = 0x80 | (code.to_int() & 0xf);
    answer
}

/// Could `answer` be the answer to `query`? The id is its first two bytes.
pub fn answers(answer: &[u8], query: &[u8], id: [u8; 2]) -> bool {
    let (Ok(answer), Ok(query)) = (Message::from_octets(answer), Message::from_octets(query)) else {
        return false;
    };
    if !answer.header().qr() || answer.header().id() != u16::from_be_bytes(id) {
        return false;
    }
    match (answer.sole_question(), query.sole_question()) {
        (Ok(answered), Ok(asked)) => answered == asked,
        // Some servers say no without repeating the question.
        (Err(_), Ok(_)) => answer.header_counts().qdcount() == 0 && answer.header().rcode() != Rcode::NOERROR,
        _ => false,
    }
}

/// Was something left out of an answer?
pub fn is_truncated(answer: &[u8]) -> bool {
    answer.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// Does a server decline, so that another may be asked?
pub fn declines(answer: &[u8]) -> bool {
    let code = answer.get(3).map(|flags| Rcode::masked_from_int(flags & 0xf));
    matches!(code, Some(Rcode::SERVFAIL | Rcode::REFUSED | Rcode::NOTIMP))
}
