//! The question before something is lost.
use crate::out;
use std::io::{self, BufRead, Write};

/// Asks on stdout; only a clear yes is one.
pub fn ask(warning: &str) -> bool {
    out!("{warning}\nAre you sure you want to continue? [y/N] ");
    let _ = io::stdout().flush();
    let mut answer = String::new();
    let _ = io::stdin().lock().read_line(&mut answer);
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}
