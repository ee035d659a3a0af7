//! Values that templates see: JSON, with the order of members kept.
use std::fmt::{self, Write};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;

/// Before the name of a method among the members of a map.
const METHOD: char = '\0';
/// What makes a map the row of a list.
const ROW: &str = "\0";
/// What makes a map one of any keys.
const ANY_KEY: &str = "\0*";
/// Before the name of a member that only templates see.
const SILENT: &str = "\0.";

/// What is nothing, of a type that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nil {
    Pointer,
    List,
    Map,
}

/// A JSON value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    /// Null in a document, and empty in a template.
    Nil(Nil),
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

impl Value {
    /// A map, in the order given.
    pub fn map<K: Into<String>, V: Into<Value>>(members: impl IntoIterator<Item = (K, V)>) -> Value {
        Value::Map(
            members
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }

    /// Adds a method of one argument: a map to look the argument up in. It is no member: `{{json .}}` does not show it.
    pub fn with_method(self, name: &str, map: Value) -> Value {
        self.with_hidden(format!("{METHOD}{name}"), map)
    }

    fn with_hidden(mut self, key: String, value: Value) -> Value {
        if let Value::Map(members) = &mut self {
            members.push((key, value));
        }
        self
    }

    /// Adds a member that is no part of the document: `{{json .}}` does not show it.
    pub fn with_silent(self, name: &str, value: Value) -> Value {
        self.with_hidden(format!("{SILENT}{name}"), value)
    }

    /// A key that the map does not have is no error.
    pub fn with_any_key(self) -> Value {
        self.with_hidden(ANY_KEY.to_string(), Value::Null)
    }

    pub fn has_any_key(&self) -> bool {
        match self {
            Value::Map(members) => members.iter().any(|(key, _)| key == ANY_KEY),
            Value::Nil(nil) => *nil == Nil::Map,
            _ => false,
        }
    }

    /// The members of a map that are its document's.
    pub fn shown(members: &[(String, Value)]) -> impl Iterator<Item = &(String, Value)> {
        members.iter().filter(|(key, _)| !key.starts_with(METHOD))
    }

    /// A row of a list: as JSON it is escaped as Go escapes what documents say of themselves.
    pub fn into_row(self) -> Value {
        self.with_method("", Value::Null)
    }

    /// What the method gives for this argument; the empty string where the map has nothing.
    pub fn call(&self, name: &str, argument: &str) -> Option<Value> {
        let Value::Map(members) = self else { return None };
        let map = members
            .iter()
            .find(|(key, _)| key.strip_prefix(METHOD) == Some(name))
            .map(|(_, map)| map)?;
        Some(map.member(argument).cloned().unwrap_or(Value::from("")))
    }

    /// What a map has under exactly this key.
    pub fn key(&self, name: &str) -> Option<&Value> {
        let Value::Map(members) = self else { return None };
        Value::shown(members)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }

    pub fn member(&self, name: &str) -> Option<&Value> {
        let Value::Map(members) = self else { return None };
        let exact = members.iter().find(|(key, _)| key == name);
        // Docker's templates know its Go types' spelling (`ID`) beside the wire's (`Id`).
        let known = |key: &str| key.strip_prefix(SILENT).unwrap_or(key).eq_ignore_ascii_case(name);
        let found = exact.or_else(|| members.iter().find(|(key, _)| known(key)));
        found.map(|(_, value)| value)
    }

    /// What `if` takes for true: anything but zero and empty.
    pub fn truth(&self) -> bool {
        match self {
            Value::Null | Value::Nil(_) => false,
            Value::Bool(value) => *value,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty(),
            Value::List(items) => !items.is_empty(),
            Value::Map(members) => Value::shown(members).next().is_some(),
        }
    }

    /// The value as JSON on one line.
    pub fn json(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text, None);
        match self {
            Value::Map(members) if members.iter().any(|(key, _)| key == ROW) => escape_html(&text),
            _ => text,
        }
    }

    /// The value as JSON over many lines, four blanks a level, the way `inspect` prints.
    pub fn json_indented(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text, Some(0));
        text
    }

    /// `depth` is that of the line we are on, or nothing for JSON on one line.
    fn write_json(&self, out: &mut String, depth: Option<usize>) {
        let inner = depth.map(|depth| depth + 1);
        match self {
            Value::List(items) if !items.is_empty() => {
                out.push('[');
                for (at, item) in items.iter().enumerate() {
                    separate(out, at, inner);
                    item.write_json(out, inner);
                }
                new_line(out, depth);
                out.push(']');
            }
            Value::Map(members) if Value::shown(members).next().is_some() => {
                out.push('{');
                for (at, (key, value)) in Value::shown(members).enumerate() {
                    separate(out, at, inner);
                    out.push_str(&json_string(key));
                    out.push_str(if depth.is_some() { ": " } else { ":" });
                    value.write_json(out, inner);
                }
                new_line(out, depth);
                out.push('}');
            }
            Value::List(_) => out.push_str("[]"),
            Value::Map(_) => out.push_str("{}"),
            Value::Null | Value::Nil(_) => out.push_str("null"),
            Value::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Number(number) => {
                let _ = write!(out, "{number}");
            }
            Value::String(text) => out.push_str(&json_string(text)),
        }
    }
}

fn separate(out: &mut String, at: usize, depth: Option<usize>) {
    if at > 0 {
        out.push(',');
    }
    new_line(out, depth);
}

fn new_line(out: &mut String, depth: Option<usize>) {
    if let Some(depth) = depth {
        out.push('\n');
        out.push_str(&"    ".repeat(depth));
    }
}

/// JSON as Go's `json.Marshal` writes it, fit for a page: only texts have these letters.
pub fn escape_html(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(escaped, "\\u{:04x}", u32::from(letter));
            }
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn json_string(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serializes")
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.to_string())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Value {
        Value::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Value {
        Value::Number(value.into())
    }
}

/// As Go prints a value: `[a b]`, `map[k:v]`, `<no value>`.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Null => f.write_str("<no value>"),
            Value::Nil(Nil::Pointer) => f.write_str("<nil>"),
            Value::Nil(Nil::List) => f.write_str("[]"),
            Value::Nil(Nil::Map) => f.write_str("map[]"),
            Value::Bool(value) => write!(f, "{value}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::String(text) => f.write_str(text),
            Value::List(items) => {
                f.write_char('[')?;
                for (at, item) in items.iter().enumerate() {
                    f.write_str(if at > 0 { " " } else { "" })?;
                    nested(item, f)?;
                }
                f.write_char(']')
            }
            Value::Map(members) => {
                let mut sorted: Vec<&(String, Value)> = Value::shown(members).collect();
                sorted.sort_by(|a, b| a.0.cmp(&b.0));
                f.write_str("map[")?;
                for (at, (key, value)) in sorted.into_iter().enumerate() {
                    f.write_str(if at > 0 { " " } else { "" })?;
                    write!(f, "{key}:")?;
                    nested(value, f)?;
                }
                f.write_char(']')
            }
        }
    }
}

fn nested(value: &Value, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match value {
        Value::Null => f.write_str("<nil>"),
        other => write!(f, "{other}"),
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_string()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Value::Map(members))
    }
}
