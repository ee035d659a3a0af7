//! The same verb for many names: all at once, each told of in the order given.
use std::future::Future;

use corten_api::client::Error;
use futures_util::future::join_all;

use crate::arguments::Outcome;
use crate::failure::Failure;
use crate::{errln, outln};

/// Runs `verb` for every name at once. Names of those that worked go to stdout, reasons of the others to stderr.
pub async fn name<'a, F, R>(names: &'a [String], verb: F) -> Outcome
where
    F: Fn(&'a str) -> R,
    R: Future<Output = Result<(), Error>>,
{
    let results = join_all(names.iter().map(|name| verb(name))).await;
    let mut status = 0;
    for (name, result) in names.iter().zip(results) {
        match result {
            Ok(()) => outln!("{name}"),
            Err(error) => {
                errln!("{error}");
                status = 1;
            }
        }
    }
    if status == 0 {
        Ok(0)
    } else {
        Err(Failure::silent(status))
    }
}
