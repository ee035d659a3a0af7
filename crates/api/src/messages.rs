//! Progress lines: what `load`, `create`, `push` and `build` stream while they work.
//!
//! A failure after the status line has gone out is a line too, with `error` and `errorDetail`: a reader that only looks
//! at the status takes it for success.
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One JSON object of the stream, ended by `\r\n` on the wire.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Message {
    /// Text to print as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress_detail: Option<ProgressDetail>,
    /// A bar drawn by the daemon, for clients that draw none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<String>,
    /// What the line is about: a later line with the same id replaces it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Value>,
}

/// Bytes, usually.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProgressDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorDetail {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    pub message: String,
}

impl Message {
    pub fn stream(text: impl Into<String>) -> Message {
        Message {
            stream: Some(text.into()),
            ..Message::default()
        }
    }

    pub fn status(text: impl Into<String>) -> Message {
        Message {
            status: Some(text.into()),
            ..Message::default()
        }
    }

    pub fn error(text: impl Into<String>) -> Message {
        let message = text.into();
        let error_detail = Some(ErrorDetail {
            code: None,
            message: message.clone(),
        });
        Message {
            error: Some(message),
            error_detail,
            ..Message::default()
        }
    }

    /// The line as it travels.
    pub fn to_line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("a message always serializes");
        line.extend_from_slice(b"\r\n");
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_look_as_clients_expect() {
        let line = Message::stream("Loaded image: a:b\n").to_line();
        assert_eq!(line, b"{\"stream\":\"Loaded image: a:b\\n\"}\r\n");
        let line = Message::error("no space").to_line();
        assert_eq!(
            line,
            b"{\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space\"}\r\n"
        );
    }
}
