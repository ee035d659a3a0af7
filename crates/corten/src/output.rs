//! Printing that survives a reader who goes away: `corten ps | head -1` ends quietly, as a filter does.
//!
//! The standard library's `println!` panics instead, because Rust programs ignore SIGPIPE.
use std::fmt::Arguments;
use std::io::{self, Write};

/// What a shell reports for a program that SIGPIPE ended.
const BROKEN_PIPE_STATUS: i32 = 141;

/// Standard output.
pub fn stdout(text: Arguments<'_>) {
    end_unless_read(io::stdout().lock().write_fmt(text));
}

/// Standard error.
pub fn stderr(text: Arguments<'_>) {
    end_unless_read(io::stderr().lock().write_fmt(text));
}

fn end_unless_read(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(BROKEN_PIPE_STATUS);
    }
}

/// `print!` on standard output.
#[macro_export]
macro_rules! out {
    ($($text:tt)*) => { $crate::output::stdout(format_args!($($text)*)) };
}

/// `println!` on standard output.
#[macro_export]
macro_rules! outln {
    () => { $crate::output::stdout(format_args!("\n")) };
    ($($text:tt)*) => { $crate::output::stdout(format_args!("{}\n", format_args!($($text)*))) };
}

/// `eprintln!` on standard error.
#[macro_export]
macro_rules! errln {
    ($($text:tt)*) => { $crate::output::stderr(format_args!("{}\n", format_args!($($text)*))) };
}
