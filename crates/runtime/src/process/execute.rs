//! Finding the program and becoming it, with the words that clients turn into exit codes 126 and 127.
use std::{ffi::CString, io, path::Path};

use corten_linux::process::{Vector, execve};
use rustix::{
    fs::{Access, AtFlags, CWD, FileType, accessat, stat},
    io::Errno,
};

use crate::shim::protocol::{Failure, FailureKind};

/// What a shell says of a program that could not be executed.
pub(crate) const EXIT_CODE: i32 = 127;

/// The path of `program`, searched in `PATH` unless it has a slash. Called as the user that will execute it.
pub(crate) fn find(program: &str, environment: &[String]) -> Result<CString, Failure> {
    if program.contains('/') {
        return match check(program) {
            Ok(()) => Ok(c_string(program)),
            Err(failure) => Err(failure),
        };
    }
    let path = environment
        .iter()
        .find_map(|variable| variable.strip_prefix("PATH="))
        .unwrap_or_default();
    for directory in path.split(':').filter(|directory| directory.starts_with('/')) {
        let candidate = format!("{}/{program}", directory.trim_end_matches('/'));
        if !program.is_empty() && check(&candidate).is_ok() {
            return Ok(c_string(&candidate));
        }
    }
    let message = format!("exec: {program:?}: executable file not found in $PATH");
    Err(Failure::new(FailureKind::NotFound, message))
}

fn c_string(path: &str) -> CString {
    CString::new(path).expect("the plan's strings have no NUL")
}

fn check(path: &str) -> Result<(), Failure> {
    let found = stat(path).map_err(|errno| {
        let kind = match errno {
            Errno::NOENT | Errno::NOTDIR => FailureKind::NotFound,
            _ => FailureKind::NotExecutable,
        };
        Failure::new(kind, format!("exec: {path:?}: stat {path}: {}", reason(errno.into())))
    })?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Err(Failure::new(
            FailureKind::NotExecutable,
            format!("exec: {path:?}: is a directory"),
        ));
    }
    let executable = found.st_mode & 0o111 != 0 && accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok();
    if executable {
        Ok(())
    } else {
        Err(Failure::new(
            FailureKind::NotExecutable,
            format!("exec: {path:?}: permission denied"),
        ))
    }
}

/// Becomes the program; comes back only with the reason why not.
pub(crate) fn execute(path: &CString, arguments: &Vector, environment: &Vector) -> Failure {
    let error = execve(path, arguments, environment);
    let kind = match error.raw_os_error().map(Errno::from_raw_os_error) {
        // The program is there: its interpreter is not.
        Some(Errno::NOENT) => FailureKind::NotFound,
        Some(Errno::ACCESS | Errno::NOEXEC | Errno::PERM | Errno::ISDIR) => FailureKind::NotExecutable,
        _ => FailureKind::System,
    };
    let path = Path::new(path.to_str().unwrap_or("?"));
    Failure::new(kind, format!("exec {}: {}", path.display(), reason(error)))
}

/// The system's reasons as clients of container engines expect to read them.
pub(crate) fn reason(error: io::Error) -> String {
    let text = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT) => "no such file or directory",
        Some(Errno::ACCESS) => "permission denied",
        Some(Errno::NOEXEC) => "exec format error",
        Some(Errno::NOTDIR) => "not a directory",
        Some(Errno::PERM) => "operation not permitted",
        Some(Errno::TOOBIG) => "argument list too long",
        Some(Errno::LOOP) => "too many levels of symbolic links",
        _ => return error.to_string(),
    };
    text.to_owned()
}
