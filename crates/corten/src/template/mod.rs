//! `--format`: the part of Go's template language that Docker's users write.
//!
//! A template is parsed into [`parse::Node`]s and evaluated over [`value::Value`]s, which keep the order of JSON
//! members: what the daemon sent first is printed first.
pub mod evaluate;
pub mod function;
pub mod lexer;
pub mod parse;
pub mod shape;
pub mod value;
