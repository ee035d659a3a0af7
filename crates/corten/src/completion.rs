//! Completion for shells, made from the commands themselves: `corten completion bash|zsh|fish`.
//!
//! A script knows every word and flag; names of containers, images and so on it asks `corten __names KIND` for, which
//! never starts a daemon.
use std::fmt::Write;

use crate::arguments::{Command, Flag, Kind};

/// A place in the tree of commands.
pub struct Node {
    /// The words that lead to it; empty at the top.
    pub path: String,
    /// Words that may follow, with what they do.
    pub words: Vec<(&'static str, &'static str)>,
    pub command: Option<&'static Command>,
}

/// The shells that there is a script for.
pub const SHELLS: [&str; 3] = ["bash", "fish", "zsh"];

/// The script for a shell; none for a shell that is not known.
pub fn script(shell: &str, program: &str, tree: &[Node], globals: &'static [Flag]) -> Option<String> {
    let script = match shell {
        "bash" => bash(program, tree, globals),
        "fish" => fish(program, tree, globals),
        "zsh" => zsh(program, tree, globals),
        _ => return None,
    };
    Some(script)
}

fn flags(node: &Node, globals: &'static [Flag]) -> Vec<&'static Flag> {
    match node.command {
        Some(command) => command.flags.iter().flat_map(|group| group.iter()).collect(),
        None => globals.iter().collect(),
    }
}

/// What arguments of a command are names of, as its usage line says.
fn kind(node: &Node) -> Option<&'static str> {
    let usage = node.command?.usage;
    let kinds = [
        ("CONTAINER", "containers"),
        ("IMAGE", "images"),
        ("NETWORK", "networks"),
        ("VOLUME", "volumes"),
        ("CONTEXT", "contexts"),
    ];
    // What comes first in the line comes first on it.
    let found = kinds.iter().filter_map(|(word, kind)| Some((usage.find(word)?, *kind)));
    found.min().map(|(_, kind)| kind)
}

/// Shell words that find out where in the tree the cursor is: `path` grows as long as the words lead on.
fn cases(tree: &[Node]) -> String {
    let mut text = String::new();
    for node in tree.iter().filter(|node| !node.path.is_empty()) {
        let (before, word) = node.path.rsplit_once(' ').unwrap_or(("", &node.path));
        let _ = writeln!(text, "            '{before}/{word}') path='{}' ;;", node.path);
    }
    text
}

fn spellings(flags: &[&Flag]) -> Vec<String> {
    let mut all = Vec::new();
    for flag in flags {
        all.push(format!("--{}", flag.long));
        all.extend(flag.short.map(|letter| format!("-{letter}")));
    }
    all
}

fn bash(program: &str, tree: &[Node], globals: &'static [Flag]) -> String {
    let mut places = String::new();
    for node in tree {
        let words: Vec<&str> = node.words.iter().map(|(word, _)| *word).collect();
        let flags = spellings(&flags(node, globals));
        let _ = writeln!(
            places,
            "        '{}') words='{}' flags='{}' kind='{}' ;;",
            node.path,
            words.join(" "),
            flags.join(" "),
            kind(node).unwrap_or_default()
        );
    }
    format!(
        r#"# Completion of {program} for bash.
_{program}() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} path='' words='' flags='' kind='' i
    if declare -F _get_comp_words_by_ref >/dev/null; then _get_comp_words_by_ref -n : cur; fi
    for ((i = 1; i < COMP_CWORD; i++)); do
        case "$path/${{COMP_WORDS[i]}}" in
{cases}        esac
    done
    case $path in
{places}    esac
    if [[ $cur == -* ]]; then
        COMPREPLY=($(compgen -W "$flags" -- "$cur"))
    elif [[ -n $words ]]; then
        COMPREPLY=($(compgen -W "$words" -- "$cur"))
    elif [[ -n $kind ]]; then
        COMPREPLY=($(compgen -W "$({program} __names $kind 2>/dev/null)" -- "$cur"))
    fi
    if declare -F __ltrim_colon_completions >/dev/null; then __ltrim_colon_completions "$cur"; fi
}}
complete -o default -F _{program} {program}
"#,
        cases = cases(tree)
    )
}

/// A text within single quotes of a shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A word and what it does, as zsh's `_describe` reads them.
fn described(word: &str, about: &str) -> String {
    quoted(&format!("{}:{}", word.replace(':', "\\:"), one_line(about)))
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn zsh(program: &str, tree: &[Node], globals: &'static [Flag]) -> String {
    let mut places = String::new();
    for node in tree {
        let words: Vec<String> = node.words.iter().map(|(word, about)| described(word, about)).collect();
        let mut options = Vec::new();
        for flag in flags(node, globals) {
            for spelling in spellings(&[flag]) {
                options.push(described(&spelling, flag.help));
            }
        }
        let _ = writeln!(
            places,
            "        '{}') words_=({}) options=({}) kind='{}' ;;",
            node.path,
            words.join(" "),
            options.join(" "),
            kind(node).unwrap_or_default()
        );
    }
    format!(
        r#"#compdef {program}
# Completion of {program} for zsh.
_{program}() {{
    local place='' kind='' i
    local -a words_ options names
    for ((i = 2; i < CURRENT; i++)); do
        case "$place/${{words[i]}}" in
{cases}        esac
    done
    case $place in
{places}    esac
    if [[ $PREFIX == -* ]]; then
        _describe -o option options
    elif (( $#words_ )); then
        _describe command words_
    elif [[ -n $kind ]]; then
        names=(${{(f)"$({program} __names $kind 2>/dev/null)"}})
        compadd -a names
    else
        _files
    fi
}}
compdef _{program} {program}
"#,
        cases = cases(tree).replace(" path=", " place=")
    )
}

fn fish(program: &str, tree: &[Node], globals: &'static [Flag]) -> String {
    let mut text = format!(
        "# Completion of {program} for fish.\nfunction __{program}_place\n    set -l path ''\n    \
         for word in (commandline -opc)[2..]\n        switch \"$path/$word\"\n"
    );
    for node in tree.iter().filter(|node| !node.path.is_empty()) {
        let (before, word) = node.path.rsplit_once(' ').unwrap_or(("", &node.path));
        let _ = writeln!(
            text,
            "            case '{before}/{word}'\n                set path '{}'",
            node.path
        );
    }
    let _ = writeln!(
        text,
        "        end\n    end\n    echo $path\nend\nfunction __{program}_at\n    test (__{program}_place) = \"$argv\"\nend"
    );
    for node in tree {
        let at = format!("complete -c {program} -n '__{program}_at {}'", node.path);
        for (word, about) in &node.words {
            let _ = writeln!(text, "{at} -f -a {word} -d {}", quoted(about));
        }
        if let Some(kind) = kind(node) {
            let _ = writeln!(text, "{at} -f -a '({program} __names {kind} 2>/dev/null)'");
        }
        for flag in flags(node, globals) {
            let short = flag.short.map_or_else(String::new, |letter| format!(" -s {letter}"));
            let value = if matches!(flag.kind, Kind::Switch(_)) {
                ""
            } else {
                " -r"
            };
            let help = quoted(&one_line(flag.help));
            let _ = writeln!(text, "{at} -l {}{short}{value} -d {help}", flag.long);
        }
    }
    text
}
