//! Driver `gelf`: Graylog's format, in datagrams (compressed, in chunks where they are large) or over TCP.
use std::{collections::BTreeMap, io::Write};

use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result},
    log::{
        facts::Facts,
        remote::{
            address::{self, Address, host_port},
            message::{Batch, Encoder, Message, host_name},
        },
    },
};

pub const OPTIONS: [&str; 5] = [
    "gelf-address",
    "gelf-compression-type",
    "gelf-compression-level",
    "gelf-tcp-max-reconnect",
    "gelf-tcp-reconnect-delay",
];

/// Larger datagrams are cut into chunks of this size, which have a header.
const CHUNK_BYTES: usize = 1420;
const CHUNK_HEADER_BYTES: usize = 12;
const CHUNKS_MAX: usize = 128;
const CHUNK_MAGIC: [u8; 2] = [0x1e, 0x0f];

const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Gzip,
    Zlib,
    None,
}

pub fn check(options: &BTreeMap<String, String>) -> Result<()> {
    let address = address(options)?;
    let udp = matches!(address, Address::Udp(_));
    for (key, value) in options {
        let unknown = || {
            Err(Error::invalid(format!(
                "unknown value \"{value}\" for log opt \"{key}\" for gelf log driver"
            )))
        };
        match key.as_str() {
            "gelf-compression-type" | "gelf-compression-level" if !udp => {
                return Err(Error::invalid("compression is only supported on UDP"));
            }
            "gelf-compression-type" if !matches!(value.as_str(), "gzip" | "zlib" | "none") => return unknown(),
            "gelf-compression-level" if !value.parse::<i32>().is_ok_and(|level| (-1..=9).contains(&level)) => {
                return unknown();
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if udp => {
                return Err(Error::invalid(format!("\"{key}\" is only valid for TCP")));
            }
            "gelf-tcp-max-reconnect" | "gelf-tcp-reconnect-delay" if value.parse::<u32>().is_err() => {
                return Err(Error::invalid(format!("\"{key}\" must be a positive integer")));
            }
            _ => {}
        }
    }
    Ok(())
}

pub fn address(options: &BTreeMap<String, String>) -> Result<Address> {
    let Some(text) = options.get("gelf-address").filter(|text| !text.is_empty()) else {
        return Err(Error::invalid("gelf-address is a required parameter"));
    };
    let Some((scheme, place)) = address::split(text) else {
        return Err(Error::invalid(format!(
            "gelf-address should be in form proto://address, got {text}"
        )));
    };
    let make = match scheme {
        "udp" => Address::Udp,
        "tcp" => Address::Tcp,
        _ => return Err(Error::invalid("gelf: endpoint needs to be TCP or UDP")),
    };
    match host_port(place) {
        Ok((_, Some(port))) if !port.is_empty() => Ok(make(place.to_owned())),
        _ => Err(Error::invalid("gelf: please provide gelf-address as proto://host:port")),
    }
}

pub struct Gelf {
    host: String,
    /// `,"_container_id":"…",…}`: what all messages have.
    extra: String,
    /// Absent over TCP.
    packing: Option<(Packing, Compression)>,
}

impl Gelf {
    pub fn new(facts: &Facts) -> Result<Gelf> {
        let udp = matches!(address(&facts.options)?, Address::Udp(_));
        let packing = match facts.options.get("gelf-compression-type").map(String::as_str) {
            Some("zlib") => Packing::Zlib,
            Some("none") => Packing::None,
            _ => Packing::Gzip,
        };
        let level = match facts
            .options
            .get("gelf-compression-level")
            .and_then(|level| level.parse::<i32>().ok())
        {
            None => Compression::fast(),
            Some(-1) => Compression::default(),
            Some(level) => Compression::new(u32::try_from(level).unwrap_or_default()),
        };
        Ok(Gelf {
            host: host_name(),
            extra: extra(facts),
            packing: udp.then_some((packing, level)),
        })
    }

    fn document(&self, message: &Message) -> Vec<u8> {
        // Milliseconds are all that the format's receivers keep.
        let milliseconds = message.nanoseconds.div_euclid(1_000_000);
        let known = json!({
            "version": "1.1",
            "host": self.host,
            "short_message": String::from_utf8_lossy(message.text),
            "timestamp": milliseconds as f64 / 1000.0,
            "level": if message.stderr { ERROR } else { INFORMATION },
        });
        let mut text = known.to_string();
        text.pop();
        text.push_str(&self.extra);
        text.into_bytes()
    }
}

fn extra(facts: &Facts) -> String {
    let mut fields = Map::new();
    let mut add = |key: &str, value: String| fields.insert(key.to_owned(), Value::String(value));
    add("_container_id", facts.id.clone());
    add("_container_name", facts.name.clone());
    add("_image_id", facts.image_id.clone());
    add("_image_name", facts.image_name.clone());
    add("_command", facts.command.clone());
    add("_tag", facts.tag());
    add("_created", facts.created.to_string());
    for (key, value) in facts.attributes() {
        add(&if key.starts_with('_') { key } else { format!("_{key}") }, value);
    }
    let text = Value::Object(fields).to_string();
    format!(",{}", &text[1..])
}

impl Encoder for Gelf {
    fn encode(&mut self, message: &Message, batch: &mut Batch) {
        // Receivers refuse messages without a text.
        if message.text.is_empty() {
            return;
        }
        let document = self.document(message);
        let Some((packing, level)) = self.packing else {
            batch.bytes.extend_from_slice(&document);
            batch.bytes.push(0);
            return batch.end();
        };
        match pack(&document, packing, level) {
            packed if packed.len() <= CHUNK_BYTES => {
                batch.bytes.extend_from_slice(&packed);
                batch.end();
            }
            packed => chunks(&packed, batch),
        }
    }
}

fn pack(document: &[u8], packing: Packing, level: Compression) -> Vec<u8> {
    let packed = match packing {
        Packing::None => return document.to_vec(),
        Packing::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), level);
            encoder.write_all(document).and_then(|()| encoder.finish())
        }
        Packing::Zlib => {
            let mut encoder = ZlibEncoder::new(Vec::new(), level);
            encoder.write_all(document).and_then(|()| encoder.finish())
        }
    };
    packed.expect("memory takes everything")
}

/// What is too large for all chunks cannot be sent.
fn chunks(packed: &[u8], batch: &mut Batch) {
    let parts = packed.chunks(CHUNK_BYTES - CHUNK_HEADER_BYTES);
    let Some(count) = u8::try_from(parts.len())
        .ok()
        .filter(|count| usize::from(*count) <= CHUNKS_MAX)
    else {
        return;
    };
    let mut id = [0; 8];
    let _ = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
    for (number, part) in (0..count).zip(parts) {
        batch.bytes.extend_from_slice(&CHUNK_MAGIC);
        batch.bytes.extend_from_slice(&id);
        batch.bytes.extend_from_slice(&[number, count]);
        batch.bytes.extend_from_slice(part);
        batch.end();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::{GzDecoder, ZlibDecoder};

    use super::*;
    use crate::log::facts;

    fn batch(options: &[(&str, &str)], text: &[u8]) -> Batch {
        let mut facts = facts::example();
        for (key, value) in options {
            facts.options.insert((*key).to_owned(), (*value).to_owned());
        }
        let mut batch = Batch::default();
        let message = Message {
            text,
            stderr: true,
            nanoseconds: 1_767_323_045_006_999_999,
            piece: None,
        };
        Gelf::new(&facts).expect("valid").encode(&message, &mut batch);
        batch
    }

    #[test]
    fn a_message_has_the_containers_facts() {
        let batch = batch(&[("gelf-address", "tcp://127.0.0.1:12201")], b"hello \"you\"");
        let document = batch.bytes.strip_suffix(b"\0").expect("ends in NUL");
        let document: Value = serde_json::from_slice(document).expect("JSON");
        assert_eq!(document["short_message"], "hello \"you\"");
        assert_eq!(document["timestamp"], 1_767_323_045.006);
        assert_eq!(document["level"], 3);
        assert_eq!(document["_container_name"], "web");
        assert_eq!(document["_tag"], "0123456789ab");
        assert_eq!(document["_STAGE"], "test");
        assert_eq!(document["_created"], "2026-01-02T03:04:05Z");
    }

    #[test]
    fn datagrams_are_compressed_and_large_ones_cut() {
        let mut noise = vec![0; 6000];
        rustix::rand::getrandom(&mut noise, rustix::rand::GetRandomFlags::empty()).expect("random bytes");
        let noise: String = noise.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
        for kind in ["gzip", "zlib", "none"] {
            let options = [
                ("gelf-address", "udp://127.0.0.1:12201"),
                ("gelf-compression-type", kind),
            ];
            let batch = batch(&options, noise.as_bytes());
            let datagrams: Vec<&[u8]> = batch.datagrams().collect();
            assert!(datagrams.len() > 1);
            let mut packed = Vec::new();
            for (number, datagram) in datagrams.iter().enumerate() {
                assert!(datagram.len() <= CHUNK_BYTES);
                assert_eq!(datagram[..2], CHUNK_MAGIC);
                assert_eq!(datagram[2..10], datagrams[0][2..10]);
                assert_eq!(datagram[10..12], [number as u8, datagrams.len() as u8]);
                packed.extend_from_slice(&datagram[12..]);
            }
            let mut text = String::new();
            match kind {
                "gzip" => GzDecoder::new(&packed[..]).read_to_string(&mut text).expect("gzip"),
                "zlib" => ZlibDecoder::new(&packed[..]).read_to_string(&mut text).expect("zlib"),
                _ => packed.as_slice().read_to_string(&mut text).expect("text"),
            };
            let document: Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(document["short_message"], noise);
        }
    }
}
