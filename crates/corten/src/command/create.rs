//! `create`: a container that waits to be started.
use std::fs;
use std::path::{Path, PathBuf};

use corten_api::client::{Call, Client, Error};
use corten_api::types::container::CreateRequest;
use corten_api::types::platform::Platform;

use crate::arguments::{Arity, Command, Matches, Outcome};
use crate::failure::{self, Failure};
use crate::flags::{known, network, request};
use crate::progress;
use crate::session::Session;

pub static CREATE: Command = Command {
    name: "create",
    usage: "[OPTIONS] IMAGE [COMMAND] [ARG...]",
    about: "Create a new container",
    aliases: &["container create", "create"],
    flags: &[known::CREATE],
    arity: Arity::AtLeast(1),
    interspersed: false,
    run: |session, matches| Box::pin(create(session, matches)),
};
use crate::{errln, outln};

async fn create(session: Session, matches: Matches) -> Outcome {
    let request = build(&session, &matches).map_err(|reason| refused(&session, Failure::new(reason)))?;
    let client = session.client().await?;
    // Here the daemon's refusals come without a hint, and as an ordinary failure: only `run` makes more of them.
    let id = make(&client, &matches, &request, |failure| failure).await?;
    outln!("{id}");
    Ok(0)
}

/// The request that the flags ask for.
pub fn build(session: &Session, matches: &Matches) -> Result<CreateRequest, String> {
    let mut request = request::create(matches)?;
    let servers = request.host_config.dns.as_deref().unwrap_or_default();
    if let Some(server) = network::local_resolver(servers) {
        errln!("WARNING: Localhost DNS ({server}) may fail in containers.");
    }
    if matches.on("use-api-socket") {
        let socket = session.endpoint.unix_path().and_then(Path::to_str);
        let socket = socket.ok_or("flag --use-api-socket can only be used with a daemon on a unix socket")?;
        request::mount_socket(&mut request, socket);
    }
    Ok(request)
}

/// `docker: Error response from daemon: …`, with the hint that follows every refusal of `run`, and of flags.
pub fn refused(session: &Session, failure: Failure) -> Failure {
    if failure.text.is_empty() {
        return failure;
    }
    Failure::new(format!("{}: {}\n\n{}", session.program, failure.text, session.hint())).with_status(125)
}

/// Creates the container, pulling the image where that is asked for and possible, and writes the id to `--cidfile`.
pub async fn make(
    client: &Client,
    matches: &Matches,
    request: &CreateRequest,
    refuse: impl Fn(Failure) -> Failure,
) -> Result<String, Failure> {
    let id_file = matches
        .some("cidfile")
        .map(IdFile::create)
        .transpose()
        .map_err(&refuse)?;
    let pull = matches.text("pull").unwrap_or("missing");
    let platform = matches.some("platform");
    if let Some(Err(error)) = platform.map(Platform::parse) {
        return Err(refuse(Failure::new(format!(
            "error parsing specified platform: {error}"
        ))));
    }
    let quiet = matches.on("quiet");
    let image = &request.config.image;
    if pull == "always" {
        fetch(client, image, platform, quiet).await.map_err(&refuse)?;
    }
    let name = matches.some("name");
    let created = match client.create(name, platform, request).await {
        Err(error) if pull == "missing" && is_missing_image(&error) => {
            errln!("Unable to find image '{}' locally", with_tag(image));
            fetch(client, image, platform, quiet).await.map_err(&refuse)?;
            client.create(name, platform, request).await
        }
        other => other,
    };
    let created = created.map_err(|error| refuse(error.into()))?;
    for warning in &created.warnings {
        errln!("WARNING: {warning}");
    }
    if let Some(file) = id_file {
        file.keep(&created.id).map_err(&refuse)?;
    }
    Ok(created.id)
}

fn is_missing_image(error: &Error) -> bool {
    matches!(error, Error::Refused { status: 404, message } if message.contains("No such image"))
}

/// An image's name with the tag that is meant.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains([':', '@']) {
        image.to_string()
    } else {
        format!("{image}:latest")
    }
}

/// Asks the daemon to pull.
async fn fetch(client: &Client, image: &str, platform: Option<&str>, quiet: bool) -> Result<(), Failure> {
    let full = with_tag(image);
    let (name, tag) = match (full.split_once('@'), full.rsplit_once(':')) {
        (Some((name, digest)), _) => (name.to_string(), digest.to_string()),
        (None, Some((name, tag))) => (name.to_string(), tag.to_string()),
        (None, None) => (full, String::new()),
    };
    let call = Call::post("/images/create")
        .query("fromImage", &name)
        .query("tag", &tag)
        .maybe("platform", platform);
    let answer = client.streaming(call).await?;
    progress::show(answer, quiet, progress::Target::Stderr).await.map(drop)
}

/// `--cidfile`: made before the container, and taken away again when none comes to be.
struct IdFile {
    path: PathBuf,
    written: bool,
}

impl IdFile {
    fn create(path: &str) -> Result<IdFile, Failure> {
        let opened = fs::OpenOptions::new().write(true).create_new(true).open(path);
        match opened {
            Ok(_) => Ok(IdFile {
                path: PathBuf::from(path),
                written: false,
            }),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            ))),
            Err(error) => Err(Failure::new(format!(
                "failed to create the container ID file: open {path}: {}",
                failure::reason(&error)
            ))),
        }
    }

    fn keep(mut self, id: &str) -> Result<(), Failure> {
        fs::write(&self.path, id).map_err(|error| {
            Failure::io(
                format!("failed to write the container ID to the file ({})", self.path.display()),
                &error,
            )
        })?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            // Best effort: an empty file would block the next run.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tag_that_is_meant_is_latest() {
        assert_eq!(with_tag("a"), "a:latest");
        assert_eq!(with_tag("host:5000/a"), "host:5000/a:latest");
        assert_eq!(with_tag("a:1"), "a:1");
        assert_eq!(with_tag("a@sha256:0"), "a@sha256:0");
    }
}
