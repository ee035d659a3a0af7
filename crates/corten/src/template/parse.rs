//! Tokens to a tree.
use crate::template::function;
use crate::template::lexer::{self, Piece, Token};
use crate::template::value::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    pub nodes: Vec<Node>,
    /// What `define` and `block` name; the last of a name counts.
    named: Vec<(String, Vec<Node>)>,
}

impl Template {
    pub fn named(&self, name: &str) -> Option<&[Node]> {
        let found = self.named.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, nodes)| nodes.as_slice())
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Text(String),
    /// Prints, unless it only sets variables.
    Print(Pipeline),
    If(Pipeline, Vec<Node>, Vec<Node>),
    Range(Pipeline, Vec<Node>, Vec<Node>),
    With(Pipeline, Vec<Node>, Vec<Node>),
    Break,
    Continue,
    /// What has this name, with its dot.
    Template(String, Option<Pipeline>),
}

/// `$a, $b := first | second`: each command gets the result of the one before as its last argument.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pipeline {
    pub variables: Vec<String>,
    /// `:=` makes variables, `=` changes them.
    pub declares: bool,
    pub commands: Vec<Vec<Operand>>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    Dot,
    Nil,
    Literal(Value),
    Variable(String),
    Function(String),
    Group(Pipeline),
    /// A value and the names looked up in it, one after another.
    Path(Box<Operand>, Vec<String>),
}

/// Parses a template; the error is Go's, without its position.
pub fn parse(text: &str) -> Result<Template, String> {
    let pieces = lexer::pieces(text)?;
    let mut parser = Parser {
        pieces: pieces.into_iter(),
        named: Vec::new(),
    };
    let (nodes, end) = parser.nodes()?;
    match end {
        Stop::Text => Ok(Template {
            nodes,
            named: parser.named,
        }),
        Stop::Else(_) => Err("unexpected {{else}}".to_string()),
        Stop::End => Err("unexpected {{end}}".to_string()),
    }
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    named: Vec<(String, Vec<Node>)>,
}

/// What ended a list of nodes.
enum Stop {
    Text,
    End,
    /// With what followed the word: `else if …`.
    Else(Vec<Token>),
}

impl Parser {
    fn nodes(&mut self) -> Result<(Vec<Node>, Stop), String> {
        let mut nodes = Vec::new();
        while let Some(piece) = self.pieces.next() {
            let tokens = match piece {
                Piece::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Piece::Action(tokens) => tokens,
            };
            match tokens.first() {
                None => return Err("missing value for command".to_string()),
                Some(Token::Word(word)) => match word.as_str() {
                    "end" => return Ok((nodes, Stop::End)),
                    "else" => return Ok((nodes, Stop::Else(tokens[1..].to_vec()))),
                    "if" | "range" | "with" => nodes.push(self.block(word, &tokens[1..])?),
                    "break" => nodes.push(Node::Break),
                    "continue" => nodes.push(Node::Continue),
                    "template" | "define" | "block" => nodes.extend(self.by_name(word, &tokens[1..])?),
                    _ => nodes.push(Node::Print(pipeline(&tokens)?)),
                },
                Some(_) => nodes.push(Node::Print(pipeline(&tokens)?)),
            }
        }
        Ok((nodes, Stop::Text))
    }

    /// `{{define "name"}}` names what follows, `{{template "name" .}}` shows it, and `{{block "name" .}}` does both.
    fn by_name(&mut self, word: &str, head: &[Token]) -> Result<Option<Node>, String> {
        let Some((Token::Text(name), dot)) = head.split_first() else {
            return Err(format!("missing name in {word} clause"));
        };
        if word == "define" && !dot.is_empty() || word == "block" && dot.is_empty() {
            return Err(format!("unexpected token in {word} clause"));
        }
        let dot = (!dot.is_empty()).then(|| pipeline(dot)).transpose()?;
        if word != "template" {
            match self.nodes()? {
                (nodes, Stop::End) => self.named.push((name.clone(), nodes)),
                (_, Stop::Else(_)) => return Err("unexpected {{else}}".to_string()),
                (_, Stop::Text) => return Err("unexpected EOF".to_string()),
            }
        }
        Ok((word != "define").then(|| Node::Template(name.clone(), dot)))
    }

    fn block(&mut self, word: &str, head: &[Token]) -> Result<Node, String> {
        if head.is_empty() {
            return Err(format!("missing value for {word}"));
        }
        let condition = pipeline(head)?;
        let (body, end) = self.nodes()?;
        let otherwise = match end {
            Stop::End => Vec::new(),
            Stop::Text => return Err("unexpected EOF".to_string()),
            // The chained block eats the `end` that closes all of them.
            Stop::Else(chained) if !chained.is_empty() => match &chained[0] {
                Token::Word(next) if next == "if" || next == "with" => vec![self.block(next, &chained[1..])?],
                _ => return Err("unexpected token in else".to_string()),
            },
            Stop::Else(_) => match self.nodes()? {
                (nodes, Stop::End) => nodes,
                (_, Stop::Else(_)) => return Err("unexpected {{else}}".to_string()),
                (_, Stop::Text) => return Err("unexpected EOF".to_string()),
            },
        };
        Ok(match word {
            "if" => Node::If(condition, body, otherwise),
            "range" => Node::Range(condition, body, otherwise),
            _ => Node::With(condition, body, otherwise),
        })
    }
}

fn pipeline(tokens: &[Token]) -> Result<Pipeline, String> {
    let mut pipeline = Pipeline::default();
    let mut rest = tokens;
    if let Some(mark) = rest.iter().position(|token| matches!(token, Token::Mark(":=" | "="))) {
        for token in &rest[..mark] {
            match token {
                Token::Variable(name) => pipeline.variables.push(name.clone()),
                Token::Mark(",") => {}
                _ => return Err("unexpected token in variable declaration".to_string()),
            }
        }
        pipeline.declares = rest[mark] == Token::Mark(":=");
        rest = &rest[mark + 1..];
    }
    let (commands, rest) = commands(rest)?;
    if !rest.is_empty() {
        return Err("unexpected right paren".to_string());
    }
    pipeline.commands = commands;
    Ok(pipeline)
}

type Commands = Vec<Vec<Operand>>;

/// Reads until the end or an unmatched `)`, which is left in the rest.
fn commands(tokens: &[Token]) -> Result<(Commands, &[Token]), String> {
    let mut commands = vec![Vec::new()];
    let mut rest = tokens;
    while let Some((token, tail)) = rest.split_first() {
        match token {
            Token::Mark("|") => {
                commands.push(Vec::new());
                rest = tail;
            }
            Token::Mark(")") => break,
            _ => rest = operand(commands.last_mut().expect("there is always one command"), token, tail)?,
        }
    }
    if commands.iter().any(Vec::is_empty) {
        return Err("missing value for command".to_string());
    }
    Ok((commands, rest))
}

/// Adds one operand to a command, and returns what follows it.
fn operand<'a>(command: &mut Vec<Operand>, token: &Token, tail: &'a [Token]) -> Result<&'a [Token], String> {
    match token {
        Token::Mark("(") => {
            let (inner, after) = commands(tail)?;
            let [Token::Mark(")"), after @ ..] = after else {
                return Err("unclosed left paren".to_string());
            };
            command.push(Operand::Group(Pipeline {
                commands: inner,
                ..Pipeline::default()
            }));
            return Ok(after);
        }
        Token::Mark(mark) => return Err(format!("unexpected {mark:?} in operand")),
        Token::Field(name, false) => command.push(Operand::Path(Box::new(Operand::Dot), vec![name.clone()])),
        Token::Field(name, true) => {
            let path = match command.pop().unwrap_or(Operand::Dot) {
                Operand::Path(base, mut names) => {
                    names.push(name.clone());
                    Operand::Path(base, names)
                }
                base => Operand::Path(Box::new(base), vec![name.clone()]),
            };
            command.push(path);
        }
        Token::Dot => command.push(Operand::Dot),
        Token::Variable(name) => command.push(Operand::Variable(name.clone())),
        Token::Text(text) => command.push(Operand::Literal(Value::String(text.clone()))),
        Token::Number(number) => command.push(Operand::Literal(Value::Number(number.clone()))),
        Token::Word(word) => command.push(match word.as_str() {
            "true" => Operand::Literal(Value::Bool(true)),
            "false" => Operand::Literal(Value::Bool(false)),
            "nil" => Operand::Nil,
            name if function::known(name) => Operand::Function(name.to_string()),
            name => return Err(format!("function {name:?} not defined")),
        }),
    }
    Ok(tail)
}
