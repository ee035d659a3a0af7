//! Tags: the part of Go's template language that names containers in logs.
//!
//! `{{.Name}}`, `{{.ImageName | upper}}`, `{{truncate .FullID 8}}`, `{{(.ExtraAttributes nil).STAGE}}`, and text around
//! them.
use crate::{
    error::{Error, Result},
    log::facts::Facts,
};

/// Fails, with a message that says where, when it is no template, or not one that is known.
pub fn render(template: &str, facts: &Facts) -> Result<String> {
    let mut tag = String::new();
    let mut rest = template;
    while let Some((text, after)) = rest.split_once("{{") {
        let Some((action, after)) = after.split_once("}}") else {
            return Err(refused(template, "unclosed action"));
        };
        let (trim_left, action) = action
            .strip_prefix("- ")
            .map_or((false, action), |action| (true, action));
        let (trim_right, action) = action
            .strip_suffix(" -")
            .map_or((false, action), |action| (true, action));
        tag.push_str(if trim_left { text.trim_end() } else { text });
        tag.push_str(&pipeline(template, action.trim(), facts)?);
        rest = if trim_right { after.trim_start() } else { after };
    }
    tag.push_str(rest);
    Ok(tag)
}

fn refused(template: &str, reason: &str) -> Error {
    Error::invalid(format!("template: log-tag:1: {reason} in tag \"{template}\""))
}

fn pipeline(template: &str, action: &str, facts: &Facts) -> Result<String> {
    let mut value: Option<String> = None;
    for command in action.split('|') {
        let mut words = words(command.trim());
        if words.is_empty() {
            return Err(refused(template, "missing value for command"));
        }
        words.extend(value.take().map(Word::Value));
        value = Some(evaluate(template, words, facts)?);
    }
    Ok(value.unwrap_or_default())
}

enum Word {
    Name(String),
    /// Of a string literal, or what came through the pipe.
    Value(String),
}

/// Words are separated by spaces; a string in quotes is one, and so is what stands in brackets.
fn words(command: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut rest = command.trim_start();
    while !rest.is_empty() {
        if let Some((literal, after)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            words.push(Word::Value(literal.to_owned()));
            rest = after.trim_start();
            continue;
        }
        let mut depth = 0;
        let end = rest.find(|letter| {
            match letter {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            letter == ' ' && depth == 0
        });
        let (word, after) = rest.split_at(end.unwrap_or(rest.len()));
        words.push(Word::Name(word.to_owned()));
        rest = after.trim_start();
    }
    words
}

fn evaluate(template: &str, words: Vec<Word>, facts: &Facts) -> Result<String> {
    let mut words = words.into_iter();
    let first = match words.next() {
        Some(Word::Value(value)) => return Ok(value),
        Some(Word::Name(name)) => name,
        None => return Err(refused(template, "missing value for command")),
    };
    if first.starts_with(['.', '(']) {
        return field(template, &first, facts);
    }
    let mut arguments = Vec::new();
    for word in words {
        arguments.push(match word {
            Word::Value(value) => value,
            Word::Name(name) if name.starts_with(['.', '(']) => field(template, &name, facts)?,
            Word::Name(number) => number,
        });
    }
    match (first.as_str(), arguments.as_slice()) {
        ("upper", [text]) => Ok(text.to_uppercase()),
        ("lower", [text]) => Ok(text.to_lowercase()),
        ("title", [text]) => {
            let mut letters = text.chars();
            Ok(letters
                .next()
                .map_or(String::new(), |first| first.to_uppercase().chain(letters).collect()))
        }
        ("truncate", [text, length]) => {
            let length: usize = length
                .parse()
                .map_err(|_| refused(template, "truncate takes a text and a number"))?;
            Ok(text.chars().take(length).collect())
        }
        ("json", [text]) => {
            serde_json::to_string(text).map_err(|error| Error::system("cannot encode a tag").because(error))
        }
        ("upper" | "lower" | "title" | "truncate" | "json", _) => {
            Err(refused(template, &format!("wrong number of args for {first}")))
        }
        _ => Err(refused(template, &format!("function \"{first}\" not defined"))),
    }
}

fn field(template: &str, word: &str, facts: &Facts) -> Result<String> {
    if let Some(name) = word.strip_prefix("(.ExtraAttributes nil).") {
        return Ok(facts
            .attributes()
            .remove(name)
            .unwrap_or_else(|| "<no value>".to_owned()));
    }
    let name = word.strip_prefix('.').unwrap_or(word);
    facts
        .field(name)
        .map(str::to_owned)
        .ok_or_else(|| refused(template, &format!("can't evaluate field {name} in type logger.Info")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::facts;

    #[test]
    fn templates_become_tags() {
        let facts = facts::example();
        let id = "0123456789ab";
        for (template, tag) in [
            ("plain", "plain".to_owned()),
            ("{{.ID}}", id.to_owned()),
            ("{{.Name}}/{{ .ID }}", format!("web/{id}")),
            (
                "{{.ImageName}} {{.ImageID}} {{.DaemonName}}",
                "nginx:1 sha256:ababa docker".to_owned(),
            ),
            ("{{.FullID}}", facts.id.clone()),
            ("{{.ImageFullID}}", facts.image_id.clone()),
            ("{{.Name | upper}}-{{title .Name}}", "WEB-Web".to_owned()),
            ("{{truncate .FullID 4}}", "0123".to_owned()),
            ("{{(.ExtraAttributes nil).STAGE}}", "test".to_owned()),
            ("x {{- \"y\" -}} z", "xyz".to_owned()),
        ] {
            assert_eq!(render(template, &facts).expect(template), tag, "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused() {
        let facts = facts::example();
        for (template, reason) in [
            ("{{.ID", "unclosed action"),
            ("{{.Nope}}", "can't evaluate field Nope"),
            ("{{}}", "missing value"),
            ("{{frobnicate .ID}}", "function \"frobnicate\" not defined"),
            ("{{upper}}", "wrong number of args"),
        ] {
            let error = render(template, &facts).expect_err(template).to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
