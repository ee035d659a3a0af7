//! Template text to tokens.
//!
//! Blanks count inside an action: `.A.B` is one path, `.A .B` are two, so a field knows what stands right before it.

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    Text(String),
    /// What stood between `{{` and `}}`.
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// `.`
    Dot,
    /// `.Name`; the flag says whether it continues what stands before it without a blank.
    Field(String, bool),
    /// `$` or `$name`
    Variable(String),
    Word(String),
    Text(String),
    Number(serde_json::Number),
    /// `| ( ) , = :=`
    Mark(&'static str),
}

/// Cuts a template into text and actions, applying `{{-` and `-}}`.
pub fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut rest = template;
    let mut trim_next = false;
    while let Some(open) = rest.find("{{") {
        let mut text = &rest[..open];
        let mut action = &rest[open + 2..];
        if trim_next {
            text = text.trim_start();
        }
        if let Some(inner) = action.strip_prefix("- ").or_else(|| action.strip_prefix("-\n")) {
            text = text.trim_end();
            action = inner;
        }
        let close = end_of_action(action).ok_or("unclosed action")?;
        let mut inner = &action[..close];
        rest = &action[close + 2..];
        trim_next = inner.ends_with(" -");
        if trim_next {
            inner = &inner[..inner.len() - 2];
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(text.to_string()));
        }
        if !inner.trim_start().starts_with("/*") {
            pieces.push(Piece::Action(tokens(inner)?));
        }
    }
    let tail = if trim_next { rest.trim_start() } else { rest };
    if !tail.is_empty() {
        pieces.push(Piece::Text(tail.to_string()));
    }
    Ok(pieces)
}

/// Where `}}` stands, outside of quotes.
fn end_of_action(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if letter == '\\' => escaped = true,
            Some(open) if letter == open => quote = None,
            Some(_) => {}
            None if letter == '"' || letter == '`' => quote = Some(letter),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
}

fn tokens(action: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = action;
    loop {
        let trimmed = rest.trim_start();
        let blank = trimmed.len() != rest.len() || tokens.is_empty();
        rest = trimmed;
        let Some(first) = rest.chars().next() else {
            return Ok(tokens);
        };
        let (token, length) = match first {
            '"' => quoted(rest)?,
            '`' => {
                let end = rest[1..].find('`').ok_or("unterminated raw quoted string")?;
                (Token::Text(rest[1..1 + end].to_string()), end + 2)
            }
            '.' => match word(&rest[1..]) {
                "" => (Token::Dot, 1),
                name => (Token::Field(name.to_string(), !blank), 1 + name.len()),
            },
            '$' => {
                let name = word(&rest[1..]);
                (Token::Variable(format!("${name}")), 1 + name.len())
            }
            ':' if rest.starts_with(":=") => (Token::Mark(":="), 2),
            '=' => (Token::Mark("="), 1),
            '|' => (Token::Mark("|"), 1),
            '(' => (Token::Mark("("), 1),
            ')' => (Token::Mark(")"), 1),
            ',' => (Token::Mark(","), 1),
            c if c.is_ascii_digit() || ((c == '-' || c == '+') && digit_follows(rest)) => number(rest)?,
            c if c.is_alphabetic() || c == '_' => {
                let name = word(rest);
                (Token::Word(name.to_string()), name.len())
            }
            other => return Err(format!("unexpected {other:?} in command")),
        };
        tokens.push(token);
        rest = &rest[length..];
    }
}

fn digit_follows(text: &str) -> bool {
    text[1..].starts_with(|c: char| c.is_ascii_digit())
}

fn word(text: &str) -> &str {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    &text[..end]
}

fn number(text: &str) -> Result<(Token, usize), String> {
    let end = text[1..]
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '.')
        .map_or(text.len(), |end| end + 1);
    let digits = text[..end].trim_start_matches('+');
    let parsed = match digits.parse::<i64>() {
        Ok(whole) => Some(serde_json::Number::from(whole)),
        Err(_) => digits.parse::<f64>().ok().and_then(serde_json::Number::from_f64),
    };
    let parsed = parsed.ok_or_else(|| format!("bad number syntax: {:?}", &text[..end]))?;
    Ok((Token::Number(parsed), end))
}

fn quoted(text: &str) -> Result<(Token, usize), String> {
    let mut out = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Ok((Token::Text(out), at + 1)),
            '\\' => match letters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, other @ ('"' | '\\' | '\''))) => out.push(other),
                _ => return Err("unsupported escape in quoted string".to_string()),
            },
            other => out.push(other),
        }
    }
    Err("unterminated quoted string".to_string())
}
