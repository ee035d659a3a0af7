//! Command lines: flags and arguments, read the way Docker's users write them.
//!
//! A command and its flags are `static` data, so that building the tree costs nothing at start-up. The grammar is the
//! GNU one that Docker speaks: `-itd` bundles, `--rm=false` is legal, `--memory 1g` and `--memory=1g` are one, and for
//! commands that carry somebody else's command line (`run`, `top`) the first argument ends the flags.
use std::future::Future;
use std::pin::Pin;

use crate::failure::Failure;
use crate::session::Session;

/// What a command's body returns: the exit status of the process.
pub type Outcome = Result<u8, Failure>;
/// A command's body, running on the client's single thread.
pub type Running = Pin<Box<dyn Future<Output = Outcome>>>;

/// One verb of the tree.
pub struct Command {
    pub name: &'static str,
    /// What follows the name in the usage line.
    pub usage: &'static str,
    pub about: &'static str,
    /// Every full spelling, shown in the help (`container run`, `run`).
    pub aliases: &'static [&'static str],
    pub flags: &'static [&'static [Flag]],
    pub arity: Arity,
    /// Whether flags may follow arguments.
    pub interspersed: bool,
    pub run: fn(Session, Matches) -> Running,
}

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    Exactly(usize),
    AtLeast(usize),
    AtMost(usize),
    Between(usize, usize),
}

/// What a flag holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Present or not; `--flag=false` is legal. The value is the default.
    Switch(bool),
    /// The last one wins.
    Single,
    /// All are kept, in order.
    List,
}

/// One flag. `value` names its value in the help, `check` refuses bad values with the reason.
pub struct Flag {
    pub long: &'static str,
    pub short: Option<char>,
    /// A former spelling that still works and is not shown.
    pub former: Option<&'static str>,
    pub kind: Kind,
    pub value: &'static str,
    pub help: &'static str,
    pub check: fn(&str) -> Result<(), String>,
}

fn anything(_: &str) -> Result<(), String> {
    Ok(())
}

impl Flag {
    const fn new(long: &'static str, kind: Kind, value: &'static str, help: &'static str) -> Flag {
        Flag {
            long,
            short: None,
            former: None,
            kind,
            value,
            help,
            check: anything,
        }
    }

    pub const fn switch(long: &'static str, help: &'static str) -> Flag {
        Flag::new(long, Kind::Switch(false), "", help)
    }

    pub const fn switch_on(long: &'static str, help: &'static str) -> Flag {
        Flag::new(long, Kind::Switch(true), "", help)
    }

    pub const fn single(long: &'static str, value: &'static str, help: &'static str) -> Flag {
        Flag::new(long, Kind::Single, value, help)
    }

    pub const fn list(long: &'static str, value: &'static str, help: &'static str) -> Flag {
        Flag::new(long, Kind::List, value, help)
    }

    pub const fn short(mut self, letter: char) -> Flag {
        self.short = Some(letter);
        self
    }

    pub const fn former(mut self, long: &'static str) -> Flag {
        self.former = Some(long);
        self
    }

    pub const fn check(mut self, check: fn(&str) -> Result<(), String>) -> Flag {
        self.check = check;
        self
    }

    fn spelled(&self) -> String {
        match self.short {
            Some(letter) => format!("-{letter}, --{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

/// What a command line said: values by flag, and the arguments.
#[derive(Debug, Default, Clone)]
pub struct Matches {
    values: Vec<(&'static str, String)>,
    pub arguments: Vec<String>,
    pub help: bool,
}

impl Matches {
    /// Whether the flag was given at all.
    pub fn given(&self, long: &str) -> bool {
        self.values.iter().any(|(name, _)| *name == long)
    }

    /// The last value given.
    pub fn text(&self, long: &str) -> Option<&str> {
        self.values
            .iter()
            .rev()
            .find(|(name, _)| *name == long)
            .map(|(_, value)| value.as_str())
    }

    /// The last value given, where the empty string means absent.
    pub fn some(&self, long: &str) -> Option<&str> {
        self.text(long).filter(|value| !value.is_empty())
    }

    pub fn owned(&self, long: &str) -> String {
        self.text(long).unwrap_or_default().to_string()
    }

    pub fn list<'a>(&'a self, long: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.values
            .iter()
            .filter(move |(name, _)| *name == long)
            .map(|(_, value)| value.as_str())
    }

    pub fn texts(&self, long: &str) -> Vec<String> {
        self.list(long).map(str::to_string).collect()
    }

    /// A switch that is off by default.
    pub fn on(&self, long: &str) -> bool {
        self.text(long) == Some("true")
    }

    /// A switch that is on by default.
    pub fn on_by_default(&self, long: &str) -> bool {
        self.text(long) != Some("false")
    }

    /// A number that [`integer`] has already checked.
    pub fn number(&self, long: &str) -> Option<i64> {
        self.text(long).and_then(|value| value.parse().ok())
    }

    /// The `index`th argument; the arity promised that it is there.
    pub fn argument(&self, index: usize) -> &str {
        &self.arguments[index]
    }
}

/// Reads `words` by the given flags. `Err` is the reason in the words that Docker's users know.
pub fn parse(flags: &[&'static [Flag]], interspersed: bool, words: &[String]) -> Result<Matches, String> {
    let mut matches = Matches::default();
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if word == "--" {
            matches.arguments.extend(rest.by_ref().cloned());
        } else if let Some(long) = word.strip_prefix("--") {
            read_long(flags, &mut matches, long, &mut rest)?;
        } else if word.len() > 1 && word.starts_with('-') {
            read_short(flags, &mut matches, word, &mut rest)?;
        } else {
            matches.arguments.push(word.clone());
            if !interspersed {
                matches.arguments.extend(rest.by_ref().cloned());
            }
        }
    }
    Ok(matches)
}

fn read_long<'a>(
    flags: &[&'static [Flag]],
    matches: &mut Matches,
    word: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), String> {
    let (name, attached) = match word.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (word, None),
    };
    let found = flags
        .iter()
        .flat_map(|group| group.iter())
        .find(|flag| flag.long == name || flag.former == Some(name));
    let Some(flag) = found else {
        if name == "help" {
            matches.help = true;
            return Ok(());
        }
        return Err(format!("unknown flag: --{name}"));
    };
    let value = match (flag.kind, attached) {
        (_, Some(value)) => value.to_string(),
        (Kind::Switch(_), None) => "true".to_string(),
        (_, None) => rest
            .next()
            .cloned()
            .ok_or_else(|| format!("flag needs an argument: --{name}"))?,
    };
    store(flag, matches, value)
}

fn read_short<'a>(
    flags: &[&'static [Flag]],
    matches: &mut Matches,
    word: &str,
    rest: &mut impl Iterator<Item = &'a String>,
) -> Result<(), String> {
    let cluster = &word[1..];
    for (at, letter) in cluster.char_indices() {
        let found = flags
            .iter()
            .flat_map(|group| group.iter())
            .find(|flag| flag.short == Some(letter));
        let Some(flag) = found else {
            if letter == 'h' {
                matches.help = true;
                return Ok(());
            }
            return Err(format!("unknown shorthand flag: '{letter}' in -{}", &cluster[at..]));
        };
        let tail = &cluster[at + letter.len_utf8()..];
        if let Some(value) = tail.strip_prefix('=') {
            return store(flag, matches, value.to_string());
        }
        if let Kind::Switch(_) = flag.kind {
            store(flag, matches, "true".to_string())?;
            continue;
        }
        let value = match tail {
            "" => rest
                .next()
                .cloned()
                .ok_or_else(|| format!("flag needs an argument: '{letter}' in -{cluster}"))?,
            _ => tail.to_string(),
        };
        return store(flag, matches, value);
    }
    Ok(())
}

fn store(flag: &'static Flag, matches: &mut Matches, value: String) -> Result<(), String> {
    let refuse = |reason: String| {
        format!(
            "invalid argument {} for \"{}\" flag: {reason}",
            quoted(&value),
            flag.spelled()
        )
    };
    if let Kind::Switch(_) = flag.kind {
        let on = boolean(&value).map_err(refuse)?;
        matches.values.push((flag.long, on.to_string()));
        return Ok(());
    }
    (flag.check)(&value).map_err(refuse)?;
    matches.values.push((flag.long, value));
    Ok(())
}

/// A string between double quotes, escaped.
pub fn quoted(text: &str) -> String {
    format!("{text:?}")
}

/// The spellings of a truth value that Docker's flags accept.
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("strconv.ParseBool: parsing {}: invalid syntax", quoted(text))),
    }
}

/// A check: a whole number, in the words of Docker's error.
pub fn integer(text: &str) -> Result<(), String> {
    number::<i64>(text, "ParseInt")
}

/// A check: a whole number that is not negative.
pub fn unsigned(text: &str) -> Result<(), String> {
    number::<u64>(text, "ParseUint")
}

/// A check: a number of 16 bits.
pub fn unsigned16(text: &str) -> Result<(), String> {
    number::<u16>(text, "ParseUint")
}

fn number<N>(text: &str, function: &str) -> Result<(), String>
where
    N: std::str::FromStr<Err = std::num::ParseIntError>,
{
    use std::num::IntErrorKind;
    let Err(error) = text.parse::<N>() else { return Ok(()) };
    let reason = match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    Err(format!("strconv.{function}: parsing {}: {reason}", quoted(text)))
}

impl Arity {
    /// What is wrong with this number of arguments, if anything.
    pub fn refuse(self, count: usize) -> Option<String> {
        let plural = |n: usize| if n == 1 { "argument" } else { "arguments" };
        let text = match self {
            Arity::Exactly(0) | Arity::AtMost(0) if count > 0 => "accepts no arguments".to_string(),
            Arity::Exactly(n) if count != n => format!("requires {n} {}", plural(n)),
            Arity::AtLeast(n) if count < n => format!("requires at least {n} {}", plural(n)),
            Arity::AtMost(n) if count > n => format!("requires at most {n} {}", plural(n)),
            Arity::Between(low, high) if count < low || count > high => {
                format!("requires at least {low} and at most {high} {}", plural(high))
            }
            _ => return None,
        };
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static FLAGS: &[Flag] = &[
        Flag::switch("interactive", "").short('i'),
        Flag::switch("tty", "").short('t'),
        Flag::switch_on("sig-proxy", ""),
        Flag::list("env", "list", "").short('e'),
        Flag::single("cpu-shares", "int", "").short('c').check(integer),
        Flag::single("network", "network", "").former("net"),
    ];

    fn read(line: &str) -> Result<Matches, String> {
        let words: Vec<String> = line.split_whitespace().map(str::to_string).collect();
        parse(&[FLAGS], false, &words)
    }

    #[test]
    fn letters_bundle_and_the_first_argument_ends_the_flags() {
        let matches = read("-ite A=1 --env=B --sig-proxy=false --net x image -e C").unwrap();
        assert!(matches.on("interactive") && matches.on("tty"));
        assert!(!matches.on_by_default("sig-proxy"));
        assert_eq!(matches.texts("env"), ["A=1", "B"]);
        assert_eq!(matches.text("network"), Some("x"));
        assert_eq!(matches.arguments, ["image", "-e", "C"]);
    }

    #[test]
    fn a_value_may_touch_its_letter() {
        let matches = read("-eA=1 -c=5 -e=B=2").unwrap();
        assert_eq!(matches.texts("env"), ["A=1", "B=2"]);
        assert_eq!(matches.number("cpu-shares"), Some(5));
    }

    #[test]
    fn errors_use_the_words_of_docker() {
        assert_eq!(read("--foo").unwrap_err(), "unknown flag: --foo");
        assert_eq!(read("-itz").unwrap_err(), "unknown shorthand flag: 'z' in -z");
        assert_eq!(read("-e").unwrap_err(), "flag needs an argument: 'e' in -e");
        assert_eq!(read("--env").unwrap_err(), "flag needs an argument: --env");
        assert_eq!(
            read("-c x").unwrap_err(),
            "invalid argument \"x\" for \"-c, --cpu-shares\" flag: strconv.ParseInt: parsing \"x\": invalid syntax"
        );
        assert_eq!(
            read("--tty=maybe").unwrap_err(),
            "invalid argument \"maybe\" for \"-t, --tty\" flag: strconv.ParseBool: parsing \"maybe\": invalid syntax"
        );
    }

    #[test]
    fn arity_explains_itself() {
        assert_eq!(Arity::Exactly(2).refuse(1).unwrap(), "requires 2 arguments");
        assert_eq!(Arity::AtLeast(1).refuse(0).unwrap(), "requires at least 1 argument");
        assert_eq!(Arity::Exactly(0).refuse(1).unwrap(), "accepts no arguments");
        assert_eq!(Arity::AtMost(1).refuse(2).unwrap(), "requires at most 1 argument");
        assert_eq!(Arity::AtLeast(1).refuse(3), None);
    }
}
