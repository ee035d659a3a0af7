//! Local paths in the way of `cp`: what a trailing `/` or `/.` means, which links are followed, and what a copy is called.
//!
//! The rules are Docker's, and scripts rely on every one of them: a source directory that ends with `/.` means what is in
//! it; a destination that does not exist gives the copy its name; one that ends with `/` must be a directory.
use std::fs;
use std::io;
use std::path::Path;

use crate::failure::{self, Failure};

/// As many links in a row as Docker follows.
const MAX_LINKS: usize = 10;

/// One side of a copy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    pub path: String,
    pub exists: bool,
    pub is_directory: bool,
    /// What the copy is called instead of the path's own last part; empty for no difference.
    pub name: String,
}

/// Go's `filepath.Clean`.
pub fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match kept.last() {
                Some(&last) if last != ".." => drop(kept.pop()),
                _ if absolute => {}
                _ => kept.push(".."),
            },
            part => kept.push(part),
        }
    }
    match (absolute, kept.is_empty()) {
        (true, _) => format!("/{}", kept.join("/")),
        (false, true) => ".".to_string(),
        (false, false) => kept.join("/"),
    }
}

/// Whether the last part is `.`, as in `a/.`
fn is_here(path: &str) -> bool {
    path == "." || path.ends_with("/.") || path.is_empty()
}

/// Whether a path can only be a directory.
fn asserts_directory(path: &str) -> bool {
    path.ends_with('/') || is_here(path)
}

/// Gives a cleaned path the trailing `/.` or `/` that it had.
fn keep_end(cleaned: String, original: &str) -> String {
    let mut path = cleaned;
    if !is_here(&path) && is_here(original) {
        path.push_str(if path.ends_with('/') { "." } else { "/." });
    }
    if !path.ends_with('/') && original.ends_with('/') {
        path.push('/');
    }
    path
}

/// Directory and last part, where the last part may be `.`
pub fn split(path: &str) -> (String, String) {
    let mut cleaned = clean(path);
    if is_here(path) && cleaned != "." {
        cleaned.push_str(if cleaned == "/" { "." } else { "/." });
    }
    match cleaned.rsplit_once('/') {
        Some(("", "")) => ("/".to_string(), "/".to_string()),
        Some(("", name)) => ("/".to_string(), name.to_string()),
        Some((directory, name)) => (directory.to_string(), name.to_string()),
        None => (".".to_string(), cleaned),
    }
}

fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    match trimmed.rsplit('/').next() {
        Some("") | None if path.starts_with('/') => "/",
        Some(name) => name,
        None => ".",
    }
}

/// `directory` and `name` as one clean path.
pub fn join(directory: &str, name: &str) -> String {
    clean(&format!("{directory}/{name}"))
}

/// From the root, with the end that it had.
pub fn absolute(path: &str) -> Result<String, Failure> {
    let full = match path.starts_with('/') {
        true => path.to_string(),
        false => {
            let here = std::env::current_dir().map_err(|error| Failure::io("getwd", &error))?;
            format!("{}/{path}", text(&here)?)
        }
    };
    Ok(keep_end(clean(&full), path))
}

fn text(path: &Path) -> Result<&str, Failure> {
    path.to_str()
        .ok_or_else(|| Failure::new(format!("{} is not UTF-8", path.display())))
}

/// Where a link leads, and what its copy is called: by the name that the user gave it.
pub fn followed(path: &str, target: &str) -> (String, String) {
    let mut target = target.to_string();
    if is_here(path) && !is_here(&target) {
        target.push_str("/.");
    }
    if path.ends_with('/') && !target.ends_with('/') {
        target.push('/');
    }
    let name = match base(path) != base(&target) {
        true => base(path).to_string(),
        false => String::new(),
    };
    (target, name)
}

/// A source must exist. Links before its last part are followed, the last one where that is wanted.
pub fn source(path: &str, follow: bool) -> Result<Side, Failure> {
    let (resolved, name) = match follow {
        true => {
            let real = fs::canonicalize(path).map_err(|error| unresolved(path, &error))?;
            followed(path, text(&real)?)
        }
        false => {
            let (directory, last) = path.rsplit_once('/').unwrap_or((".", path));
            let real = fs::canonicalize(format!("{directory}/")).map_err(|error| unresolved(directory, &error))?;
            let real = text(&real)?;
            let resolved = format!("{}/{last}", real.trim_end_matches('/'));
            let name = match path.ends_with('/') && base(path) != base(&resolved) {
                true => base(path).to_string(),
                false => String::new(),
            };
            (resolved, name)
        }
    };
    let metadata = fs::symlink_metadata(&resolved).map_err(|error| lstat(&resolved, &error))?;
    Ok(Side {
        path: resolved,
        exists: true,
        is_directory: metadata.is_dir(),
        name,
    })
}

/// A destination need not exist, but the directory that it would be in must.
pub fn destination(path: &str) -> Result<Side, Failure> {
    let original = path;
    let mut path = path.to_string();
    let mut found = fs::symlink_metadata(&path);
    let mut links = 0;
    while let Ok(metadata) = &found
        && metadata.is_symlink()
    {
        links += 1;
        if links > MAX_LINKS {
            return Err(Failure::new(format!("too many symlinks in {original}")));
        }
        let target = fs::read_link(&path).map_err(|error| Failure::io(format!("readlink {path}"), &error))?;
        path = match target.is_absolute() {
            true => text(&target)?.to_string(),
            false => join(&split(&path).0, text(&target)?),
        };
        found = fs::symlink_metadata(&path);
    }
    match found {
        Ok(metadata) => Ok(Side {
            path,
            exists: true,
            is_directory: metadata.is_dir(),
            name: String::new(),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let parent = split(&path).0;
            let metadata = fs::metadata(&parent).map_err(|error| Failure::io(format!("stat {parent}"), &error))?;
            match metadata.is_dir() {
                true => Ok(Side {
                    path,
                    ..Side::default()
                }),
                false => Err(Failure::new("not a directory")),
            }
        }
        Err(error) => Err(lstat(&path, &error)),
    }
}

/// Where to extract, and what the first part of every name becomes.
pub fn prepare(source: &Side, destination: &Side) -> Result<(String, Option<(String, String)>), Failure> {
    let (directory, name) = split(&destination.path);
    let own = match source.name.is_empty() {
        true => split(&source.path).1,
        false => source.name.clone(),
    };
    match (destination.exists, destination.is_directory, source.is_directory) {
        (true, true, _) => Ok((destination.path.clone(), None)),
        (true, false, true) => Err(Failure::new("cannot copy directory")),
        (false, _, false) if asserts_directory(&destination.path) => Err(Failure::new("no such directory")),
        _ => Ok((directory, Some((own, name)))),
    }
}

/// Gives a name of an archive another beginning.
pub fn renamed(name: &[u8], old: &str, new: &str) -> Vec<u8> {
    // Everything in an archive of a root begins with its slash, which stays.
    let old = if old == "/" { "" } else { old };
    match name.strip_prefix(old.as_bytes()) {
        Some(rest) => [new.as_bytes(), rest].concat(),
        None => name.to_vec(),
    }
}

/// What `cp` writes to: a directory or a regular file, in a directory that is there.
pub fn check_output(path: &str) -> Result<(), Failure> {
    use std::os::unix::fs::FileTypeExt;
    let cleaned = clean(path);
    let directory = split(&cleaned).0;
    let missing = |error: io::Error| error.kind() == io::ErrorKind::NotFound;
    if directory != "." && fs::metadata(&directory).is_err_and(missing) {
        return Err(Failure::new(format!(
            "invalid output path: directory {directory:?} does not exist"
        )));
    }
    match fs::metadata(path) {
        Ok(metadata) if metadata.file_type().is_block_device() || metadata.file_type().is_char_device() => {
            Err(Failure::new(format!(
                "invalid output path: {path:?} must be a directory or a regular file: got a device"
            )))
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Failure::io(format!("stat {path}"), &error)),
    }
}

/// What `export` writes to: a regular file, there already or not, in a directory that is there.
pub fn check_file(path: &str) -> Result<(), Failure> {
    use std::os::unix::fs::FileTypeExt;
    let directory = split(path).0;
    let unusable = |reason: &str| Failure::new(format!("invalid output path: stat {directory}: {reason}"));
    match fs::metadata(&directory) {
        Ok(metadata) if !metadata.is_dir() => return Err(unusable("not a directory")),
        Ok(_) => {}
        Err(error) => return Err(unusable(&failure::reason(&error))),
    }
    // What has the name is replaced, and not written to.
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(_) => return Ok(()),
    };
    let what = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "directory",
        () if kind.is_symlink() => "symbolic link directly",
        () if kind.is_char_device() => "character device file",
        () if kind.is_block_device() => "block device file",
        () => "special file",
    };
    Err(Failure::new(format!("cannot write to a {what}")))
}

/// Names the part of a path that is not there, as Go does.
fn unresolved(path: &str, error: &io::Error) -> Failure {
    let ends = path.match_indices('/').map(|(end, _)| end).chain([path.len()]);
    let parts = ends.map(|end| &path[..end]).filter(|part| !part.is_empty());
    let missing = parts.into_iter().find(|part| fs::symlink_metadata(part).is_err());
    lstat(missing.unwrap_or(path), error)
}

fn lstat(path: &str, error: &io::Error) -> Failure {
    Failure::new(format!("lstat {path}: {}", failure::reason(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn side(path: &str, exists: bool, is_directory: bool) -> Side {
        Side {
            path: path.to_string(),
            exists,
            is_directory,
            name: String::new(),
        }
    }

    #[test]
    fn paths_are_cleaned_and_split_as_in_go() {
        for (path, cleaned) in [
            ("", "."),
            ("a//b/./c/..", "a/b"),
            ("../../a", "../../a"),
            ("/../a", "/a"),
            ("/", "/"),
            ("./", "."),
        ] {
            assert_eq!(clean(path), cleaned, "{path}");
        }
        for (path, directory, name) in [
            ("/a/b", "/a", "b"),
            ("/a/b/", "/a", "b"),
            ("/a/b/.", "/a/b", "."),
            ("/a", "/", "a"),
            ("/", "/", "/"),
            ("/.", "/", "."),
            ("a", ".", "a"),
            (".", ".", "."),
        ] {
            assert_eq!(split(path), (directory.to_string(), name.to_string()), "{path}");
        }
        assert_eq!(absolute("/a/../b/.").unwrap(), "/b/.");
        assert_eq!(absolute("/a/b/").unwrap(), "/a/b/");
        assert_eq!(absolute("/.").unwrap(), "/.");
    }

    #[test]
    fn the_destination_decides_what_a_copy_is_called() {
        let file = side("/src/file", true, false);
        let directory = side("/src/dir", true, true);
        let contents = side("/src/dir/.", true, true);
        let to = |source: &Side, destination: Side| prepare(source, &destination).map_err(|failure| failure.text);
        let renamed = |directory: &str, old: &str, new: &str| {
            Ok((directory.to_string(), Some((old.to_string(), new.to_string()))))
        };
        let there = side("/dst", true, true);
        assert_eq!(to(&file, there.clone()), Ok(("/dst".to_string(), None)));
        assert_eq!(to(&directory, there), Ok(("/dst".to_string(), None)));
        assert_eq!(to(&file, side("/dst/f", true, false)), renamed("/dst", "file", "f"));
        assert_eq!(
            to(&file, side("/dst/new", false, false)),
            renamed("/dst", "file", "new")
        );
        assert_eq!(
            to(&directory, side("/dst/new", false, false)),
            renamed("/dst", "dir", "new")
        );
        assert_eq!(
            to(&directory, side("/dst/new/", false, false)),
            renamed("/dst", "dir", "new")
        );
        assert_eq!(
            to(&contents, side("/dst/new", false, false)),
            renamed("/dst", ".", "new")
        );
        assert_eq!(
            to(&directory, side("/dst/f", true, false)),
            Err("cannot copy directory".to_string())
        );
        assert_eq!(
            to(&file, side("/dst/new/", false, false)),
            Err("no such directory".to_string())
        );
    }

    #[test]
    fn names_of_an_archive_get_another_beginning() {
        assert_eq!(super::renamed(b"dir/a/dir", "dir", "new"), b"new/a/dir");
        assert_eq!(super::renamed(b"./a", ".", "new"), b"new/a");
        assert_eq!(super::renamed(b"/bin/sh", "/", "root"), b"root/bin/sh");
        assert_eq!(followed("/l", "/target"), ("/target".to_string(), "l".to_string()));
        assert_eq!(followed("/l/.", "/t"), ("/t/.".to_string(), String::new()));
    }
}
