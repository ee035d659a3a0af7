//! Which daemon a command talks to: `-H`, `--context`, `DOCKER_HOST`, `DOCKER_CONTEXT`, the chosen context, the default.
//!
//! The first that says something decides. TLS flags and variables belong to `-H` and `DOCKER_HOST`; a context has its own.
use std::{env, path::PathBuf, sync::Arc};

use corten_api::{tls::TlsFiles, transport::Endpoint};

use crate::{
    arguments::Matches,
    context::store::{DEFAULT, Meta, Store},
    failure::Failure,
};

/// The daemon, and how it was found.
pub struct Resolved {
    pub endpoint: Endpoint,
    /// The context's name.
    pub context: String,
    /// Nobody named a daemon.
    pub by_default: bool,
}

/// The context's name alone, which need not exist.
pub fn name(globals: &Matches, store: &Store) -> Result<String, Failure> {
    let context = globals.some("context");
    if globals.list("host").count() > 0 {
        if context.is_some() {
            return Err(Failure::new(
                "conflicting options: cannot specify both --host and --context",
            ));
        }
        return Ok(DEFAULT.to_owned());
    }
    if let Some(name) = context {
        return Ok(name.to_owned());
    }
    if variable("DOCKER_HOST").is_some() {
        return Ok(DEFAULT.to_owned());
    }
    let chosen = variable("DOCKER_CONTEXT").or_else(|| store.current());
    Ok(chosen.unwrap_or_else(|| DEFAULT.to_owned()))
}

pub fn resolve(globals: &Matches, store: &Store) -> Result<Resolved, Failure> {
    let context = name(globals, store)?;
    if context != DEFAULT {
        let failed = |reason: String| {
            Failure::new(format!(
                "Failed to initialize: unable to resolve docker endpoint: {reason}"
            ))
        };
        let meta = store.read(&context).map_err(failed)?;
        return Ok(Resolved {
            endpoint: of_context(&meta, store).map_err(failed)?,
            context,
            by_default: false,
        });
    }
    if globals.list("host").count() > 1 {
        return Err(Failure::new("specify only one -H"));
    }
    let named = globals
        .some("host")
        .map(str::to_owned)
        .or_else(|| variable("DOCKER_HOST"));
    let endpoint = match &named {
        Some(address) => with_tls(parse(address)?, tls_of_flags(globals, store)),
        None => Endpoint::default(),
    };
    Ok(Resolved {
        endpoint,
        context,
        by_default: named.is_none(),
    })
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn parse(address: &str) -> Result<Endpoint, Failure> {
    Endpoint::parse(address).map_err(|error| Failure::new(error.to_string()))
}

/// The daemon that a context names.
pub fn of_context(meta: &Meta, store: &Store) -> Result<Endpoint, String> {
    let docker = &meta.endpoints.docker;
    if docker.host.is_empty() {
        return Ok(Endpoint::default());
    }
    let endpoint = Endpoint::parse(&docker.host).map_err(|error| error.to_string())?;
    let files = store.tls_files(&meta.name);
    if files.is_empty() && !docker.skip_tls_verify {
        return Ok(endpoint);
    }
    let file = |name: &str| files.iter().find(|file| file.ends_with(name)).cloned();
    let tls = TlsFiles {
        authority: file("ca.pem"),
        certificate: file("cert.pem"),
        key: file("key.pem"),
        verify: !docker.skip_tls_verify,
    };
    Ok(with_tls(endpoint, Some(tls)))
}

/// TLS is for TCP alone.
fn with_tls(endpoint: Endpoint, tls: Option<TlsFiles>) -> Endpoint {
    match (endpoint, tls) {
        (Endpoint::Tcp(authority), Some(tls)) => Endpoint::tls(authority, Arc::new(tls)),
        (endpoint, _) => endpoint,
    }
}

/// `--tls…` and `DOCKER_TLS…`: files that nobody named lie in the directory of settings, where they need not be.
fn tls_of_flags(globals: &Matches, store: &Store) -> Option<TlsFiles> {
    let named = ["tlscacert", "tlscert", "tlskey"].map(|flag| globals.some(flag).map(PathBuf::from));
    let verify = match globals.given("tlsverify") {
        true => globals.on("tlsverify"),
        false => variable("DOCKER_TLS_VERIFY").is_some(),
    };
    let wanted = verify || globals.on("tls") || variable("DOCKER_TLS").is_some() || named.iter().any(Option::is_some);
    if !wanted {
        return None;
    }
    let directory = variable("DOCKER_CERT_PATH").map_or_else(|| store.directory().to_owned(), PathBuf::from);
    let [authority, certificate, key] = named;
    let file = |named: Option<PathBuf>, name: &str| {
        let beside = directory.join(name);
        named.or_else(|| beside.exists().then_some(beside))
    };
    Some(TlsFiles {
        authority: file(authority, "ca.pem"),
        certificate: file(certificate, "cert.pem"),
        key: file(key, "key.pem"),
        verify,
    })
}
