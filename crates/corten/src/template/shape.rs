//! Shapes: what Docker's types know of a document beyond what the document says.
//!
//! A member that is empty is often left out of a document, or null. Docker's templates see its types, where every member
//! is there: `{{if .State.Health}}` is no error, and `{{.ExecIDs}}` prints `[]`. A shape names such members, and the ways
//! to them; of all others the document says enough.
use serde_json::Number;

use crate::template::value::{Nil, Value};

/// What a value is in Go.
#[derive(Debug)]
pub enum Shape {
    /// What the document says.
    Any,
    Text,
    Number,
    Flag,
    /// Null where there is nothing.
    Pointer(&'static Shape),
    List(&'static Shape),
    /// Its keys are data: one that is not there has no value, and is no error.
    Map(&'static Shape),
    Struct(&'static [(&'static str, Shape)]),
}

impl Shape {
    /// The value with everything that its type adds; as JSON it is what it was.
    pub fn complete(&self, value: Value) -> Value {
        match (self, value) {
            (Shape::List(_), Value::Null) => Value::Nil(Nil::List),
            (Shape::List(item), Value::List(items)) => {
                Value::List(items.into_iter().map(|value| item.complete(value)).collect())
            }
            (Shape::Map(_), Value::Null) => Value::Nil(Nil::Map),
            (Shape::Map(item), Value::Map(members)) => {
                let members = members.into_iter().map(|(key, value)| (key, item.complete(value)));
                Value::Map(members.collect()).with_any_key()
            }
            (Shape::Pointer(_), Value::Null) => Value::Nil(Nil::Pointer),
            (Shape::Pointer(target), value) => target.complete(value),
            (Shape::Struct(fields), Value::Map(mut members)) => {
                let mut missing = Vec::new();
                for (name, shape) in *fields {
                    match members.iter_mut().find(|(key, _)| key == name) {
                        Some((_, value)) => *value = shape.complete(std::mem::replace(value, Value::Null)),
                        None => missing.push((*name, shape.zero())),
                    }
                }
                let whole = missing.into_iter();
                whole.fold(Value::Map(members), |value, (name, zero)| value.with_silent(name, zero))
            }
            (_, value) => value,
        }
    }

    /// What Go makes of a member that a document leaves out.
    fn zero(&self) -> Value {
        match self {
            Shape::Any | Shape::Pointer(_) => Value::Nil(Nil::Pointer),
            Shape::Text => Value::from(""),
            Shape::Number => Value::Number(Number::from(0)),
            Shape::Flag => Value::Bool(false),
            Shape::List(_) => Value::Nil(Nil::List),
            Shape::Map(_) => Value::Nil(Nil::Map),
            Shape::Struct(_) => self.complete(Value::Map(Vec::new())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::evaluate::render;

    static DOCUMENT: Shape = Shape::Struct(&[
        ("Health", Shape::Pointer(&Shape::Any)),
        (
            "Inner",
            Shape::Struct(&[("Name", Shape::Text), ("Count", Shape::Number)]),
        ),
        ("Labels", Shape::Map(&Shape::Any)),
        ("Left", Shape::List(&Shape::Any)),
        ("Mounts", Shape::List(&Shape::Struct(&[("Driver", Shape::Text)]))),
        ("None", Shape::Map(&Shape::Any)),
        ("On", Shape::Flag),
    ]);

    fn show(template: &str) -> String {
        let document = r#"{"Id":"1","Labels":{"a":"b"},"Left":null,"Mounts":[{"Type":"bind"}]}"#;
        let value = DOCUMENT.complete(serde_json::from_str(document).unwrap());
        render(template, &value).unwrap_or_else(|error| format!("! {error}"))
    }

    #[test]
    fn what_is_left_out_is_there_as_its_type_has_it() {
        let cases = [
            ("{{if .Health}}x{{else}}none{{end}} {{.Health}}", "none <nil>"),
            ("{{.Inner.Name}}|{{.Inner.Count}}|{{.On}}", "|0|false"),
            ("{{.Left}} {{len .Left}} {{range .Left}}x{{else}}-{{end}}", "[] 0 -"),
            (
                "{{.None}} {{len .None}} {{index .None \"q\"}}|{{.None.q}}",
                "map[] 0 |<no value>",
            ),
            ("{{range .Mounts}}{{.Type}}{{.Driver}}{{end}}", "bind"),
            ("{{with .Left}}x{{end}}{{join .Left \",\"}}", ""),
        ];
        for (template, expected) in cases {
            assert_eq!(show(template), expected, "{template}");
        }
    }

    #[test]
    fn keys_of_maps_may_be_missing_and_members_may_not() {
        let cases = [
            (
                "{{.Labels.a}} {{.Labels.z}} {{len .Labels}} {{.Labels}}",
                "b <no value> 1 map[a:b]",
            ),
            ("{{range $k, $v := .Labels}}{{$k}}={{$v}}{{end}}", "a=b"),
            (
                "{{.Nope}}",
                "! template: :1: executing \"\": map has no entry for key \"Nope\"",
            ),
            (
                "{{.Health.Status}}",
                "! template: :1: executing \"\": nil data; no entry for key \"Status\"",
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(show(template), expected, "{template}");
        }
    }

    #[test]
    fn json_is_what_the_document_says() {
        let text = r#"{"Id":"1","Labels":{"a":"b"},"Left":null,"Mounts":[{"Type":"bind"}]}"#;
        assert_eq!(show("{{json .}}"), text);
        assert_eq!(
            show("{{json .Health}} {{json .None}} {{json .Inner.Name}}"),
            "null null \"\""
        );
    }
}
