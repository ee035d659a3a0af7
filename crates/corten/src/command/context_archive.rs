//! Contexts as files: export and import.
//!
//! The archive is Docker's: `meta.json`, and `tls/docker/{ca,cert,key}.pem` where there are any.
use std::fs;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use corten_store::layer::tar::{Kind, Reader};
use corten_store::layer::write::{directory_header, end, file_header, padding};
use zip::ZipArchive;

use crate::arguments::{Matches, Outcome};
use crate::context::store::{self, ENDPOINT, Meta, TLS_FILES};
use crate::errln;
use crate::failure::{Failure, reason};
use crate::outln;
use crate::session::Session;

const META: &str = "meta.json";
/// A context is a page of text and three certificates.
const MEMBER_BYTES_MAX: u64 = 10 << 20;
/// How a zip archive with files in it begins.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";
/// As many as Docker takes.
const ZIP_BYTES_MAX: u64 = 10 << 20;

pub fn export(session: &Session, matches: &Matches) -> Outcome {
    let name = matches.argument(0);
    let archive = pack(session, name)?;
    let default = format!("{name}.dockercontext");
    match matches.arguments.get(1).map_or(default.as_str(), String::as_str) {
        "-" => {
            let mut output = io::stdout().lock();
            if rustix::termios::isatty(&output) {
                return Err(Failure::new(
                    "cowardly refusing to export to a terminal, specify a file path",
                ));
            }
            let written = output.write_all(&archive).and_then(|()| output.flush());
            written.map_err(|error| Failure::io("cannot write to standard output", &error))?;
        }
        file => {
            let open = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(file);
            let written = open.and_then(|mut open| open.write_all(&archive));
            written.map_err(|error| Failure::new(format!("open {file}: {}", reason(&error))))?;
            errln!("Written file {file:?}");
        }
    }
    Ok(0)
}

fn pack(session: &Session, name: &str) -> Result<Vec<u8>, Failure> {
    let meta = session.settings.read(name)?;
    let document = serde_json::to_vec(&meta).map_err(|error| Failure::new(error.to_string()))?;
    let mut archive = Vec::new();
    add(&mut archive, META, &document);
    archive.extend_from_slice(&directory_header("tls/"));
    let files = session.settings.tls_files(name);
    if !files.is_empty() {
        archive.extend_from_slice(&directory_header(&format!("tls/{ENDPOINT}/")));
    }
    for file in files {
        let bytes = fs::read(&file).map_err(|error| Failure::io(format!("cannot read {}", file.display()), &error))?;
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        add(&mut archive, &format!("tls/{ENDPOINT}/{name}"), &bytes);
    }
    archive.extend_from_slice(&end());
    Ok(archive)
}

fn add(archive: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    let size = bytes.len() as u64;
    archive.extend_from_slice(&file_header(name, size));
    archive.extend_from_slice(bytes);
    archive.extend_from_slice(padding(size));
}

pub fn import(session: &Session, matches: &Matches) -> Outcome {
    let (name, file) = (matches.argument(0), matches.argument(1));
    store::check_name(name)?;
    if session.settings.exists(name) {
        return Err(Failure::new(format!("context {name:?} already exists")));
    }
    let input: Box<dyn Read> = match file {
        "-" => Box::new(io::stdin().lock()),
        file => {
            Box::new(fs::File::open(file).map_err(|error| Failure::new(format!("open {file}: {}", reason(&error))))?)
        }
    };
    let (mut meta, tls) = unpack(input).map_err(|reason| Failure::new(format!("invalid context {file}: {reason}")))?;
    meta.name = name.to_string();
    let written = session.settings.write(&meta, Some(&tls));
    written.map_err(|error| Failure::io(format!("cannot write context {name:?}"), &error))?;
    outln!("{name}");
    errln!("Successfully imported context {name:?}");
    Ok(0)
}

/// Names and contents of files.
type Tls = Vec<(String, Vec<u8>)>;

/// What a context's archive holds, tar or zip. Nothing is written before all of it was read, and only files with known
/// names count.
fn unpack(input: impl Read) -> Result<(Meta, Tls), String> {
    let mut input = BufReader::new(input);
    let start = input.fill_buf().map_err(|error| error.to_string())?;
    let members = match start.starts_with(ZIP_MAGIC) {
        true => unpack_zip(input)?,
        false => unpack_tar(input)?,
    };
    let (mut meta, mut tls) = (None, Vec::new());
    for (path, bytes) in members {
        let certificate = path.strip_prefix(&format!("tls/{ENDPOINT}/"));
        match certificate {
            Some(file) if TLS_FILES.contains(&file) => tls.push((file.to_owned(), bytes)),
            None if path == META => {
                let read = serde_json::from_slice::<Meta>(&bytes);
                meta = Some(read.map_err(|error| format!("{META} is damaged: {error}"))?);
            }
            _ => return Err(format!("unexpected member {path:?}")),
        }
    }
    let meta = meta.ok_or_else(|| format!("there is no {META} in it"))?;
    Ok((meta, tls))
}

fn unpack_zip(input: impl Read) -> Result<Tls, String> {
    let mut archive = Vec::new();
    let read = input.take(ZIP_BYTES_MAX + 1).read_to_end(&mut archive);
    read.map_err(|error| error.to_string())?;
    if archive.len() as u64 > ZIP_BYTES_MAX {
        return Err("it is too large".to_owned());
    }
    let mut archive = ZipArchive::new(Cursor::new(archive)).map_err(|error| error.to_string())?;
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let member = archive.by_index(index).map_err(|error| error.to_string())?;
        if member.is_dir() {
            continue;
        }
        let path = member.name().map_err(|error| error.to_string())?.into_owned();
        let mut bytes = Vec::new();
        let read = member.take(MEMBER_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("cannot read {path:?}: {error}"))?;
        if bytes.len() as u64 > MEMBER_BYTES_MAX {
            return Err(format!("cannot read {path:?}: it is too large"));
        }
        members.push((path, bytes));
    }
    Ok(members)
}

fn unpack_tar(input: impl BufRead) -> Result<Tls, String> {
    let mut reader = Reader::new(input);
    let mut members = Vec::new();
    while let Some(entry) = reader.next_entry().map_err(|error| error.to_string())? {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let path = path.trim_start_matches("./").trim_end_matches('/').to_owned();
        if entry.kind == Kind::Directory && (path == "tls" || path.starts_with("tls/")) {
            continue;
        }
        if entry.kind != Kind::File || entry.size > MEMBER_BYTES_MAX {
            return Err(format!("unexpected member {path:?}"));
        }
        let mut bytes = Vec::new();
        let read = reader.data().read_to_end(&mut bytes);
        read.map_err(|error| format!("cannot read {path:?}: {error}"))?;
        members.push((path, bytes));
    }
    Ok(members)
}
