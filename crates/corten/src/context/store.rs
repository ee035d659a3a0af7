//! Contexts on disk, in the place and form of Docker's command line, so that both use the same ones.
//!
//! `<config>/contexts/meta/<sha256 of the name>/meta.json`, `<config>/contexts/tls/<the same>/docker/{ca,cert,key}.pem`,
//! and the chosen one's name in `<config>/config.json`, of which every other member is kept as it is.
use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// The name of no context: what `DOCKER_HOST` or the default says.
pub const DEFAULT: &str = "default";
/// Files of a context's TLS material.
pub const TLS_FILES: [&str; 3] = ["ca.pem", "cert.pem", "key.pem"];
/// The one kind of endpoint there is.
pub const ENDPOINT: &str = "docker";
const CURRENT: &str = "currentContext";

/// `meta.json`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Meta {
    pub name: String,
    pub metadata: Metadata,
    pub endpoints: Endpoints,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Metadata {
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What other programs keep here.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Endpoints {
    pub docker: DockerEndpoint,
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DockerEndpoint {
    #[serde(rename = "Host")]
    pub host: String,
    #[serde(rename = "SkipTLSVerify")]
    pub skip_tls_verify: bool,
}

/// The directory of the client's settings, and the contexts in it.
#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
}

impl Store {
    /// `--config`, `DOCKER_CONFIG` or `~/.docker`.
    pub fn new(flag: Option<&str>) -> Store {
        let named = flag.map(PathBuf::from);
        let from_environment = || {
            env::var_os("DOCKER_CONFIG")
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let home = || env::home_dir().unwrap_or_else(|| PathBuf::from("/")).join(".docker");
        Store {
            directory: named.or_else(from_environment).unwrap_or_else(home),
        }
    }

    #[cfg(test)]
    pub fn at(directory: &Path) -> Store {
        Store {
            directory: directory.to_owned(),
        }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn metadata_path(&self, name: &str) -> PathBuf {
        self.directory.join("contexts/meta").join(directory_of(name))
    }

    pub fn tls_path(&self, name: &str) -> PathBuf {
        self.directory.join("contexts/tls").join(directory_of(name))
    }

    /// The context's TLS files that there are, whole paths.
    pub fn tls_files(&self, name: &str) -> Vec<PathBuf> {
        let directory = self.tls_path(name).join(ENDPOINT);
        let files = TLS_FILES.iter().map(|file| directory.join(file));
        files.filter(|file| file.exists()).collect()
    }

    /// In Docker's words where there is none.
    pub fn read(&self, name: &str) -> Result<Meta, String> {
        let file = self.metadata_path(name).join("meta.json");
        let text = fs::read(&file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "context {name:?}: context not found: open {}: no such file or directory",
                file.display()
            ),
            _ => format!("context {name:?}: cannot read {}: {error}", file.display()),
        })?;
        serde_json::from_slice(&text)
            .map_err(|error| format!("context {name:?}: {} is damaged: {error}", file.display()))
    }

    pub fn exists(&self, name: &str) -> bool {
        self.metadata_path(name).join("meta.json").exists()
    }

    /// By name. A damaged one does not hide the others.
    pub fn all(&self) -> Vec<Meta> {
        let entries = fs::read_dir(self.directory.join("contexts/meta")).into_iter().flatten();
        let files = entries.flatten().map(|entry| entry.path().join("meta.json"));
        let mut found: Vec<Meta> = files
            .filter_map(|file| serde_json::from_slice(&fs::read(file).ok()?).ok())
            .collect();
        found.sort_by(|one, other| crate::order::natural(&one.name, &other.name));
        found
    }

    /// Makes or replaces a context; `tls` are files' names and contents.
    pub fn write(&self, meta: &Meta, tls: Option<&[(String, Vec<u8>)]>) -> io::Result<()> {
        if let Some(tls) = tls {
            remove_directory(&self.tls_path(&meta.name))?;
            let directory = self.tls_path(&meta.name).join(ENDPOINT);
            for (name, bytes) in tls {
                make_directory(&directory)?;
                replace(&directory.join(name), bytes, 0o600)?;
            }
        }
        let directory = self.metadata_path(&meta.name);
        make_directory(&directory)?;
        replace(&directory.join("meta.json"), &serde_json::to_vec(meta)?, 0o644)
    }

    pub fn remove(&self, name: &str) -> io::Result<()> {
        remove_directory(&self.tls_path(name))?;
        remove_directory(&self.metadata_path(name))
    }

    /// The chosen context: none is the default one.
    pub fn current(&self) -> Option<String> {
        let name = self.configuration().get(CURRENT)?.as_str()?.to_owned();
        Some(name).filter(|name| !matches!(name.as_str(), "" | DEFAULT))
    }

    pub fn choose(&self, name: Option<&str>) -> io::Result<()> {
        let mut configuration = self.configuration();
        match name {
            Some(name) => configuration.insert(CURRENT.to_owned(), name.into()),
            None => configuration.remove(CURRENT),
        };
        make_directory(&self.directory)?;
        // Docker indents with tabs, and people look into this file.
        let mut text = Vec::new();
        let indented = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        configuration.serialize(&mut serde_json::Serializer::with_formatter(&mut text, indented))?;
        replace(&self.directory.join("config.json"), &text, 0o600)
    }

    fn configuration(&self) -> Map<String, Value> {
        let text = fs::read(self.directory.join("config.json")).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }
}

/// In Docker's words where the name is not one.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("context name cannot be empty".to_owned());
    }
    if name == DEFAULT {
        return Err(format!("{name:?} is a reserved context name"));
    }
    let mut letters = name.chars();
    let first = letters.next().is_some_and(|letter| letter.is_ascii_alphanumeric());
    let rest = name.len() > 1 && letters.all(|letter| letter.is_ascii_alphanumeric() || "_.+-".contains(letter));
    if first && rest {
        return Ok(());
    }
    Err(format!(
        "context name {name:?} is invalid, names are validated against regexp \"^[a-zA-Z0-9][a-zA-Z0-9_.+-]+$\""
    ))
}

fn directory_of(name: &str) -> String {
    Sha256::digest(name).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove_directory(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Whole or not at all: written beside and renamed.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(bytes)?;
    fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_lie_where_docker_looks_for_them() {
        let store = Store::at(Path::new("/c"));
        assert_eq!(
            store.metadata_path("foo"),
            Path::new("/c/contexts/meta/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")
        );
    }

    #[test]
    fn choosing_a_context_keeps_the_other_settings() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::at(directory.path());
        fs::write(directory.path().join("config.json"), r#"{"auths":{"a":{}},"x":1}"#).unwrap();
        store.choose(Some("one")).unwrap();
        assert_eq!(store.current().as_deref(), Some("one"));
        store.choose(None).unwrap();
        assert_eq!(store.current(), None);
        let text = fs::read_to_string(directory.path().join("config.json")).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            serde_json::json!({"auths": {"a": {}}, "x": 1})
        );
    }

    #[test]
    fn names_are_refused_in_words_that_clients_know() {
        assert!(check_name("a.b+c-d_1").is_ok());
        for (name, words) in [
            ("", "context name cannot be empty"),
            ("default", "\"default\" is a reserved context name"),
        ] {
            assert_eq!(check_name(name).unwrap_err(), words);
        }
        for name in ["a", "-ab", "a b", "b@d", "ä1"] {
            assert!(check_name(name).unwrap_err().contains("is invalid"), "{name}");
        }
    }

    #[test]
    fn what_other_programs_keep_in_a_context_stays() {
        let text = r#"{"Name":"k","Metadata":{"Description":"d","StackOrchestrator":"swarm"},"Endpoints":{"docker":{"Host":"unix:///x","SkipTLSVerify":true},"kubernetes":{"a":1}}}"#;
        let meta: Meta = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_value(&meta).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
    }
}
