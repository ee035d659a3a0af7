//! YAML as a JSON value: what a reader of JSON documents needs to read YAML ones too.
//!
//! Events are pulled one by one, so that a document is as deep as it likes and still no deeper than [`DEPTH_MAX`].
use serde_json::{Map, Value};
use yaml_rust2::{Event, Yaml, parser::Parser, scanner::TScalarStyle};

const DEPTH_MAX: usize = 64;
/// Of values, those that an alias repeats counted each time.
const VALUES_MAX: usize = 100_000;

/// The first document of a text.
pub fn parse(text: &str) -> Result<Value, String> {
    let mut parser = Parser::new(text.chars());
    let mut builder = Builder::default();
    loop {
        let (event, mark) = parser.next_token().map_err(|error| error.to_string())?;
        let end = matches!(event, Event::DocumentEnd | Event::StreamEnd);
        builder
            .take(event)
            .map_err(|reason| format!("{reason} at line {}", mark.line()))?;
        if end {
            return Ok(builder.whole.unwrap_or(Value::Null));
        }
    }
}

/// A list or a map that is being filled, and its anchor.
enum Open {
    List(usize, Vec<Value>),
    /// With the key that waits for its value.
    Map(usize, Map<String, Value>, Option<String>),
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// Values by anchor; anchors are numbered from 1.
    anchored: Vec<(usize, Value)>,
    count: usize,
    whole: Option<Value>,
}

impl Builder {
    fn take(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::SequenceStart(anchor, _) => self.open(Open::List(anchor, Vec::new())),
            Event::MappingStart(anchor, _) => self.open(Open::Map(anchor, Map::new(), None)),
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(anchor, items)) => self.put(anchor, Value::Array(items)),
                Some(Open::Map(anchor, members, _)) => self.put(anchor, Value::Object(members)),
                None => Err("an end without a beginning".to_owned()),
            },
            Event::Scalar(text, style, anchor, _) => self.put(anchor, scalar(text, style)),
            Event::Alias(anchor) => {
                let found = self.anchored.iter().find(|(known, _)| *known == anchor);
                let value = found.map(|(_, value)| value.clone()).ok_or("an unknown alias")?;
                self.count += size(&value);
                self.put(0, value)
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, new: Open) -> Result<(), String> {
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels"));
        }
        self.open.push(new);
        Ok(())
    }

    fn put(&mut self, anchor: usize, value: Value) -> Result<(), String> {
        self.count += 1;
        if self.count > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
        if anchor > 0 {
            self.anchored.push((anchor, value.clone()));
        }
        match self.open.last_mut() {
            None => self.whole = Some(value),
            Some(Open::List(_, items)) => items.push(value),
            Some(Open::Map(_, members, waiting)) => match waiting.take() {
                Some(key) if members.contains_key(&key) => return Err(format!("{key:?} is there twice")),
                Some(key) => drop(members.insert(key, value)),
                None => *waiting = Some(key(value)?),
            },
        }
        Ok(())
    }
}

fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => items.iter().map(size).sum::<usize>() + 1,
        Value::Object(members) => members.values().map(size).sum::<usize>() + 1,
        _ => 1,
    }
}

fn key(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        Value::Null | Value::Array(_) | Value::Object(_) => Err("a key that is no text".to_owned()),
        other => Ok(other.to_string()),
    }
}

fn scalar(text: String, style: TScalarStyle) -> Value {
    if style != TScalarStyle::Plain {
        return Value::String(text);
    }
    // As Go programs read it: modes of files are written like this.
    let octal = text.len() > 1 && text.starts_with('0') && text.bytes().all(|b| (b'0'..=b'7').contains(&b));
    if octal && let Ok(number) = i64::from_str_radix(&text, 8) {
        return number.into();
    }
    match Yaml::from_str(&text) {
        Yaml::Null => Value::Null,
        Yaml::Boolean(value) => value.into(),
        Yaml::Integer(number) => number.into(),
        Yaml::Real(_) => text.parse::<f64>().map_or(Value::String(text), Value::from),
        _ => Value::String(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_becomes_what_json_would_say() {
        let text = "---\ncdiVersion: \"0.6.0\"\nkind: vendor.com/gpu\ndevices:\n- name: '0'\n  containerEdits:\n    \
                    deviceNodes: [{path: /dev/a, fileMode: 0660, major: -1}]\n    env:\n    - A=b\nempty:\nyes: true\n";
        let expected = json!({
            "cdiVersion": "0.6.0", "kind": "vendor.com/gpu", "empty": null, "yes": true,
            "devices": [{"name": "0", "containerEdits": {
                "deviceNodes": [{"path": "/dev/a", "fileMode": 0o660, "major": -1}], "env": ["A=b"]}}],
        });
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("{\"a\": [1, 2.5, \"x\"]}").unwrap(), json!({"a": [1, 2.5, "x"]}));
    }

    #[test]
    fn aliases_repeat_and_cannot_explode() {
        assert_eq!(parse("a: &x [1]\nb: *x\n").unwrap(), json!({"a": [1], "b": [1]}));
        let mut bomb = "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n".to_owned();
        for level in 1..9 {
            let below = level - 1;
            let ten = vec![format!("*a{below}"); 10].join(",");
            bomb.push_str(&format!("a{level}: &a{level} [{ten}]\n"));
        }
        assert!(parse(&bomb).unwrap_err().starts_with("more than 100000 values"));
        assert!(
            parse(&format!("{}{}", "[".repeat(70), "]".repeat(70)))
                .unwrap_err()
                .starts_with("more than 64 levels")
        );
    }

    #[test]
    fn nonsense_is_an_error() {
        for bad in ["a: [", "a: b: c", "a: 1\na: 2\n", "[1]: 2", "b: *unknown"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
