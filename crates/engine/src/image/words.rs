//! The words of an instruction, as a Dockerfile's shell reads them: quotes, backslashes and variables.
use std::{iter::Peekable, str::Chars};

use crate::error::{Error, Result};

/// Gives the value of a variable, nothing where it is not set.
pub type Variables<'v> = &'v dyn Fn(&str) -> Option<String>;

type Letters<'t> = Peekable<Chars<'t>>;

/// Splits at white space; what a variable stands for is not split.
pub fn words(text: &str, variables: Variables) -> Result<Vec<String>> {
    read(text, variables, true)
}

/// The whole text as one word.
pub fn one_word(text: &str, variables: Variables) -> Result<String> {
    Ok(read(text, variables, false)?.pop().unwrap_or_default())
}

fn read(text: &str, variables: Variables, split: bool) -> Result<Vec<String>> {
    let mut words = Vec::new();
    let mut current: Option<String> = None;
    let mut quote = None;
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), letter) if letter == open => quote = None,
            (Some('\''), letter) => current.get_or_insert_default().push(letter),
            (_, '\\') => current.get_or_insert_default().push(letters.next().unwrap_or('\\')),
            (_, '$') => {
                let value = variable(&mut letters, variables)?;
                current.get_or_insert_default().push_str(&value);
            }
            (None, '"' | '\'') => {
                quote = Some(letter);
                current.get_or_insert_default();
            }
            (None, letter) if split && letter.is_whitespace() => words.extend(current.take()),
            (_, letter) => current.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid(
            "unexpected end of statement while looking for matching quote",
        ));
    }
    words.extend(current);
    Ok(words)
}

/// What stands after a `$`: `NAME`, `{NAME}`, or `{NAME}` with `:-`, `:+` or `:?` (an empty value counts as none then),
/// or `-`, `+` or `?`, and a word before the brace is closed.
fn variable(letters: &mut Letters, variables: Variables) -> Result<String> {
    if letters.next_if_eq(&'{').is_none() {
        let name = name(letters);
        return Ok(match name.as_str() {
            "" => "$".to_owned(),
            name => variables(name).unwrap_or_default(),
        });
    }
    let name = name(letters);
    let colon = letters.next_if_eq(&':').is_some();
    let modifier = letters.next();
    let value = variables(&name).filter(|value| !colon || !value.is_empty());
    let bad = || {
        Error::invalid(format!(
            "unsupported modifier or missing '}}' in substitution of {name}"
        ))
    };
    if name.is_empty() {
        return Err(Error::invalid("bad substitution"));
    }
    if modifier == Some('}') && !colon {
        return Ok(value.unwrap_or_default());
    }
    let word = one_word(&until_closed(letters).ok_or_else(bad)?, variables)?;
    match (modifier, value) {
        (Some('-'), value) => Ok(value.unwrap_or(word)),
        (Some('+'), value) => Ok(value.map(|_| word).unwrap_or_default()),
        (Some('?'), Some(value)) => Ok(value),
        (Some('?'), None) if word.is_empty() => Err(Error::invalid(format!("{name}: not allowed to be unset"))),
        (Some('?'), None) => Err(Error::invalid(format!("{name}: {word}"))),
        _ => Err(bad()),
    }
}

fn name(letters: &mut Letters) -> String {
    let first = letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_');
    let Some(first) = first else { return String::new() };
    let mut name = String::from(first);
    if !first.is_ascii_digit() {
        let rest = |letters: &mut Letters| letters.next_if(|letter| letter.is_ascii_alphanumeric() || *letter == '_');
        while let Some(letter) = rest(letters) {
            name.push(letter);
        }
    }
    name
}

/// The text before the brace that belongs to the one that is open.
fn until_closed(letters: &mut Letters) -> Option<String> {
    let mut text = String::new();
    let mut open = 1;
    loop {
        let letter = letters.next()?;
        match letter {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Some(text);
        }
        text.push(letter);
        if letter == '\\' {
            text.push(letters.next()?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> String {
        let variables = |name: &str| match name {
            "A" => Some("a b".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        match words(text, &variables) {
            Ok(words) => words.join("|"),
            Err(error) => format!("! {error}"),
        }
    }

    #[test]
    fn variables_stand_for_their_values_and_are_not_split() {
        for (text, expected) in [
            ("x=$A y=${A}z", "x=a b|y=a bz"),
            ("\"$A\" '$A' \\$A $ $1x", "a b|$A|$A|$|x"),
            ("${NO:-d} ${NO-d} ${EMPTY:-d} ${EMPTY-d}|", "d|d|d||"),
            ("${A:+s} ${NO:+s} ${EMPTY+s}", "s||s"),
            ("${NO:-${A}} ${NO:-a\\}b}", "a b|a}b"),
            ("${A:?gone}", "a b"),
            ("${NO:?gone}", "! NO: gone"),
            ("${NO?}", "! NO: not allowed to be unset"),
            ("${A", "! unsupported modifier or missing '}' in substitution of A"),
            ("${A:}", "! unsupported modifier or missing '}' in substitution of A"),
            ("${}", "! bad substitution"),
        ] {
            assert_eq!(split(text), expected, "{text}");
        }
    }

    #[test]
    fn quotes_join_words() {
        assert_eq!(split("a \"b c\"d 'e \"f' g\\ h"), "a|b cd|e \"f|g h");
        assert!(split("'a").starts_with("! unexpected end of statement"));
    }
}
