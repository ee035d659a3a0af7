//! A tree and a value to text.
use std::mem;

use crate::template::function;
use crate::template::parse::{self, Node, Operand, Pipeline, Template};
use crate::template::value::{Nil, Value};

/// Parses and evaluates in one go; for templates used once.
pub fn render(template: &str, value: &Value) -> Result<String, String> {
    parse::parse(template)
        .map_err(parse_error)
        .and_then(|template| execute(&template, value))
}

/// A parse error in Docker's words.
pub fn parse_error(reason: String) -> String {
    format!("template parsing error: template: :1: {reason}")
}

/// Evaluates a template over a value.
pub fn execute(template: &Template, value: &Value) -> Result<String, String> {
    Run::new(template, value, false).finish(value)
}

/// Evaluates a template over the headings of a table: what has none is an empty text.
pub fn execute_headings(template: &Template, headings: &Value) -> Result<String, String> {
    Run::new(template, headings, true).finish(headings)
}

/// Templates within templates; one that shows itself ends here.
const DEPTH_MAX: usize = 100;

struct Run<'t> {
    template: &'t Template,
    depth: usize,
    /// A member that is missing is an empty text.
    forgiving: bool,
    out: String,
    /// Innermost last.
    variables: Vec<(String, Value)>,
}

#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

impl<'t> Run<'t> {
    fn new(template: &'t Template, value: &Value, forgiving: bool) -> Run<'t> {
        Run {
            template,
            depth: 0,
            forgiving,
            out: String::new(),
            variables: vec![("$".to_string(), value.clone())],
        }
    }

    fn finish(mut self, value: &Value) -> Result<String, String> {
        match self.nodes(&self.template.nodes, value) {
            Ok(_) => Ok(self.out),
            Err(reason) => Err(format!("template: :1: executing \"\": {reason}")),
        }
    }

    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        for node in nodes {
            let flow = self.node(node, dot)?;
            if flow != Flow::On {
                return Ok(flow);
            }
        }
        Ok(Flow::On)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipeline) => {
                let value = self.pipeline(pipeline, dot)?;
                if pipeline.variables.is_empty() {
                    self.out.push_str(&value.to_string());
                } else {
                    self.set(pipeline, value);
                }
            }
            Node::If(condition, body, otherwise) => {
                let depth = self.variables.len();
                let value = self.pipeline(condition, dot)?;
                self.set(condition, value.clone());
                let flow = self.nodes(if value.truth() { body } else { otherwise }, dot);
                self.variables.truncate(depth);
                return flow;
            }
            Node::With(condition, body, otherwise) => {
                let depth = self.variables.len();
                let value = self.pipeline(condition, dot)?;
                self.set(condition, value.clone());
                let flow = if value.truth() {
                    self.nodes(body, &value)
                } else {
                    self.nodes(otherwise, dot)
                };
                self.variables.truncate(depth);
                return flow;
            }
            Node::Range(over, body, otherwise) => return self.range(over, body, otherwise, dot),
            Node::Template(name, given) => self.named(name, given.as_ref(), dot)?,
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    /// Another template, which sees nothing but its dot.
    fn named(&mut self, name: &str, given: Option<&Pipeline>, dot: &Value) -> Result<(), String> {
        let own = given.map(|given| self.pipeline(given, dot)).transpose()?;
        let own = own.unwrap_or(Value::Null);
        let nodes = self.template.named(name);
        let nodes = nodes.ok_or_else(|| format!("template {name:?} not defined"))?;
        if self.depth == DEPTH_MAX {
            return Err(format!("exceeded maximum template depth ({DEPTH_MAX})"));
        }
        self.depth += 1;
        let outer = mem::replace(&mut self.variables, vec![("$".to_string(), own.clone())]);
        let shown = self.nodes(nodes, &own);
        self.variables = outer;
        self.depth -= 1;
        shown.map(drop)
    }

    fn range(&mut self, over: &Pipeline, body: &[Node], otherwise: &[Node], dot: &Value) -> Result<Flow, String> {
        let items = pairs(self.pipeline(over, dot)?)?;
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        for (key, item) in items {
            let depth = self.variables.len();
            match over.variables.as_slice() {
                [value] => self.variables.push((value.clone(), item.clone())),
                [index, value] => {
                    self.variables.push((index.clone(), key));
                    self.variables.push((value.clone(), item.clone()));
                }
                _ => {}
            }
            let flow = self.nodes(body, &item);
            self.variables.truncate(depth);
            if flow? == Flow::Break {
                break;
            }
        }
        Ok(Flow::On)
    }

    fn set(&mut self, pipeline: &Pipeline, value: Value) {
        let [name] = pipeline.variables.as_slice() else { return };
        let known = self.variables.iter_mut().rev().find(|(known, _)| known == name);
        match known {
            Some((_, slot)) if !pipeline.declares => *slot = value,
            _ => self.variables.push((name.clone(), value)),
        }
    }

    fn pipeline(&mut self, pipeline: &Pipeline, dot: &Value) -> Result<Value, String> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, last, dot)?);
        }
        Ok(last.unwrap_or(Value::Null))
    }

    fn command(&mut self, command: &[Operand], piped: Option<Value>, dot: &Value) -> Result<Value, String> {
        let (first, rest) = command.split_first().expect("the parser refuses empty commands");
        let Operand::Function(name) = first else {
            if let (Operand::Path(base, names), [argument], None) = (first, rest, &piped)
                && let [name] = names.as_slice()
            {
                let (value, argument) = (self.operand(base, dot)?, self.operand(argument, dot)?);
                if let Some(found) = value.call(name, &argument.to_string()) {
                    return Ok(found);
                }
                if self.forgiving {
                    return Ok(Value::String(heading(&argument.to_string())));
                }
            }
            if !rest.is_empty() || piped.is_some() {
                return Err("can't give argument to non-function".to_string());
            }
            return self.operand(first, dot);
        };
        let mut arguments = Vec::with_capacity(rest.len() + 1);
        for operand in rest {
            let value = self.operand(operand, dot)?;
            // `and` and `or` stop where the answer is known.
            let settled = match name.as_str() {
                "and" => !value.truth(),
                "or" => value.truth(),
                _ => false,
            };
            if settled {
                return Ok(value);
            }
            arguments.push(value);
        }
        arguments.extend(piped);
        function::call(name, &arguments).map_err(|reason| format!("error calling {name}: {reason}"))
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        match operand {
            Operand::Dot => Ok(dot.clone()),
            Operand::Nil => Ok(Value::Null),
            Operand::Literal(value) => Ok(value.clone()),
            Operand::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                found
                    .map(|(_, value)| value.clone())
                    .ok_or_else(|| format!("undefined variable {name:?}"))
            }
            Operand::Function(name) => {
                function::call(name, &[]).map_err(|reason| format!("error calling {name}: {reason}"))
            }
            Operand::Group(pipeline) => self.pipeline(pipeline, dot),
            Operand::Path(base, names) => {
                let mut value = self.operand(base, dot)?;
                for name in names {
                    value = match field(&value, name) {
                        Err(_) if self.forgiving => Value::from(""),
                        found => found?,
                    };
                }
                Ok(value)
            }
        }
    }
}

/// The heading of the column of a label: `com.example.some-name` is about `some name`.
fn heading(label: &str) -> String {
    let last = label.rsplit('.').next().unwrap_or(label);
    last.replace(['-', '_'], " ")
}

/// What `range` goes through: index and item, or key and value in the order of keys.
fn pairs(value: Value) -> Result<Vec<(Value, Value)>, String> {
    match value {
        Value::List(items) => Ok(items
            .into_iter()
            .enumerate()
            .map(|(at, item)| (Value::from(at as i64), item))
            .collect()),
        Value::Map(members) => {
            let mut members: Vec<_> = Value::shown(&members).cloned().collect();
            members.sort_by(|a, b| a.0.cmp(&b.0));
            Ok(members
                .into_iter()
                .map(|(key, value)| (Value::String(key), value))
                .collect())
        }
        Value::Null | Value::Nil(Nil::List | Nil::Map) => Ok(Vec::new()),
        other => Err(format!("range can't iterate over {other}")),
    }
}

fn field(value: &Value, name: &str) -> Result<Value, String> {
    match value {
        value if value.has_any_key() => Ok(value.key(name).cloned().unwrap_or(Value::Null)),
        Value::Map(_) => value
            .member(name)
            .cloned()
            .ok_or_else(|| format!("map has no entry for key {name:?}")),
        Value::Null | Value::Nil(_) => Err(format!("nil data; no entry for key {name:?}")),
        other => Err(format!("can't evaluate field {name} in {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value() -> Value {
        serde_json::from_str(
            r#"{"Id":"abc","Name":"/web","State":{"Running":true,"Pid":12,"ExitCode":0,"Error":""},
                "Args":["-c","x y"],"Labels":{"b":"2","a":"1"},"Size":1048576,"Empty":[],"Nothing":null,
                "Mounts":[{"Type":"bind","Source":"/a"},{"Type":"volume","Source":"/b"}]}"#,
        )
        .unwrap()
    }

    fn show(template: &str) -> String {
        render(template, &value()).unwrap_or_else(|error| format!("! {error}"))
    }

    #[test]
    fn fields_functions_and_pipelines() {
        let cases = [
            ("{{.Id}} {{ .ID }}", "abc abc"),
            ("{{.State.Running}}|{{.State.Pid}}", "true|12"),
            ("{{.Args}} {{.Labels}} {{.Nothing}}", "[-c x y] map[a:1 b:2] <no value>"),
            (
                "{{json .State}}",
                r#"{"Running":true,"Pid":12,"ExitCode":0,"Error":""}"#,
            ),
            ("{{.Name | json}}", "\"/web\""),
            ("{{join .Args \",\"}}", "-c,x y"),
            ("{{upper .Id}} {{.Id | upper | lower}} {{title .Id}}", "ABC abc Abc"),
            ("{{(split .Name \"/\")}} {{index (split .Name \"e\") 1}}", "[ web] b"),
            ("{{len .Mounts}} {{len .Id}}", "2 3"),
            ("{{index .Labels \"a\"}} {{(index .Mounts 1).Source}}", "1 /b"),
            ("{{println .Id}}{{print 1 2}}", "abc\n1 2"),
            (
                "{{printf \"%s-%05d-%q-%v%%\" .Id 42 .Name .State.Running}}",
                "abc-00042-\"/web\"-true%",
            ),
            ("{{truncate .Id 2}}{{pad .Id 1 2}}|", "ab abc  |"),
            ("{{slice .Name 1}} {{slice .Id 0 2}}", "web ab"),
        ];
        for (template, expected) in cases {
            assert_eq!(show(template), expected, "{template}");
        }
    }

    #[test]
    fn a_method_is_called_and_never_shown() {
        let row = Value::map([("ID", "1")]).with_method("Label", Value::map([("a", "b")]));
        let text = render("{{.Label \"a\"}}{{.Label \"z\"}} {{json .}}", &row);
        assert_eq!(text.unwrap(), "b {\"ID\":\"1\"}");
    }

    #[test]
    fn blocks_and_variables() {
        let cases = [
            ("{{range .Mounts}}{{.Type}}={{.Source}};{{end}}", "bind=/a;volume=/b;"),
            (
                "{{range $i, $m := .Mounts}}{{if $i}},{{end}}{{$m.Type}}{{end}}",
                "bind,volume",
            ),
            ("{{range $k, $v := .Labels}}{{$k}}:{{$v}} {{end}}", "a:1 b:2 "),
            ("{{range .Empty}}x{{else}}none{{end}}", "none"),
            ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
            (
                "{{if .State.ExitCode}}a{{else if eq .State.Pid 12}}b{{else}}c{{end}}",
                "b",
            ),
            (
                "{{with .State}}{{.Pid}}{{end}}{{with .Nothing}}x{{else}}-{{end}}",
                "12-",
            ),
            ("{{$x := .Id}}{{$x}}{{$x = \"q\"}}{{$x}} {{$.Name}}", "abcq /web"),
            ("a {{- /* note */ -}} b", "ab"),
            ("a {{- .Id -}} b", "aabcb"),
            ("{{if and .Id (not .Empty)}}1{{end}}{{or .Nothing \"z\"}}", "1z"),
            (
                "{{if and (ne .Id \"x\") (gt .State.Pid 3) (le 1 1) (lt 1 2) (ge 2 2)}}ok{{end}}",
                "ok",
            ),
            ("{{if eq .Id \"x\" \"abc\"}}any{{end}}", "any"),
            (
                "{{define \"x\"}}<{{.}}>{{end}}{{template \"x\" .Id}}{{range .Args}}{{template \"x\" .}}{{end}}",
                "<abc><-c><x y>",
            ),
            ("{{block \"x\" .State}}{{.Pid}}{{end}}{{template \"x\" .State}}", "1212"),
            (
                "{{range .Mounts}}{{if eq .Type \"volume\"}}{{break}}{{end}}{{.Type}}{{end}}",
                "bind",
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(show(template), expected, "{template}");
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let cases = [
            (
                "{{.Nope}}",
                "! template: :1: executing \"\": map has no entry for key \"Nope\"",
            ),
            (
                "{{nope .Id}}",
                "! template parsing error: template: :1: function \"nope\" not defined",
            ),
            ("{{.Id", "! template parsing error: template: :1: unclosed action"),
            ("{{if .Id}}x", "! template parsing error: template: :1: unexpected EOF"),
            ("{{end}}", "! template parsing error: template: :1: unexpected {{end}}"),
            (
                "{{template \"x\"}}",
                "! template: :1: executing \"\": template \"x\" not defined",
            ),
            (
                "{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}",
                "! template: :1: executing \"\": exceeded maximum template depth (100)",
            ),
            (
                "{{index .Args 7}}",
                "! template: :1: executing \"\": error calling index: index out of range: 7",
            ),
        ];
        for (template, expected) in cases {
            assert_eq!(show(template), expected, "{template}");
        }
    }
}
