//! The system call interfaces that one machine offers at once: an x86_64 kernel also takes i386's and x32's calls.
//!
//! A filter that forgot one of them would be no filter at all.
use oci_spec::runtime::Arch;

use super::syscalls::SYSCALLS;

/// Set in the number of every x32 call; x32 has no audit architecture of its own.
pub const X32_MARK: u32 = 0x4000_0000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abi {
    X86_64,
    X32,
    I386,
    Aarch64,
    Arm,
}

impl Abi {
    /// The one that Corten was compiled for.
    pub const NATIVE: Abi = if cfg!(target_arch = "aarch64") {
        Abi::Aarch64
    } else {
        Abi::X86_64
    };

    pub fn of(arch: Arch, native: Abi) -> Option<Abi> {
        match arch {
            Arch::ScmpArchNative => Some(native),
            Arch::ScmpArchX86_64 => Some(Abi::X86_64),
            Arch::ScmpArchX32 => Some(Abi::X32),
            Arch::ScmpArchX86 => Some(Abi::I386),
            Arch::ScmpArchAarch64 => Some(Abi::Aarch64),
            Arch::ScmpArchArm => Some(Abi::Arm),
            _ => None,
        }
    }

    /// Whether a kernel of `native` can run programs of this one.
    pub fn runs_on(self, native: Abi) -> bool {
        match native {
            Abi::X86_64 => matches!(self, Abi::X86_64 | Abi::X32 | Abi::I386),
            Abi::Aarch64 => matches!(self, Abi::Aarch64 | Abi::Arm),
            _ => self == native,
        }
    }

    /// `AUDIT_ARCH_*`, as `struct seccomp_data` says it.
    pub fn audit(self) -> u32 {
        match self {
            Abi::X86_64 | Abi::X32 => 0xc000_003e,
            Abi::I386 => 0x4000_0003,
            Abi::Aarch64 => 0xc000_00b7,
            Abi::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments are 64 bits wide. With the others the kernel hands over zeroes in the upper halves.
    pub fn is_wide(self) -> bool {
        matches!(self, Abi::X86_64 | Abi::X32 | Abi::Aarch64)
    }

    fn column(self) -> usize {
        self as usize
    }

    /// The number of a system call; `None` when this interface does not have it.
    pub fn number(self, name: &str) -> Option<u32> {
        numbers(name).and_then(|row| row.of(self))
    }
}

/// One system call's numbers in all interfaces.
#[derive(Debug, Clone, Copy)]
pub struct Numbers(&'static [i32; 5]);

impl Numbers {
    pub fn of(self, abi: Abi) -> Option<u32> {
        u32::try_from(self.0[abi.column()]).ok()
    }
}

/// `None` for a name that no kernel (known to us) has.
pub fn numbers(name: &str) -> Option<Numbers> {
    let index = SYSCALLS.binary_search_by(|(known, _)| (*known).cmp(name)).ok()?;
    Some(Numbers(&SYSCALLS[index].1))
}

/// Calls that i386 also offers behind one number, told apart by its first argument: (door, that argument).
///
/// Allowing `bind` must allow it by either way: programs built before 2016 only know the old one.
pub fn i386_door(name: &str) -> Option<(&'static str, u64)> {
    const SOCKETCALL: [&str; 20] = [
        "socket",
        "bind",
        "connect",
        "listen",
        "accept",
        "getsockname",
        "getpeername",
        "socketpair",
        "send",
        "recv",
        "sendto",
        "recvfrom",
        "shutdown",
        "setsockopt",
        "getsockopt",
        "sendmsg",
        "recvmsg",
        "accept4",
        "recvmmsg",
        "sendmmsg",
    ];
    const IPC: [(&str, u64); 12] = [
        ("semop", 1),
        ("semget", 2),
        ("semctl", 3),
        ("semtimedop", 4),
        ("msgsnd", 11),
        ("msgrcv", 12),
        ("msgget", 13),
        ("msgctl", 14),
        ("shmat", 21),
        ("shmdt", 22),
        ("shmget", 23),
        ("shmctl", 24),
    ];
    if let Some(index) = SOCKETCALL.iter().position(|known| *known == name) {
        return Some(("socketcall", index as u64 + 1));
    }
    IPC.iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| ("ipc", *number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_knows_the_machine() {
        assert!(SYSCALLS.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(Abi::X86_64.number("read"), Some(0));
        assert_eq!(Abi::X32.number("execve"), Some(X32_MARK | 520));
        assert_eq!(Abi::I386.number("socketcall"), Some(102));
        assert_eq!(Abi::Aarch64.number("open"), None);
        assert_eq!(Abi::Arm.number("set_tls"), Some(0x0f_0005));
        assert_eq!(Abi::NATIVE.number("no_such_call"), None);
        assert_eq!(Abi::NATIVE.number("seccomp"), Some(linux_number()));
    }

    #[cfg(target_arch = "x86_64")]
    fn linux_number() -> u32 {
        317
    }

    #[cfg(target_arch = "aarch64")]
    fn linux_number() -> u32 {
        277
    }
}
