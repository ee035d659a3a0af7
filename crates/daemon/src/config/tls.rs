//! How TCP doors prove who they are, and whom they let in.
use std::path::PathBuf;

use clap::Args;

use crate::config::{file::File, value::one};

/// The command line's part.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS")]
pub struct TlsFlags {
    /// Use TLS; implied by --tlsverify
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub tls: Option<bool>,
    /// Use TLS and verify the remote
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub tlsverify: Option<bool>,
    /// Trust certs signed only by this CA
    #[arg(long, value_name = "PATH")]
    pub tlscacert: Option<PathBuf>,
    /// Path to TLS certificate file
    #[arg(long, value_name = "PATH")]
    pub tlscert: Option<PathBuf>,
    /// Path to TLS key file
    #[arg(long, value_name = "PATH")]
    pub tlskey: Option<PathBuf>,
}

impl TlsFlags {
    /// Which keys of `daemon.json` the command line has decided.
    pub fn given(&self) -> impl Iterator<Item = (&'static str, String)> {
        let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let given = [
            ("tls", one(&self.tls)),
            ("tlsverify", one(&self.tlsverify)),
            ("tlscacert", path(&self.tlscacert)),
            ("tlscert", path(&self.tlscert)),
            ("tlskey", path(&self.tlskey)),
        ];
        given.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }
}

/// Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Who signs clients; without it every client is let in.
    pub client_authority: Option<PathBuf>,
}

/// Absent means TCP in the clear.
pub fn join(flags: &TlsFlags, file: &File) -> Option<TlsFiles> {
    let verify = flags.tlsverify.or(file.tlsverify).unwrap_or(false);
    if !verify && !flags.tls.or(file.tls).unwrap_or(false) {
        return None;
    }
    let path = |flag: &Option<PathBuf>, file: &Option<PathBuf>, name: &str| {
        let chosen = flag.clone().or_else(|| file.clone());
        chosen.unwrap_or_else(|| default_directory().join(name))
    };
    Some(TlsFiles {
        certificate: path(&flags.tlscert, &file.tlscert, "cert.pem"),
        key: path(&flags.tlskey, &file.tlskey, "key.pem"),
        client_authority: verify.then(|| path(&flags.tlscacert, &file.tlscacert, "ca.pem")),
    })
}

/// Where the docker command line keeps its own, as with dockerd.
fn default_directory() -> PathBuf {
    let directory = std::env::var_os("DOCKER_CERT_PATH").or_else(|| std::env::var_os("DOCKER_CONFIG"));
    directory.map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/root".into())).join(".docker"),
        PathBuf::from,
    )
}
