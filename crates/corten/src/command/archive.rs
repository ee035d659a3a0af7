//! Images as files, and containers: load, import, save, export.
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use corten_api::calls::{Archive, ImportQuery};
use corten_api::client::Streaming;
use corten_api::types::platform::Platform;
use futures_util::StreamExt;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::mpsc;

use crate::arguments::{Arity, Command, Flag, Matches, Outcome};
use crate::failure::{self, Failure};
use crate::local;
use crate::progress::{self, Target};
use crate::session::Session;
use crate::terminal;

const CHUNK_BYTES: usize = 256 * 1024;

pub static LOAD: Command = Command {
    name: "load",
    usage: "[OPTIONS]",
    about: "Load images from an archive or STDIN",
    aliases: &["image load", "load"],
    flags: &[&[
        Flag::single("input", "string", "Read from a file instead of STDIN").short('i'),
        Flag::single("platform", "string", "Load only this platform (os[/arch[/variant]])"),
        Flag::switch("quiet", "Do not show progress").short('q'),
    ]],
    arity: Arity::Exactly(0),
    interspersed: true,
    run: |session, matches| Box::pin(load(session, matches)),
};

async fn load(session: Session, matches: Matches) -> Outcome {
    let quiet = matches.on("quiet");
    let archive = match matches.some("input") {
        Some(path) => read_file(path, quiet)?,
        None if terminal::stdin_is_terminal() => {
            return Err(Failure::new("requested load from stdin, but stdin is empty"));
        }
        None => read_pieces(io::stdin(), None),
    };
    let answer = session
        .client()
        .await?
        .load(archive, quiet, platform(&matches)?.as_ref())
        .await?;
    progress::show(answer, false, Target::Stdout).await?;
    Ok(0)
}

pub static IMPORT: Command = Command {
    name: "import",
    usage: "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    about: "Make an image of a root file system in an archive",
    aliases: &["image import", "import"],
    flags: &[&[
        Flag::list("change", "list", "Apply a Dockerfile instruction to the image").short('c'),
        Flag::single("message", "string", "Comment of the image").short('m'),
        Flag::single("platform", "string", "Platform of the image"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(import(session, matches)),
};

async fn import(session: Session, matches: Matches) -> Outcome {
    let source = matches.argument(0);
    let remote = source.starts_with("http://") || source.starts_with("https://");
    let archive = match source {
        "-" => Some(read_pieces(io::stdin(), None)),
        _ if remote => None,
        path => Some(read_file(path, true)?),
    };
    let query = ImportQuery {
        source: if remote { source.to_string() } else { "-".to_string() },
        repository: matches.arguments.get(1).cloned().unwrap_or_default(),
        message: matches.owned("message"),
        platform: matches.owned("platform"),
        changes: matches.texts("change"),
    };
    let answer = session.client().await?.import(archive, &query).await?;
    progress::show(answer, false, Target::Stdout).await?;
    Ok(0)
}

pub static SAVE: Command = Command {
    name: "save",
    usage: "[OPTIONS] IMAGE [IMAGE...]",
    about: "Write one or more images to an archive or STDOUT",
    aliases: &["image save", "save"],
    flags: &[&[
        Flag::single("output", "string", "Write to a file instead of STDOUT").short('o'),
        Flag::single("platform", "string", "Save only this platform (os[/arch[/variant]])"),
    ]],
    arity: Arity::AtLeast(1),
    interspersed: true,
    run: |session, matches| Box::pin(save(session, matches)),
};

async fn save(session: Session, matches: Matches) -> Outcome {
    let output = matches.some("output");
    if output.is_none() && terminal::stdout_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    let client = session.client().await?;
    let mut body = client.save(&matches.arguments, platform(&matches)?.as_ref()).await?;
    match output {
        None => write_all(&mut body, &mut rustix_stdout()?).await?,
        Some(path) => {
            let mut partial = Partial::create(Path::new(path))?;
            write_all(&mut body, &mut partial.file).await?;
            partial.finish()?;
        }
    }
    Ok(0)
}

pub static EXPORT: Command = Command {
    name: "export",
    usage: "[OPTIONS] CONTAINER",
    about: "Export a container's filesystem as a tar archive",
    aliases: &["container export", "export"],
    flags: &[&[Flag::single("output", "string", "Write to a file, instead of STDOUT").short('o')]],
    arity: Arity::Exactly(1),
    interspersed: true,
    run: |session, matches| Box::pin(export(session, matches)),
};

async fn export(session: Session, matches: Matches) -> Outcome {
    let output = matches.some("output");
    if output.is_none() && terminal::stdout_is_terminal() {
        return Err(Failure::new(
            "cowardly refusing to save to a terminal. Use the -o flag or redirect",
        ));
    }
    if let Some(path) = output {
        local::check_file(path)
            .map_err(|failure| Failure::new(format!("failed to export container: {}", failure.text)))?;
    }
    let client = session.client().await?;
    let mut body = client.export(matches.argument(0)).await?;
    match output {
        None => write_all(&mut body, &mut rustix_stdout()?).await?,
        Some(path) => {
            let mut partial = Partial::create(Path::new(path))?;
            write_all(&mut body, &mut partial.file).await?;
            partial.finish()?;
        }
    }
    Ok(0)
}

/// `--platform`, for an image of it.
pub fn platform(matches: &Matches) -> Result<Option<Platform>, Failure> {
    let parsed = matches.some("platform").map(Platform::parse).transpose();
    parsed.map_err(|error| Failure::new(format!("invalid platform: {error}")))
}

/// Standard output without a buffer.
fn rustix_stdout() -> Result<File, Failure> {
    let fd = rustix::io::dup(io::stdout()).map_err(|error| Failure::io("standard output", &error.into()))?;
    Ok(File::from(fd))
}

async fn write_all(body: &mut Streaming, out: &mut File) -> Result<(), Failure> {
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| Failure::io("reading from the daemon", &error))?;
        out.write_all(&piece)
            .map_err(|error| Failure::io("writing the archive", &error))?;
    }
    Ok(())
}

/// A file that only gets its name when it is whole.
struct Partial {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    done: bool,
}

impl Partial {
    fn create(target: &Path) -> Result<Partial, Failure> {
        let name = target
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let temporary = target.with_file_name(format!(".{name}.{}", std::process::id()));
        let file = File::create(&temporary).map_err(|error| {
            Failure::new(format!(
                "failed to save image: invalid output path: {}",
                failure::reason(&error)
            ))
        })?;
        Ok(Partial {
            file,
            temporary,
            target: target.to_path_buf(),
            done: false,
        })
    }

    fn finish(mut self) -> Result<(), Failure> {
        fs::rename(&self.temporary, &self.target)
            .map_err(|error| Failure::io(format!("cannot write {}", self.target.display()), &error))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.done {
            // Best effort: the error that brought us here is the one to tell.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn read_file(path: &str, quiet: bool) -> Result<Archive, Failure> {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (length, file) = opened.map_err(|error| Failure::new(format!("open {path}: {}", failure::reason(&error))))?;
    // The bar moves with what the daemon has taken, on stderr, where there is somebody to see it.
    let bar = (!quiet && terminal::stderr_is_terminal()).then(|| {
        let style = ProgressStyle::with_template("Loading {bar:40} {bytes}/{total_bytes}");
        ProgressBar::new(length).with_style(style.expect("the template is constant").progress_chars("=> "))
    });
    Ok(read_pieces(file, bar))
}

/// A reader as a stream, read by a thread of its own.
pub fn read_pieces(mut reader: impl Read + Send + 'static, bar: Option<ProgressBar>) -> Archive {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(2);
    std::thread::spawn(move || {
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => Ok(Bytes::copy_from_slice(&buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let length = piece.as_ref().map_or(0, Bytes::len);
            let failed = piece.is_err();
            if sender.blocking_send(piece).is_err() || failed {
                break;
            }
            if let Some(bar) = &bar {
                bar.inc(length as u64);
            }
        }
        if let Some(bar) = &bar {
            bar.finish_and_clear();
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    })
    .boxed()
}
