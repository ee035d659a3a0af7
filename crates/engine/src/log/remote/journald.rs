//! Driver `journald`: the journal's native protocol, with the fields that Docker writes.
//!
//! <https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>
use crate::log::{
    facts::Facts,
    remote::message::{Batch, Encoder, Message, random_hex},
};
use corten_runtime::shim::log::time::rfc3339;

pub const SOCKET: &str = "/run/systemd/journal/socket";

const ERROR: u8 = 3;
const INFORMATION: u8 = 6;

pub struct Journald {
    /// The fields that all messages have.
    fields: Vec<u8>,
    ordinal: u64,
}

impl Journald {
    pub fn new(facts: &Facts) -> Journald {
        let (tag, name) = (facts.tag(), facts.field("Name").unwrap_or_default().to_owned());
        let mut known = vec![
            (
                "CONTAINER_ID".to_owned(),
                facts.field("ID").unwrap_or_default().to_owned(),
            ),
            ("CONTAINER_ID_FULL".to_owned(), facts.id.clone()),
            ("CONTAINER_NAME".to_owned(), name),
            ("CONTAINER_TAG".to_owned(), tag.clone()),
            ("IMAGE_NAME".to_owned(), facts.image_name.clone()),
            ("SYSLOG_IDENTIFIER".to_owned(), tag),
            ("CONTAINER_LOG_EPOCH".to_owned(), random_hex()),
        ];
        for (key, value) in facts.attributes() {
            known.push((field_name(&key), value));
        }
        let mut fields = Vec::new();
        for (key, value) in known.iter().filter(|(key, _)| !key.is_empty()) {
            append(key, value.as_bytes(), &mut fields);
        }
        Journald { fields, ordinal: 0 }
    }
}

/// Capitals, digits and underscores, of which none stands first.
fn field_name(name: &str) -> String {
    let letters = name.chars().map(|letter| match letter {
        'a'..='z' | 'A'..='Z' | '0'..='9' => letter.to_ascii_uppercase(),
        _ => '_',
    });
    letters.skip_while(|letter| *letter == '_').collect()
}

fn append(key: &str, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(key.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

impl Encoder for Journald {
    fn encode(&mut self, message: &Message, batch: &mut Batch) {
        self.ordinal += 1;
        let out = &mut batch.bytes;
        let priority = if message.stderr { ERROR } else { INFORMATION };
        append("PRIORITY", priority.to_string().as_bytes(), out);
        out.extend_from_slice(&self.fields);
        append("SYSLOG_TIMESTAMP", rfc3339(message.nanoseconds).as_bytes(), out);
        append("CONTAINER_LOG_ORDINAL", self.ordinal.to_string().as_bytes(), out);
        if let Some(piece) = &message.piece {
            append("CONTAINER_PARTIAL_ID", piece.id.as_bytes(), out);
            append("CONTAINER_PARTIAL_ORDINAL", piece.ordinal.to_string().as_bytes(), out);
            append("CONTAINER_PARTIAL_LAST", piece.last.to_string().as_bytes(), out);
            if !piece.last {
                append("CONTAINER_PARTIAL_MESSAGE", b"true", out);
            }
        }
        append("MESSAGE", message.text, out);
        batch.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{facts, remote::message::Piece};

    #[test]
    fn fields_are_dockers() {
        let mut facts = facts::example();
        facts.labels.insert("com.b".to_owned(), "two\nlines".to_owned());
        let mut batch = Batch::default();
        let message = Message {
            text: b"hi",
            stderr: true,
            nanoseconds: 1,
            piece: Some(Piece {
                id: "p".to_owned(),
                ordinal: 1,
                last: false,
            }),
        };
        Journald::new(&facts).encode(&message, &mut batch);
        let text = String::from_utf8_lossy(&batch.bytes);
        for field in [
            "PRIORITY=3\n",
            "CONTAINER_ID=0123456789ab\n",
            "CONTAINER_NAME=web\n",
            "SYSLOG_IDENTIFIER=0123456789ab\n",
            "COM_A=1\n",
            "COM_B\n\u{9}\0\0\0\0\0\0\0two\nlines\n",
            "CONTAINER_PARTIAL_MESSAGE=true\n",
            "SYSLOG_TIMESTAMP=1970-01-01T00:00:00.000000001Z\n",
        ] {
            assert!(text.contains(field), "{field}: {text}");
        }
        assert!(text.ends_with("MESSAGE=hi\n"));
        assert_eq!(field_name("_my.label-1"), "MY_LABEL_1");
    }
}
