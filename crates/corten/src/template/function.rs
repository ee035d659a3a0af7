//! The functions of templates: Go's own and Docker's.
use std::cmp::Ordering;

use corten_api::client::escape;

use crate::template::value::{Nil, Value};
use crate::units;

const NAMES: &[&str] = &[
    "and", "eq", "ge", "gt", "html", "index", "join", "js", "json", "le", "len", "lower", "lt", "ne", "not", "or",
    "pad", "print", "printf", "println", "slice", "split", "title", "truncate", "upper", "urlquery",
];

/// Whether a template may call it.
pub fn known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Calls a function; the error is the reason alone.
pub fn call(name: &str, arguments: &[Value]) -> Result<Value, String> {
    let text = |text: String| Ok(Value::String(text));
    match (name, arguments) {
        ("json", [value]) => text(value.json()),
        ("join", [list, separator]) => join(list, &separator.to_string()).map(Value::String),
        ("split", [value, separator]) => Ok(split(&value.to_string(), &separator.to_string())),
        ("lower", [value]) => text(value.to_string().to_lowercase()),
        ("upper", [value]) => text(value.to_string().to_uppercase()),
        ("title", [value]) => text(title(&value.to_string())),
        ("pad", [value, before, after]) => pad(&value.to_string(), before, after).map(Value::String),
        ("truncate", [value, length]) => text(value.to_string().chars().take(whole(length)?).collect()),
        ("len", [value]) => length(value),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |value, key| index(&value, key)),
        ("slice", [value, bounds @ ..]) => slice(value, bounds),
        ("not", [value]) => Ok(Value::Bool(!value.truth())),
        // Arguments that settle the answer never arrive here: the last one is it.
        ("and" | "or", [.., last]) => Ok(last.clone()),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => Ok(Value::Bool(rest.iter().any(|value| same(first, value)))),
        ("ne", [a, b]) => Ok(Value::Bool(!same(a, b))),
        ("lt", [a, b]) => Ok(Value::Bool(order(a, b)? == Ordering::Less)),
        ("le", [a, b]) => Ok(Value::Bool(order(a, b)? != Ordering::Greater)),
        ("gt", [a, b]) => Ok(Value::Bool(order(a, b)? == Ordering::Greater)),
        ("ge", [a, b]) => Ok(Value::Bool(order(a, b)? != Ordering::Less)),
        ("print", values) => text(print(values)),
        ("println", values) => {
            let words: Vec<String> = values.iter().map(Value::to_string).collect();
            text(format!("{}\n", words.join(" ")))
        }
        ("printf", [format, values @ ..]) => text(printf(&format.to_string(), values)),
        ("urlquery", [value]) => text(escape(&value.to_string()).replace("%20", "+")),
        ("html", [value]) => text(html(&value.to_string())),
        ("js", [value]) => text(js(&value.to_string())),
        (name, arguments) => Err(format!("wrong number of args for {name}: got {}", arguments.len())),
    }
}

/// Fit for a text within JavaScript.
fn js(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\\' | '\'' | '"' => escaped.extend(['\\', letter]),
            '<' | '>' | '&' | '=' => escaped.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter if letter.is_control() => escaped.push_str(&format!("\\u{:04X}", u32::from(letter))),
            letter => escaped.push(letter),
        }
    }
    escaped
}

fn join(list: &Value, separator: &str) -> Result<String, String> {
    match list {
        Value::List(items) => {
            let words: Vec<String> = items.iter().map(Value::to_string).collect();
            Ok(words.join(separator))
        }
        Value::Null | Value::Nil(_) => Ok(String::new()),
        other => Err(format!("cannot join {other}: it is no list")),
    }
}

fn split(text: &str, separator: &str) -> Value {
    if separator.is_empty() {
        return Value::List(text.chars().map(|letter| Value::String(letter.to_string())).collect());
    }
    Value::List(text.split(separator).map(Value::from).collect())
}

fn title(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut start = true;
    for letter in text.chars() {
        if start {
            out.extend(letter.to_uppercase());
        } else {
            out.push(letter);
        }
        start = !letter.is_alphanumeric() && letter != '_' && letter != '\'';
    }
    out
}

fn pad(text: &str, before: &Value, after: &Value) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    Ok(format!(
        "{}{text}{}",
        " ".repeat(whole(before)?),
        " ".repeat(whole(after)?)
    ))
}

fn whole(value: &Value) -> Result<usize, String> {
    let number = match value {
        Value::Number(number) => number.as_u64(),
        _ => None,
    };
    number
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(|| format!("{value} is no whole number"))
}

fn length(value: &Value) -> Result<Value, String> {
    let length = match value {
        Value::String(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(members) => Value::shown(members).count(),
        Value::Null | Value::Nil(Nil::List | Nil::Map) => 0,
        other => return Err(format!("len of {other}")),
    };
    Ok(Value::from(length as i64))
}

fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match value {
        // A missing key of a map is the zero value of its type, not an error.
        Value::Map(members) => {
            let key = key.to_string();
            let found = members
                .iter()
                .find(|(name, _)| *name == key)
                .map(|(_, value)| value.clone());
            Ok(found.unwrap_or_else(|| match Value::shown(members).next() {
                Some((_, Value::String(_))) => Value::from(""),
                None if value.has_any_key() => Value::from(""),
                _ => Value::Null,
            }))
        }
        Value::List(items) => {
            let at = whole(key)?;
            items
                .get(at)
                .cloned()
                .ok_or_else(|| format!("index out of range: {at}"))
        }
        Value::String(text) => {
            let at = whole(key)?;
            let byte = text
                .as_bytes()
                .get(at)
                .ok_or_else(|| format!("index out of range: {at}"))?;
            Ok(Value::from(i64::from(*byte)))
        }
        // Most maps of documents have texts.
        Value::Nil(Nil::Map) => Ok(Value::from("")),
        Value::Nil(Nil::List) => Err(format!("index out of range: {}", whole(key)?)),
        Value::Null => Err("index of untyped nil".to_string()),
        other => Err(format!("can't index item of {other}")),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let out_of_range = |at: usize| format!("index out of range: {at}");
    let start = bounds.first().map_or(Ok(0), whole)?;
    let end = bounds.get(1).map(whole).transpose()?;
    match value {
        Value::String(text) => {
            let end = end.unwrap_or(text.len());
            text.get(start..end).map(Value::from).ok_or_else(|| out_of_range(end))
        }
        Value::List(items) => {
            let end = end.unwrap_or(items.len());
            items
                .get(start..end)
                .map(|items| Value::List(items.to_vec()))
                .ok_or_else(|| out_of_range(end))
        }
        other => Err(format!("can't slice {other}")),
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (a, b) => a == b,
    }
}

fn order(a: &Value, b: &Value) -> Result<Ordering, String> {
    let incomparable = || "incompatible types for comparison".to_string();
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()).ok_or_else(incomparable),
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        _ => Err(incomparable()),
    }
}

/// Blanks stand between operands where neither is a string.
fn print(values: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in values.iter().enumerate() {
        let is_text = |value: &Value| matches!(value, Value::String(_));
        if at > 0 && !is_text(value) && !is_text(&values[at - 1]) {
            out.push(' ');
        }
        out.push_str(&value.to_string());
    }
    out
}

fn printf(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let flags: String = std::iter::from_fn(|| letters.next_if(|c| "-+#0 ".contains(*c))).collect();
        let width: String = std::iter::from_fn(|| letters.next_if(char::is_ascii_digit)).collect();
        let precision = letters.next_if_eq(&'.').map(|_| {
            let digits: String = std::iter::from_fn(|| letters.next_if(char::is_ascii_digit)).collect();
            digits.parse().unwrap_or(0)
        });
        match letters.next() {
            Some('%') => out.push('%'),
            Some(verb) => match values.next() {
                Some(value) => out.push_str(&padded(&verbed(verb, value, precision), &flags, &width)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            },
            None => out.push_str("%!(NOVERB)"),
        }
    }
    out
}

fn verbed(verb: char, value: &Value, precision: Option<usize>) -> String {
    let number = match value {
        Value::Number(number) => number.as_f64().unwrap_or(0.0),
        _ => 0.0,
    };
    match (verb, value) {
        ('s' | 'v', value) => match precision {
            Some(length) => value.to_string().chars().take(length).collect(),
            None => value.to_string(),
        },
        ('q', value) => format!("{:?}", value.to_string()),
        ('d' | 't', value) => value.to_string(),
        ('x', Value::Number(_)) => format!("{:x}", number as i64),
        ('X', Value::Number(_)) => format!("{:X}", number as i64),
        ('o', Value::Number(_)) => format!("{:o}", number as i64),
        ('x', value) => value.to_string().bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('f' | 'F', Value::Number(_)) => format!("{number:.*}", precision.unwrap_or(6)),
        ('g', Value::Number(_)) => units::significant(number, precision.unwrap_or(6).max(1)),
        (verb, value) => format!("%!{verb}({value})"),
    }
}

fn padded(text: &str, flags: &str, width: &str) -> String {
    let width: usize = width.parse().unwrap_or(0);
    let missing = width.saturating_sub(text.chars().count());
    match () {
        () if flags.contains('-') => format!("{text}{}", " ".repeat(missing)),
        () if flags.contains('0') => format!("{}{text}", "0".repeat(missing)),
        () => format!("{}{text}", " ".repeat(missing)),
    }
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}
