//! Where a container's log lies, and how it is kept: what the options come to.
use std::path::{Path, PathBuf};

use corten_runtime::process::task::{LogFile, LogFormat};

use crate::{
    container::record::Record,
    log::{
        entry::Format,
        facts::Facts,
        options::{Files, has_cache, is_blocking, is_remote},
    },
};

/// A log on disk.
#[derive(Debug, Clone)]
pub struct Place {
    pub path: PathBuf,
    pub format: Format,
    pub files: Files,
    /// For `logs`, or only for a remote to be fed from?
    pub readable: bool,
    /// Somebody is to get what is written.
    pub remote: bool,
    pub blocking: bool,
}

/// The name of a compact log, as Docker has it.
const LOCAL: &str = "container.log";

impl Place {
    /// `directory` is the log's own. Absent for driver `none`.
    pub fn of(record: &Record, directory: &Path) -> Option<Place> {
        let config = &record.host_config.log_config;
        let options = &config.config;
        let (files, name, format) = match config.driver.as_str() {
            "json-file" => (Files::json(options), format!("{}-json.log", record.id), Format::Json),
            "local" => (Files::local(options, ""), LOCAL.to_owned(), Format::Local),
            driver if is_remote(driver) => (Files::remote(options), LOCAL.to_owned(), Format::Local),
            _ => return None,
        };
        let remote = is_remote(&config.driver);
        Some(Place {
            path: directory.join(name),
            format,
            // They were checked at create.
            files: files.unwrap_or(Files {
                max_bytes: None,
                max_files: 1,
                compress: false,
            }),
            readable: !remote || has_cache(options),
            remote,
            blocking: is_blocking(options),
        })
    }

    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }
}

/// What the shim is to write.
pub fn log_file(record: &Record, directory: &Path) -> Option<LogFile> {
    let place = Place::of(record, directory)?;
    Some(LogFile {
        format: match place.format {
            Format::Json => LogFormat::Json {
                attributes: attributes(record),
            },
            Format::Local => LogFormat::Local,
        },
        max_bytes: place.files.max_bytes,
        max_files: place.files.max_files,
        hold: place.remote && place.blocking,
        path: place.path,
    })
}

/// A JSON object, or nothing.
fn attributes(record: &Record) -> String {
    let details = Facts::of(record).details();
    if details.is_empty() {
        return String::new();
    }
    // As Go does, so that a page can show it.
    let text = serde_json::to_string(&details).unwrap_or_default();
    text.replace('<', r"\u003c")
        .replace('>', r"\u003e")
        .replace('&', r"\u0026")
}

/// What `inspect` shows as `LogPath`: of a json-file log only.
pub fn shown_path(record: &Record, directory: &Path) -> Option<PathBuf> {
    let place = Place::of(record, directory)?;
    (record.host_config.log_config.driver == "json-file").then_some(place.path)
}
