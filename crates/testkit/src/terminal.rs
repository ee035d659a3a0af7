//! A person at a terminal: a program under a pseudo-terminal, what it shows, and keys to press.
use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
};

use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::{
    command::{ended_within, line_of},
    wait::{PATIENCE, wait_until},
};

/// A program that believes that it talks to a person.
pub struct Terminal {
    line: String,
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs a command in a session of its own, with a terminal of this size as its controlling one.
    pub fn run(command: &Command, rows: u16, columns: u16) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("a terminal");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let side = || {
            let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
            open(&name, flags, Mode::empty()).expect("the other side opens")
        };
        tcsetwinsize(&master, size(rows, columns)).expect("it is a terminal");
        // setsid(1) does what std cannot without unsafe code: a new session that has this terminal.
        let mut session = Command::new("setsid");
        session
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => session.env(key, value),
                None => session.env_remove(key),
            };
        }
        let child = session
            .stdin(side())
            .stdout(side())
            .stderr(side())
            .spawn()
            .expect("setsid(1) is installed");
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().expect("a terminal can be shared");
        let shown = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&shown);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails when the last holder of the other side is gone.
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                seen.lock()
                    .expect("no reader panics")
                    .extend_from_slice(&buffer[..count]);
            }
        });
        Terminal {
            line: line_of(command),
            child,
            keyboard,
            shown,
        }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal is open");
    }

    /// Everything that was shown so far.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().expect("no reader panics")).into_owned()
    }

    #[track_caller]
    pub fn wait_to_show(&self, text: &str) {
        wait_until(&format!("`{}` shows {text:?}", self.line), || {
            self.shown().contains(text)
        });
    }

    /// Forgets what was shown.
    pub fn clear(&self) {
        self.shown.lock().expect("no reader panics").clear();
    }

    /// The person drags the corner of the window.
    pub fn resize(&self, rows: u16, columns: u16) {
        tcsetwinsize(&self.keyboard, size(rows, columns)).expect("it is a terminal");
    }

    /// The exit code, once the program has ended.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let in_time = ended_within(&self.child, PATIENCE);
        assert!(in_time, "`{}` does not end; it shows:\n{}", self.line, self.shown());
        let status = self.child.wait().expect("the child is ours");
        status.code().unwrap_or(-1)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- the terminal of `{}`\n{}", self.line, self.shown());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}
