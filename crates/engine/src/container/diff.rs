//! `diff` and `export`: what a container has changed, and all of its root file system.
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use corten_linux::transfer::Sink;
use corten_runtime::rootfs::view;
use corten_store::layer::{
    diff::{self, Change, pack_layer},
    error::LayerError,
    pack::{Packer, Rules},
    walk::on_a_deep_stack,
};

use crate::{
    container::{
        files::{self, Files, Purpose},
        handle::{Command, Handle},
        record::Record,
        state::Phase,
    },
    context::{Context, blocking},
    error::{Error, Result, causes},
};

/// What the container changed in its image's files, whether it runs or not.
pub async fn changes(context: &Arc<Context>, handle: &Handle) -> Result<Vec<Change>> {
    let (context, record) = (Arc::clone(context), handle.record());
    blocking(move || {
        let difference = Difference::open(&context, &record)?;
        let compare = || diff::changes(difference.upper.as_fd(), difference.lower.as_fd());
        let changes = on_a_deep_stack(compare).map_err(|error| Error::system("cannot compare").because(error))?;
        changes.map_err(|error| Error::system(causes(&error)))
    })
    .await
}

/// The writable layer and what is below it.
#[derive(Debug)]
pub struct Difference {
    upper: OwnedFd,
    lower: OwnedFd,
}

impl Difference {
    pub fn open(context: &Context, record: &Record) -> Result<Difference> {
        let layers = files::layers(context, record);
        let failed = |error| Error::system("cannot open the container's layers").because(error);
        Ok(Difference {
            upper: view::directory(&layers.upper).map_err(failed)?,
            lower: view::stack(&layers.lowers).map_err(failed)?,
        })
    }

    /// Writes it as a layer's tar; returns how many entries that has.
    pub fn write(&self, sink: &mut dyn Sink) -> Result<u64, LayerError> {
        let write = || {
            let mut packer = Packer::new(sink, Rules::default());
            pack_layer(&mut packer, self.upper.as_fd(), self.lower.as_fd())?;
            let entries = packer.entries();
            packer.finish()?;
            Ok(entries)
        };
        on_a_deep_stack(write).map_err(LayerError::Write)?
    }
}

/// A root file system on its way out: opened, and not read yet.
#[derive(Debug)]
pub struct Export {
    files: Files,
}

impl Export {
    /// Writes the archive, on a thread that may wait for whoever reads it.
    pub fn write(self, sink: &mut dyn Sink) -> io::Result<()> {
        on_a_deep_stack(|| {
            let rules = Rules {
                owners: self.files.owners.clone(),
                ..Rules::default()
            };
            let mut packer = Packer::new(sink, rules);
            packer.add_contents(self.files.root(), b"")?;
            self.files.check_there()?;
            Ok(packer.finish()?)
        })?
    }
}

pub async fn export(context: &Arc<Context>, handle: &Handle) -> Result<Export> {
    check_there(handle, "export")?;
    let files = files::open(context, handle, Purpose::Root).await?;
    let action = "export".to_owned();
    let _ = handle.ask(|reply| Command::Tell { action, reply }).await;
    Ok(Export { files })
}

/// `verb` is what a container that goes can no longer be asked for.
pub fn check_there(handle: &Handle, verb: &str) -> Result<()> {
    let state = match handle.snapshot().state.phase {
        Phase::Dead => "Dead",
        Phase::Removing => "being removed",
        _ => return Ok(()),
    };
    let id = &handle.id;
    Err(Error::conflict(format!(
        "You cannot {verb} container {id} which is {state}"
    )))
}
