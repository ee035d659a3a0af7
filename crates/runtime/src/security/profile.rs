//! Docker's default seccomp profile as data, and Docker's JSON format for others.
//!
//! The lists are those of moby's profile of 2026, which lets through only socket families that somebody maintains
//! (AF_ALG and AF_VSOCK are not among them). i386's `socketcall` stays open, as there: its arguments are behind a
//! pointer, and old 32-bit programs know no other way.
use std::collections::HashSet;

use corten_linux::version;
use oci_spec::runtime::{
    Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder, LinuxSeccompBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall, LinuxSyscallBuilder,
};
use serde::Deserialize;

use super::abi::Abi;
use super::error::Error;

/// Allowed to everybody.
const ALWAYS: &str = "\
_llseek _newselect accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 \
clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep \
clock_nanosleep_time64 close close_range connect copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 \
epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit \
exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark fchdir fchmod fchmodat fchmodat2 \
fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr fsetxattr fstat fstat64 \
fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv \
futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid \
geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority \
getrandom getresgid getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid \
gettimeofday getuid getuid32 getxattr getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch \
io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set \
ipc kill landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat \
listen listmount listxattr listxattrat llistxattr lremovexattr lseek lsetxattr lstat lstat64 madvise map_shadow_stack \
membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect \
mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 mq_unlink \
mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep newfstatat open \
openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll \
ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev \
pwritev2 read readahead readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages \
removexattr removexattrat rename renameat renameat2 restart_syscall riscv_hwprobe rmdir rseq rt_sigaction \
rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 \
rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam \
sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile \
sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid \
setfsuid32 setgid setgid32 setgroups setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid \
setresgid32 setresuid setresuid32 setreuid setreuid32 setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat \
shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4 sigprocmask sigreturn socketcall socketpair splice \
stat stat64 statfs statfs64 statmount statx symlink symlinkat sync sync_file_range syncfs sysinfo tee tgkill time \
timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create \
timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64 ugetrlimit umask \
uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write \
writev";

/// Since Linux 4.8 a traced process cannot slip past its filter; older kernels are below our floor.
const TRACING: &str = "process_vm_readv process_vm_writev ptrace";

const ON_X86: &str = "arch_prctl modify_ldt";
const ON_ARM: &str = "arm_fadvise64_64 arm_sync_file_range breakpoint cacheflush set_tls sync_file_range2";

/// Allowed to those who have the capability.
const WITH_CAPABILITY: [(Capability, &str); 14] = [
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module init_module finit_module"),
    (Capability::SysPacct, "acct"),
    (
        Capability::SysPtrace,
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    (Capability::SysRawio, "iopl ioperm"),
    (Capability::SysTime, "settimeofday stime clock_settime clock_settime64"),
    (Capability::SysTtyConfig, "vhangup"),
    (
        Capability::SysNice,
        "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    ),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];

/// Below this, every socket family; from it on, only these.
const SOCKET_FAMILIES_BELOW: u64 = 12;
/// Left out: DECnet 12, Econet 19, ATM SVC 20, IrDA 23, WAN 25, IUCV 34, CAIF 37, ALG 38, VSOCK 40.
const SOCKET_FAMILIES: [u64; 25] = [
    13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39, 41, 42, 43, 44, 45,
];

/// Linux, old file semantics of SVr4 (8), uname26 (0x20000), both, and the question which one it is.
const PERSONALITIES: [u64; 5] = [0, 8, 0x20000, 0x20008, 0xffff_ffff];

/// CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWCGROUP.
const NAMESPACE_FLAGS: u64 = 0x7e02_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// The default profile, with its conditions resolved for this machine and these (bounding) capabilities.
pub fn docker_default(capabilities: &HashSet<Capability>) -> LinuxSeccomp {
    default_for(Abi::NATIVE, capabilities)
}

pub fn default_for(native: Abi, capabilities: &HashSet<Capability>) -> LinuxSeccomp {
    let on_x86 = native == Abi::X86_64;
    let mut syscalls = vec![
        allow(ALWAYS),
        allow(TRACING),
        allow(if on_x86 { ON_X86 } else { ON_ARM }),
    ];
    let one = |name, value, op| allow_when(name, 0, value, op);
    syscalls.push(one("socket", SOCKET_FAMILIES_BELOW, LinuxSeccompOperator::ScmpCmpLt));
    syscalls.extend(SOCKET_FAMILIES.map(|family| one("socket", family, LinuxSeccompOperator::ScmpCmpEq)));
    syscalls.extend(PERSONALITIES.map(|value| one("personality", value, LinuxSeccompOperator::ScmpCmpEq)));
    let held = WITH_CAPABILITY
        .iter()
        .filter(|(capability, _)| capabilities.contains(capability));
    syscalls.extend(held.map(|(_, names)| allow(names)));
    if !capabilities.contains(&Capability::SysAdmin) {
        syscalls.push(one("clone", NAMESPACE_FLAGS, LinuxSeccompOperator::ScmpCmpMaskedEq));
        // Its flags are behind a pointer. "Not there" makes the C library fall back to clone.
        let clone3 = LinuxSyscallBuilder::default().names(vec!["clone3".to_owned()]);
        let clone3 = clone3.action(LinuxSeccompAction::ScmpActErrno).errno_ret(ENOSYS);
        syscalls.push(clone3.build().expect("all that is required is set"));
    }
    let architectures = if on_x86 {
        vec![Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchX32]
    } else {
        vec![Arch::ScmpArchAarch64, Arch::ScmpArchArm]
    };
    let profile = LinuxSeccompBuilder::default().default_action(LinuxSeccompAction::ScmpActErrno);
    let profile = profile
        .default_errno_ret(EPERM)
        .architectures(architectures)
        .syscalls(syscalls);
    profile.build().expect("all that is required is set")
}

fn allow(names: &str) -> LinuxSyscall {
    let names: Vec<String> = names.split_ascii_whitespace().map(String::from).collect();
    let builder = LinuxSyscallBuilder::default()
        .names(names)
        .action(LinuxSeccompAction::ScmpActAllow);
    builder.build().expect("all that is required is set")
}

fn allow_when(name: &str, index: usize, value: u64, op: LinuxSeccompOperator) -> LinuxSyscall {
    let argument = LinuxSeccompArgBuilder::default()
        .index(index)
        .value(value)
        .value_two(0u64)
        .op(op);
    let mut syscall = allow(name);
    syscall.set_args(Some(vec![argument.build().expect("all that is required is set")]));
    syscall
}

/// Docker's format: an OCI profile, whose entries may depend on capabilities, architecture and kernel.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    #[serde(default)]
    default_action: Option<LinuxSeccompAction>,
    #[serde(default)]
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<Arch>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchitectureGroup>>,
    #[serde(default)]
    flags: Option<Vec<LinuxSeccompFilterFlag>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Entry>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchitectureGroup {
    // As text: a profile may name architectures that we do not know, as long as they are not ours.
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    name: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: LinuxSeccompAction,
    #[serde(default)]
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<LinuxSeccompArg>>,
    #[serde(default)]
    includes: Option<Condition>,
    #[serde(default)]
    excludes: Option<Condition>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(default)]
    caps: Option<Vec<String>>,
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    min_kernel: Option<String>,
}

/// `--security-opt seccomp=FILE`: the client sends the file's text.
pub fn from_docker_json(json: &str, capabilities: &HashSet<Capability>) -> Result<LinuxSeccomp, Error> {
    let profile: Profile = serde_json::from_str(json).map_err(Error::Json)?;
    let invalid = |reason: &str| Error::Invalid(reason.to_owned());
    let groups = profile.arch_map.unwrap_or_default();
    let mut architectures = profile.architectures.unwrap_or_default();
    if !architectures.is_empty() && !groups.is_empty() {
        return Err(invalid("use either 'architectures' or 'archMap', not both"));
    }
    if profile.listener_path.is_some_and(|path| !path.is_empty()) {
        return Err(Error::NotImplemented("a listener"));
    }
    let mine = |group: &&ArchitectureGroup| architecture(&group.architecture) == Some(native_architecture());
    if let Some(group) = groups.iter().find(mine) {
        architectures.push(native_architecture());
        architectures.extend(
            group
                .sub_architectures
                .iter()
                .flatten()
                .filter_map(|name| architecture(name)),
        );
    }
    let entries = profile.syscalls.unwrap_or_default();
    let default_action = match profile.default_action {
        Some(action) => action,
        // Docker takes an empty profile for "none".
        None if entries.is_empty() => LinuxSeccompAction::ScmpActAllow,
        None => return Err(invalid("'defaultAction' is missing")),
    };
    let held = Held {
        capabilities,
        kernel: version::kernel(),
    };
    let mut syscalls = Vec::new();
    for entry in entries {
        if held.applies(&entry)? {
            syscalls.push(entry.into_syscall()?);
        }
    }
    let mut builder = LinuxSeccompBuilder::default()
        .default_action(default_action)
        .syscalls(syscalls);
    builder = builder.architectures(architectures);
    if let Some(errno) = profile.default_errno_ret {
        builder = builder.default_errno_ret(errno);
    }
    if let Some(flags) = profile.flags {
        builder = builder.flags(flags);
    }
    builder.build().map_err(|e| Error::Invalid(e.to_string()))
}

impl Entry {
    fn into_syscall(self) -> Result<LinuxSyscall, Error> {
        let mut names = self.names.unwrap_or_default();
        if !self.name.is_empty() {
            if !names.is_empty() {
                return Err(Error::Invalid("use either 'name' or 'names', not both".to_owned()));
            }
            names.push(self.name);
        }
        let mut builder = LinuxSyscallBuilder::default().names(names).action(self.action);
        if let Some(errno) = self.errno_ret {
            builder = builder.errno_ret(errno);
        }
        if let Some(args) = self.args {
            builder = builder.args(args);
        }
        builder.build().map_err(|e| Error::Invalid(e.to_string()))
    }
}

/// What conditions are measured against.
struct Held<'c> {
    capabilities: &'c HashSet<Capability>,
    kernel: (u32, u32),
}

impl Held<'_> {
    /// All of what it includes, none of what it excludes.
    fn applies(&self, entry: &Entry) -> Result<bool, Error> {
        let mut applies = true;
        if let Some(excludes) = &entry.excludes {
            applies &= !excludes.arches.iter().flatten().any(|name| name == native_name());
            applies &= !excludes.caps.iter().flatten().any(|name| self.has(name));
            applies &= !excludes
                .min_kernel
                .as_deref()
                .map(|v| self.kernel_is_at_least(v))
                .transpose()?
                .unwrap_or(false);
        }
        if let Some(includes) = &entry.includes {
            let arches = includes.arches.as_deref().unwrap_or_default();
            applies &= arches.is_empty() || arches.iter().any(|name| name == native_name());
            applies &= includes.caps.iter().flatten().all(|name| self.has(name));
            applies &= includes
                .min_kernel
                .as_deref()
                .map(|v| self.kernel_is_at_least(v))
                .transpose()?
                .unwrap_or(true);
        }
        Ok(applies)
    }

    fn has(&self, name: &str) -> bool {
        let bare = name.strip_prefix("CAP_").unwrap_or(name);
        bare.parse()
            .is_ok_and(|capability: Capability| self.capabilities.contains(&capability))
    }

    fn kernel_is_at_least(&self, text: &str) -> Result<bool, Error> {
        let wanted = version::parse(text).ok_or_else(|| Error::Invalid(format!("kernel version {text:?}")))?;
        Ok(self.kernel >= wanted)
    }
}

fn architecture(name: &str) -> Option<Arch> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

fn native_architecture() -> Arch {
    if Abi::NATIVE == Abi::X86_64 {
        Arch::ScmpArchX86_64
    } else {
        Arch::ScmpArchAarch64
    }
}

/// As Docker's profiles name it: Go's word.
fn native_name() -> &'static str {
    if Abi::NATIVE == Abi::X86_64 { "amd64" } else { "arm64" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::security::abi;

    #[test]
    fn every_name_of_the_default_profile_is_a_system_call_somewhere() {
        let lists = [ALWAYS, TRACING, ON_X86, ON_ARM]
            .into_iter()
            .chain(WITH_CAPABILITY.map(|(_, l)| l));
        let names = lists.flat_map(str::split_ascii_whitespace);
        let unknown: Vec<&str> = names.filter(|name| abi::numbers(name).is_none()).collect();
        // Another architecture's.
        assert_eq!(unknown, ["riscv_hwprobe"]);
    }

    #[test]
    fn capabilities_open_what_belongs_to_them() {
        let names = |capabilities: &[Capability]| -> HashSet<String> {
            let profile = docker_default(&capabilities.iter().copied().collect());
            let syscalls = profile.syscalls().as_ref().unwrap().iter();
            let allowed = syscalls.filter(|s| s.action() == LinuxSeccompAction::ScmpActAllow && s.args().is_none());
            allowed.flat_map(|s| s.names().clone()).collect()
        };
        assert!(!names(&[]).contains("mount"));
        assert!(!names(&[]).contains("clone"));
        assert!(names(&[Capability::SysAdmin]).contains("mount"));
        assert!(names(&[Capability::SysAdmin]).contains("clone3"));
        assert!(names(&[Capability::Perfmon]).contains("perf_event_open"));
        assert!(!names(&[Capability::SysChroot]).contains("reboot"));
    }

    #[test]
    fn a_profile_file_is_resolved_for_this_machine() {
        let json = r#"{
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 2,
            "archMap": [
                {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
                {"architecture": "SCMP_ARCH_OF_THE_FUTURE", "subArchitectures": null}
            ],
            "syscalls": [
                {"name": "read", "action": "SCMP_ACT_ALLOW", "args": null, "comment": "old spelling"},
                {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                {"names": ["kcmp"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "99.1"}},
                {"names": ["acct"], "action": "SCMP_ACT_ALLOW", "excludes": {"arches": ["amd64", "arm64"]}},
                {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]},
                 "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}
            ]}"#;
        let names = |capabilities: &[Capability]| -> Vec<String> {
            let profile = from_docker_json(json, &capabilities.iter().copied().collect()).unwrap();
            assert_eq!(profile.architectures().as_ref().unwrap().len(), 2);
            assert_eq!(profile.default_errno_ret(), Some(2));
            profile
                .syscalls()
                .as_ref()
                .unwrap()
                .iter()
                .flat_map(|s| s.names().clone())
                .collect()
        };
        assert_eq!(names(&[]), ["read", "ptrace", "clone"]);
        assert_eq!(names(&[Capability::SysAdmin]), ["read", "mount", "ptrace"]);
    }

    #[test]
    fn a_profile_that_contradicts_itself_is_refused() {
        let refused = |json: &str| from_docker_json(json, &HashSet::new()).unwrap_err().to_string();
        assert_eq!(refused("{"), "cannot decode the seccomp profile");
        assert!(refused(r#"{"syscalls":[{"name":"read","action":"SCMP_ACT_ALLOW"}]}"#).contains("'defaultAction'"));
        let both =
            r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"a","names":["b"],"action":"SCMP_ACT_LOG"}]}"#;
        assert!(refused(both).contains("'name' or 'names'"));
    }

    #[test]
    fn an_empty_profile_is_none() {
        let profile = from_docker_json("{}", &HashSet::new()).unwrap();
        assert_eq!(profile.default_action(), LinuxSeccompAction::ScmpActAllow);
    }
}
