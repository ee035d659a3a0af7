//! Manual pages, made from the commands themselves: `corten manual DIRECTORY`.
//!
//! One page for the whole, and one for each command, `corten-container-ls(1)`, in the roff of man(7).
use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use crate::arguments::{Flag, Kind};
use crate::completion::Node;

/// Writes every page.
pub fn write(directory: &Path, program: &str, tree: &[Node], globals: &'static [Flag]) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    for node in tree {
        let name = page_name(program, &node.path);
        fs::write(directory.join(format!("{name}.1")), page(program, node, globals))?;
    }
    Ok(())
}

fn page_name(program: &str, path: &str) -> String {
    match path {
        "" => program.to_owned(),
        path => format!("{program}-{}", path.replace(' ', "-")),
    }
}

fn page(program: &str, node: &Node, globals: &'static [Flag]) -> String {
    let name = page_name(program, &node.path);
    let called = format!("{program} {}", node.path);
    let called = called.trim_end();
    let (about, usage) = match node.command {
        Some(command) => (command.about, command.usage),
        None if node.path.is_empty() => ("containers, images and what keeps them running", "[OPTIONS] COMMAND"),
        None => ("a group of commands", "COMMAND"),
    };
    let mut text = String::from("'\\\" t\n");
    let _ = writeln!(
        text,
        ".TH {} 1 \"\" \"Corten {}\" \"Corten\"",
        escape(&name.to_uppercase()),
        env!("CARGO_PKG_VERSION")
    );
    let _ = writeln!(text, ".SH NAME\n{} \\- {}", escape(&name), escape(about));
    let _ = writeln!(text, ".SH SYNOPSIS\n.B {}\n{}", escape(called), escape(usage));
    if let Some(command) = node.command
        && command.aliases.len() > 1
    {
        let aliases: Vec<String> = command
            .aliases
            .iter()
            .map(|alias| escape(&format!("{program} {alias}")))
            .collect();
        let _ = writeln!(text, ".SH ALIASES\n{}", aliases.join(", "));
    }
    if !node.words.is_empty() {
        text.push_str(".SH COMMANDS\n");
        for (word, about) in &node.words {
            let _ = writeln!(text, ".TP\n.B {}\n{}", escape(word), escape(about));
        }
    }
    let own = node
        .command
        .map(|command| command.flags.iter().flat_map(|group| group.iter()).collect());
    let mut flags: Vec<&Flag> = own.unwrap_or_else(|| globals.iter().collect());
    flags.sort_by_key(|flag| flag.long);
    if !flags.is_empty() {
        text.push_str(".SH OPTIONS\n");
        for flag in flags {
            text.push_str(&option(flag));
        }
    }
    if !node.path.is_empty() {
        let _ = writeln!(text, ".SH SEE ALSO\n.BR {} (1)", escape(program));
    }
    text
}

fn option(flag: &Flag) -> String {
    let mut text = String::from(".TP\n");
    if let Some(letter) = flag.short {
        let _ = write!(text, "\\fB\\-{letter}\\fR, ");
    }
    let _ = write!(text, "\\fB\\-\\-{}\\fR", escape(flag.long));
    if !flag.value.is_empty() {
        let _ = write!(text, " \\fI{}\\fR", escape(flag.value));
    }
    let default = if flag.kind == Kind::Switch(true) {
        " (default true)"
    } else {
        ""
    };
    let help: Vec<String> = flag.help.lines().map(escape).collect();
    let _ = writeln!(text, "\n{}{default}", help.join("\n"));
    text
}

/// What roff would take for itself: backslashes, hyphens that are dashes to it, and controls at a line's beginning.
fn escape(text: &str) -> String {
    let escaped = text.replace('\\', "\\e").replace('-', "\\-");
    match escaped.starts_with(['.', '\'']) {
        true => format!("\\&{escaped}"),
        false => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn text_is_no_markup() {
        assert_eq!(escape(".x -a \\n"), "\\&.x \\-a \\en");
        assert_eq!(escape("'{{.ID}}'"), "\\&'{{.ID}}'");
    }
}
