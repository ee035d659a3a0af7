//! Compiled filters: run by an interpreter, held against libseccomp's, and loaded into the kernel.
//!
//! libseccomp is an oracle for tests only. Where its headers or a C compiler are missing, those tests say so and pass.
use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use corten_runtime::security::abi::{Abi, X32_MARK, i386_door};
use corten_runtime::security::filter::{compile, compile_for};
use corten_runtime::security::profile::{default_for, docker_default};
use corten_runtime::security::syscalls::SYSCALLS;
use oci_spec::runtime::{Arch, Capability, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompOperator};
use rustix::io::Errno;
use serde_json::json;

const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const KILL_PROCESS: u32 = 0x8000_0000;
const ENOSYS: u32 = ERRNO | 38;

/// One call, as the kernel shows it to a filter.
#[derive(Debug, Clone, Copy)]
struct Call {
    architecture: u32,
    number: u32,
    arguments: [u64; 6],
}

/// The answer of a program, and how many instructions that took.
fn run(program: &[u64], call: &Call) -> (u32, usize) {
    let word = |offset: u32| -> u32 {
        match offset {
            0 => call.number,
            4 => call.architecture,
            16..64 => (call.arguments[(offset as usize - 16) / 8] >> (if offset % 8 == 4 { 32 } else { 0 })) as u32,
            _ => panic!("load from {offset}"),
        }
    };
    let (mut accumulator, mut at) = (0u32, 0usize);
    for steps in 1.. {
        let bytes = program[at].to_ne_bytes();
        let k = u32::from_ne_bytes(bytes[4..].try_into().unwrap());
        let branch = |condition: bool| usize::from(if condition { bytes[2] } else { bytes[3] });
        at += 1;
        match u16::from_ne_bytes([bytes[0], bytes[1]]) {
            0x20 => accumulator = word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x15 => at += branch(accumulator == k),
            0x25 => at += branch(accumulator > k),
            0x35 => at += branch(accumulator >= k),
            0x45 => at += branch(accumulator & k != 0),
            0x06 => return (k, steps),
            code => panic!("opcode {code:#x}"),
        }
    }
    unreachable!()
}

fn answer(program: &[u64], abi: Abi, name: &str, arguments: &[u64]) -> u32 {
    let number = abi.number(name).unwrap_or_else(|| panic!("{abi:?} has no {name}"));
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    run(
        program,
        &Call {
            architecture: abi.audit(),
            number,
            arguments: all,
        },
    )
    .0
}

fn profile(json: serde_json::Value) -> LinuxSeccomp {
    serde_json::from_value(json).unwrap()
}

const X86: [&str; 3] = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];

/// Calls of every number that matters.
fn numbers(native: Abi) -> Vec<(Abi, u32)> {
    let abis: &[Abi] = if native == Abi::X86_64 {
        &[Abi::X86_64, Abi::X32, Abi::I386]
    } else {
        &[Abi::Aarch64, Abi::Arm]
    };
    let mut list = Vec::new();
    for abi in abis {
        let mark = if *abi == Abi::X32 { X32_MARK } else { 0 };
        list.extend((0..560).map(|number| (*abi, number | mark)));
        if *abi == Abi::Arm {
            list.extend((0x0f_0000..0x0f_0008).map(|number| (*abi, number)));
        }
    }
    list
}

#[test]
fn the_default_profile_is_small_and_quick() {
    let program = compile_for(&default_for(Abi::X86_64, &HashSet::new()), Abi::X86_64)
        .unwrap()
        .program;
    let calls = numbers(Abi::X86_64);
    let steps: usize = calls
        .iter()
        .map(|(abi, number)| {
            run(
                &program,
                &Call {
                    architecture: abi.audit(),
                    number: *number,
                    arguments: [0; 6],
                },
            )
            .1
        })
        .sum();
    let mean = steps as f64 / calls.len() as f64;
    println!("{} instructions, {mean:.1} executed on average", program.len());
    assert!(program.len() <= 400, "{}", program.len());
    assert!(mean < 16.0, "{mean}");
}

#[test]
fn the_default_profile_denies_what_docker_denies() {
    let program = compile_for(&default_for(Abi::X86_64, &HashSet::new()), Abi::X86_64)
        .unwrap()
        .program;
    let eperm = ERRNO | 1;
    for abi in [Abi::X86_64, Abi::X32, Abi::I386] {
        let answer = |name: &str, arguments: &[u64]| answer(&program, abi, name, arguments);
        assert_eq!(answer("read", &[]), ALLOW);
        assert_eq!(answer("mount", &[]), eperm);
        assert_eq!(answer("keyctl", &[]), eperm);
        assert_eq!(answer("unshare", &[]), eperm);
        assert_eq!(answer("io_uring_setup", &[]), eperm);
        assert_eq!(answer("clone3", &[]), ENOSYS);
        assert_eq!(answer("clone", &[0x1200011]), ALLOW, "a fork");
        assert_eq!(answer("clone", &[0x1000_0000]), eperm, "a user namespace");
        for allowed in [1, 2, 10, 16, 17, 45] {
            assert_eq!(answer("socket", &[allowed]), ALLOW, "family {allowed}");
        }
        for denied in [12, 19, 38, 40, 46, 1000] {
            assert_eq!(answer("socket", &[denied]), eperm, "family {denied}");
        }
        assert_eq!(answer("personality", &[0xffff_ffff]), ALLOW);
        assert_eq!(
            answer("personality", &[0x4_0000]),
            eperm,
            "no randomisation of addresses"
        );
        if abi != Abi::I386 {
            assert_eq!(
                answer("socket", &[0x1_0000_0028]),
                eperm,
                "the kernel would only look at the lower half"
            );
        }
    }
    let unknown = Call {
        architecture: 0xc000_00f3,
        number: 0,
        arguments: [0; 6],
    };
    assert_eq!(run(&program, &unknown).0, KILL_PROCESS, "another machine's ABI");
    let future = Call {
        architecture: Abi::X86_64.audit(),
        number: 700,
        arguments: [0; 6],
    };
    assert_eq!(
        run(&program, &future).0,
        ENOSYS,
        "a call of the future makes programs fall back"
    );
}

#[test]
fn rules_of_one_call_are_tried_in_order() {
    let filter = compile(&profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 7,
        "syscalls": [
            { "names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9,
              "args": [{ "index": 1, "value": 9, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] },
            { "names": ["kill"], "action": "SCMP_ACT_TRAP", "args": [{ "index": 1, "value": 9, "op": "SCMP_CMP_EQ" }] },
            { "names": ["kill", "read", "no_such_call"], "action": "SCMP_ACT_ALLOW" },
            { "names": ["read"], "action": "SCMP_ACT_KILL_PROCESS" },
        ]
    })));
    let program = filter.unwrap().program;
    let kill = |arguments: &[u64]| answer(&program, Abi::NATIVE, "kill", arguments);
    assert_eq!(kill(&[1, 9]), ERRNO | 9);
    assert_eq!(kill(&[2, 9]), 0x0003_0000);
    assert_eq!(kill(&[1, 15]), ALLOW);
    assert_eq!(answer(&program, Abi::NATIVE, "read", &[]), ALLOW);
    assert_eq!(answer(&program, Abi::NATIVE, "close", &[]), ERRNO | 7);
}

#[test]
fn two_conditions_on_one_argument_mean_either() {
    let program = compile(&profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["prctl"], "action": "SCMP_ACT_ALLOW", "args": [
            { "index": 0, "value": 15, "op": "SCMP_CMP_EQ" }, { "index": 0, "value": 16, "op": "SCMP_CMP_EQ" }] }]
    })));
    let program = program.unwrap().program;
    let prctl = |value| answer(&program, Abi::NATIVE, "prctl", &[value]);
    assert_eq!([14, 15, 16, 17].map(prctl), [ERRNO | 1, ALLOW, ALLOW, ERRNO | 1]);
}

#[test]
fn both_halves_of_an_argument_count() {
    let program = compile(&profile(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            { "names": ["close"], "action": "SCMP_ACT_ALLOW", "args":
                [{ "index": 0, "value": 0xff00_0000_00f0u64, "valueTwo": 0x1100_0000_0010u64, "op": "SCMP_CMP_MASKED_EQ" }] },
            { "names": ["dup"], "action": "SCMP_ACT_ALLOW", "args":
                [{ "index": 0, "value": 0x1_0000_0000u64, "op": "SCMP_CMP_GE" }] },
        ]
    })));
    let program = program.unwrap().program;
    let close = |value| answer(&program, Abi::NATIVE, "close", &[value]) == ALLOW;
    assert!(close(0x1100_0000_0010) && close(0xffff_1100_ffff_ff1f));
    assert!(!close(0x10) && !close(0x1200_0000_0010) && !close(0x1100_0000_0020));
    let dup = |value| answer(&program, Abi::NATIVE, "dup", &[value]) == ALLOW;
    assert!(dup(0x1_0000_0000) && dup(u64::MAX) && !dup(0xffff_ffff));
}

#[test]
fn an_abi_that_the_profile_does_not_name_is_closed() {
    let only_native =
        json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_ARM"] });
    let program = compile_for(&profile(only_native), Abi::X86_64).unwrap().program;
    assert_eq!(answer(&program, Abi::X86_64, "read", &[]), ALLOW);
    assert_eq!(answer(&program, Abi::X32, "read", &[]), ENOSYS);
    assert_eq!(answer(&program, Abi::I386, "read", &[]), KILL_PROCESS);
    assert_eq!(
        answer(&program, Abi::Arm, "read", &[]),
        KILL_PROCESS,
        "not an ABI of this machine"
    );
}

#[test]
fn what_cannot_be_compiled_is_refused() {
    let refused = |json: serde_json::Value| compile(&profile(json)).unwrap_err().to_string();
    assert!(refused(json!({ "defaultAction": "SCMP_ACT_NOTIFY" })).contains("not implemented yet"));
    assert!(refused(json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000 })).contains("errno 70000"));
    let argument = json!([{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }]);
    let entry = json!([{ "names": ["read"], "action": "SCMP_ACT_LOG", "args": argument }]);
    assert!(refused(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": entry })).contains("argument 6"));
    let many: Vec<_> = (0..1500u64)
        .map(|n| {
            json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": n,
                         "args": [{ "index": 0, "value": n << 32, "op": "SCMP_CMP_EQ" }] })
        })
        .collect();
    assert!(refused(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": many })).contains("4096 at most"));
}

#[test]
fn the_kernel_takes_it_and_obeys() {
    let filter = compile(&docker_default(&HashSet::new())).unwrap();
    // A filter is the thread's own.
    let thread = std::thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        corten_linux::seccomp::set_filter(&filter.program, filter.flags).unwrap();
        let socket = |family| {
            rustix::net::socket(
                rustix::net::AddressFamily::from_raw(family),
                rustix::net::SocketType::DGRAM,
                None,
            )
        };
        assert!(socket(2).is_ok());
        assert_eq!(socket(38).unwrap_err(), Errno::PERM);
        assert_eq!(socket(40).unwrap_err(), Errno::PERM);
        let mount = rustix::mount::mount("none", "/", "tmpfs", rustix::mount::MountFlags::empty(), None);
        assert_eq!(mount.unwrap_err(), Errno::PERM);
        assert!(
            Command::new("true").status().unwrap().success(),
            "fork, exec and wait are allowed"
        );
    });
    thread.join().unwrap();
}

/// Prints libseccomp's program for what it reads: `default A`, `arch TOKEN`, `rule A NAME [INDEX OP A B]...`.
/// With an argument: prints the names, of those it reads, that it knows.
const ORACLE: &str = r#"
#include <seccomp.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
    char line[4096], word[128];
    if (argc > 1) {
        while (scanf("%127s", word) == 1)
            if (seccomp_syscall_resolve_name(word) != __NR_SCMP_ERROR) puts(word);
        return 0;
    }
    scmp_filter_ctx filter = NULL;
    while (fgets(line, sizeof line, stdin)) {
        unsigned action, token, index, op;
        unsigned long long a, b;
        int at = 0, step;
        if (sscanf(line, "default %u", &action) == 1) {
            filter = seccomp_init(action);
            seccomp_arch_remove(filter, seccomp_arch_native());
        } else if (sscanf(line, "arch %u", &token) == 1) {
            if (seccomp_arch_add(filter, token)) return 2;
        } else if (sscanf(line, "rule %u %127s%n", &action, word, &at) == 2) {
            struct scmp_arg_cmp list[6];
            unsigned count = 0;
            while (sscanf(line + at, "%u %u %llu %llu%n", &index, &op, &a, &b, &step) == 4) {
                list[count++] = (struct scmp_arg_cmp){index, op, a, b};
                at += step;
            }
            int failed = seccomp_rule_add_array(filter, action, seccomp_syscall_resolve_name(word), count, list);
            if (failed) { fprintf(stderr, "%s: %s", line, strerror(-failed)); return 3; }
        }
    }
    return seccomp_export_bpf(filter, 1) ? 4 : 0;
}
"#;

struct Oracle {
    _directory: tempfile::TempDir,
    program: PathBuf,
}

impl Oracle {
    /// `None`, said aloud, where it cannot be built.
    fn build() -> Option<Oracle> {
        let directory = tempfile::tempdir().unwrap();
        let (source, program) = (directory.path().join("oracle.c"), directory.path().join("oracle"));
        std::fs::write(&source, ORACLE).unwrap();
        let compiler = Command::new("cc")
            .arg(&source)
            .arg("-o")
            .arg(&program)
            .arg("-lseccomp")
            .output();
        if compiler.is_ok_and(|output| output.status.success()) {
            return Some(Oracle {
                _directory: directory,
                program,
            });
        }
        eprintln!("skipped: no C compiler, or libseccomp's headers are missing (Debian: gcc, libseccomp-dev)");
        None
    }

    fn ask(&self, arguments: &[&str], input: &str) -> Vec<u8> {
        let mut command = Command::new(&self.program);
        let mut child = command
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // Small enough for the pipe.
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{:?} for\n{input}", output.status);
        output.stdout
    }

    fn known(&self, names: &[&str]) -> Vec<String> {
        String::from_utf8(self.ask(&["known"], &names.join("\n")))
            .unwrap()
            .lines()
            .map(String::from)
            .collect()
    }

    fn program(&self, profile: &LinuxSeccomp) -> Vec<u64> {
        let bytes = self.ask(&[], &oracle_input(profile));
        bytes
            .chunks_exact(8)
            .map(|chunk| u64::from_ne_bytes(chunk.try_into().unwrap()))
            .collect()
    }
}

fn oracle_action(action: LinuxSeccompAction, errno: Option<u32>) -> u32 {
    match action {
        LinuxSeccompAction::ScmpActErrno => ERRNO | errno.unwrap_or(1),
        LinuxSeccompAction::ScmpActTrace => 0x7ff0_0000 | errno.unwrap_or(1),
        LinuxSeccompAction::ScmpActKillProcess => KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => 0x0003_0000,
        LinuxSeccompAction::ScmpActLog => 0x7ffc_0000,
        LinuxSeccompAction::ScmpActAllow => ALLOW,
        _ => 0,
    }
}

fn oracle_input(profile: &LinuxSeccomp) -> String {
    let mut input = format!(
        "default {}\n",
        oracle_action(profile.default_action(), profile.default_errno_ret())
    );
    for arch in profile.architectures().iter().flatten() {
        input.push_str(&format!("arch {}\n", *arch as u32));
    }
    for entry in profile.syscalls().iter().flatten() {
        for name in entry.names() {
            input.push_str(&format!(
                "rule {} {name}",
                oracle_action(entry.action(), entry.errno_ret())
            ));
            for argument in entry.args().iter().flatten() {
                let (op, two) = (argument.op() as u32, argument.value_two().unwrap_or(0));
                input.push_str(&format!(" {} {op} {} {two}", argument.index(), argument.value()));
            }
            input.push('\n');
        }
    }
    input
}

/// Removes what the installed libseccomp is too old to know, and what versions disagree about.
fn reduce_to_known(profile: &mut LinuxSeccomp, oracle: &Oracle) {
    let entries = profile.syscalls().clone().unwrap_or_default();
    let names: Vec<&str> = entries
        .iter()
        .flat_map(|entry| entry.names().iter().map(String::as_str))
        .collect();
    let known: HashSet<String> = oracle.known(&names).into_iter().collect();
    let mut entries = entries.clone();
    for entry in &mut entries {
        let kept: Vec<String> = entry
            .names()
            .iter()
            .filter(|name| known.contains(*name) && !is_disputed(name))
            .cloned()
            .collect();
        entry.set_names(kept);
    }
    entries.retain(|entry| !entry.names().is_empty());
    profile.set_syscalls(Some(entries));
}

/// From 451 (Linux 6.5) on, numbers are the same in every ABI. And ARM has a call that libseccomp knows only by the
/// other of its two names.
fn is_disputed(name: &str) -> bool {
    name == "sync_file_range2"
        || Abi::Aarch64
            .number(name)
            .is_some_and(|number| (451..600).contains(&number))
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Small numbers, ones near powers of two, and any.
    fn argument(&mut self) -> u64 {
        match self.below(4) {
            0 => self.next() % 48,
            1 => (1u64 << self.below(64)).wrapping_add(self.next() % 3).wrapping_sub(1),
            2 => self.next() & 0xffff_ffff,
            _ => self.next(),
        }
    }
}

/// libseccomp 2.5.4 at times forgets to load the call's number, and compares the architecture with it.
fn looks_at_number(program: &[u64]) -> bool {
    let load = |offset: u32| corten_linux::seccomp::instruction(0x20, 0, 0, offset);
    let start = program
        .iter()
        .position(|i| *i == load(4))
        .expect("it looks at the architecture");
    program[start + 1..].iter().take(4).any(|i| *i == load(0))
}

/// Ours and libseccomp's must say the same about every call. Returns how many were compared.
fn compare(oracle: &Oracle, profile: &LinuxSeccomp, native: Abi, random: &mut Random) -> usize {
    let ours = compile_for(profile, native).unwrap().program;
    assert!(ours.len() <= 4096);
    let alone = |abi: Abi| -> Vec<u64> {
        let arch = [
            Arch::ScmpArchX86_64,
            Arch::ScmpArchX32,
            Arch::ScmpArchX86,
            Arch::ScmpArchAarch64,
            Arch::ScmpArchArm,
        ];
        let mut profile = profile.clone();
        profile.set_architectures(Some(vec![arch[abi as usize]]));
        oracle.program(&profile)
    };
    let entries = profile.syscalls().as_deref().unwrap_or_default();
    let names = || entries.iter().flat_map(|entry| entry.names());
    // Values at and around those of the rules are where mistakes are.
    let edges: Vec<u64> = entries
        .iter()
        .flat_map(|entry| entry.args().iter().flatten())
        .flat_map(|argument| [argument.value(), argument.value_two().unwrap_or(0)])
        .flat_map(|value| [value.wrapping_sub(1), value, value.wrapping_add(1)])
        .chain([0])
        .collect();
    let mut compared = 0;
    let mut theirs = (native, alone(native));
    for (abi, number) in numbers(native) {
        if theirs.0 != abi {
            theirs = (abi, alone(abi));
        }
        // Beyond the profile we answer "not there", and libseccomp its default.
        let beyond = names().filter_map(|name| abi.number(name)).max();
        let doors = || {
            names()
                .filter_map(|name| i386_door(name))
                .filter_map(|(door, _)| abi.number(door))
                .max()
        };
        let through_doors = if abi == Abi::I386 { doors() } else { None };
        if !looks_at_number(&theirs.1) {
            continue;
        }
        if beyond.max(through_doors).is_none_or(|beyond| number > beyond) {
            continue;
        }
        for _ in 0..12 {
            let mut arguments = [0; 6].map(|_: u64| {
                if random.below(3) == 0 {
                    random.argument()
                } else {
                    random.pick(&edges)
                }
            });
            if !abi.is_wide() || abi == Abi::X32 {
                // The kernel's 32-bit calls have no upper halves; libseccomp does not look at x32's.
                arguments = arguments.map(|argument| argument & 0xffff_ffff);
            }
            if abi == Abi::I386 && (number == 102 || number == 117) {
                arguments[0] = random.next() % 26;
            }
            let call = Call {
                architecture: abi.audit(),
                number,
                arguments,
            };
            let (us, them) = (run(&ours, &call).0, run(&theirs.1, &call).0);
            assert_eq!(us, them, "{abi:?} {call:?}\n{}", oracle_input(profile));
            compared += 1;
        }
    }
    compared
}

#[test]
fn the_default_profile_says_what_libseccomp_says() {
    let Some(oracle) = Oracle::build() else { return };
    let mut random = Random(0x1234_5678_9abc_def1);
    let mut compared = 0;
    let some = [
        Capability::SysAdmin,
        Capability::SysPtrace,
        Capability::NetRaw,
        Capability::SysTime,
    ];
    for native in [Abi::X86_64, Abi::Aarch64] {
        for capabilities in [HashSet::new(), HashSet::from(some)] {
            let mut profile = default_for(native, &capabilities);
            reduce_to_known(&mut profile, &oracle);
            compared += compare(&oracle, &profile, native, &mut random);
        }
    }
    println!("{compared} calls compared");
    assert!(compared > 50_000);
}

/// Each call with one action, so that libseccomp's order of rules does not matter.
fn random_profile(random: &mut Random, native: Abi) -> LinuxSeccomp {
    let actions = [
        "SCMP_ACT_ALLOW",
        "SCMP_ACT_ERRNO",
        "SCMP_ACT_KILL_PROCESS",
        "SCMP_ACT_TRAP",
        "SCMP_ACT_LOG",
        "SCMP_ACT_TRACE",
    ];
    let default = random.pick(&actions);
    let mut entries = Vec::new();
    let mut names: Vec<&str> = SYSCALLS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| !["ipc", "socketcall"].contains(name))
        .collect();
    for _ in 0..random.below(120) + 1 {
        let name = names.swap_remove(random.below(names.len()));
        let action = random.pick(&actions);
        if action == default {
            continue;
        }
        let errno = random.below(130) + 1;
        // One rule with many conditions, or many with one: libseccomp 2.5.4 answers some mixtures of both against their
        // meaning. `wide_arguments_and_rules_in_order_mean_what_they_say` covers those.
        let mut push = |arguments: Vec<serde_json::Value>| {
            entries.push(json!({ "names": [name], "action": action, "errnoRet": errno, "args": arguments }));
        };
        if random.below(2) == 0 {
            let chosen: Vec<usize> = (0..6).filter(|_| random.below(9) < 2).collect();
            push(
                chosen
                    .into_iter()
                    .map(|index| random_condition(random, index))
                    .collect(),
            );
        } else {
            let index = random.below(6);
            (0..random.below(6) + 1).for_each(|_| push(vec![random_condition(random, index)]));
        }
    }
    let architectures: &[&str] = if native == Abi::X86_64 {
        &X86
    } else {
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]
    };
    profile(
        json!({ "defaultAction": default, "defaultErrnoRet": 1, "architectures": architectures, "syscalls": entries }),
    )
}

fn random_condition(random: &mut Random, index: usize) -> serde_json::Value {
    use LinuxSeccompOperator as Op;
    let operators = [
        Op::ScmpCmpNe,
        Op::ScmpCmpLt,
        Op::ScmpCmpLe,
        Op::ScmpCmpEq,
        Op::ScmpCmpGe,
        Op::ScmpCmpGt,
        Op::ScmpCmpMaskedEq,
    ];
    let op = random.pick(&operators);
    // Upper halves mean nothing to 32-bit ABIs, and libseccomp cuts them off there; we take the number at its word.
    let value = random.argument() & 0xffff_ffff;
    let two = if op == Op::ScmpCmpMaskedEq {
        random.next() & value
    } else {
        0
    };
    json!({ "index": index, "value": value, "valueTwo": two, "op": op })
}

#[test]
fn random_profiles_say_what_libseccomp_says() {
    let Some(oracle) = Oracle::build() else { return };
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut compared = 0;
    for round in 0..24 {
        let native = if round % 3 == 2 { Abi::Aarch64 } else { Abi::X86_64 };
        let mut profile = random_profile(&mut random, native);
        reduce_to_known(&mut profile, &oracle);
        compared += compare(&oracle, &profile, native, &mut random);
    }
    println!("{compared} calls compared");
    assert!(compared > 100_000);
}

/// Rules as the specification means them, one after the other: what the compiled tree must not differ from.
fn reference(profile: &LinuxSeccomp, abi: Abi, call: &Call) -> Option<u32> {
    use LinuxSeccompOperator as Op;
    for entry in profile.syscalls().iter().flatten() {
        if !entry.names().iter().any(|name| abi.number(name) == Some(call.number)) {
            continue;
        }
        let holds = entry.args().iter().flatten().all(|condition| {
            let (argument, value) = (call.arguments[condition.index()], condition.value());
            match condition.op() {
                Op::ScmpCmpNe => argument != value,
                Op::ScmpCmpLt => argument < value,
                Op::ScmpCmpLe => argument <= value,
                Op::ScmpCmpEq => argument == value,
                Op::ScmpCmpGe => argument >= value,
                Op::ScmpCmpGt => argument > value,
                Op::ScmpCmpMaskedEq => argument & value == condition.value_two().unwrap_or(0),
            }
        });
        if holds {
            return Some(oracle_action(entry.action(), entry.errno_ret()));
        }
    }
    None
}

#[test]
fn wide_arguments_and_rules_in_order_mean_what_they_say() {
    let mut random = Random(0xdead_beef_cafe_f00d);
    for _ in 0..200 {
        let mut entries = Vec::new();
        let names = ["read", "write", "close", "ioctl", "mmap"];
        for _ in 0..random.below(24) {
            let count = random.below(3);
            let arguments: Vec<_> = (0..count)
                .map(|index| {
                    let mut condition = random_condition(&mut random, index);
                    condition["value"] = json!(random.argument());
                    condition["valueTwo"] = json!(random.argument() & condition["value"].as_u64().unwrap());
                    condition
                })
                .collect();
            let action = random.pick(&["SCMP_ACT_ALLOW", "SCMP_ACT_TRAP", "SCMP_ACT_LOG"]);
            entries.push(json!({ "names": [random.pick(&names)], "action": action, "args": arguments }));
        }
        let profile = profile(json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": X86, "syscalls": entries }));
        let program = compile_for(&profile, Abi::X86_64).unwrap().program;
        let values: Vec<u64> = profile
            .syscalls()
            .iter()
            .flatten()
            .flat_map(|e| e.args().iter().flatten())
            .map(|a| a.value())
            .collect();
        for _ in 0..400 {
            let abi = random.pick(&[Abi::X86_64, Abi::X32, Abi::I386]);
            let number = abi.number(random.pick(&names)).unwrap();
            let near = |random: &mut Random| match values.is_empty() || random.below(2) == 0 {
                true => random.argument(),
                false => random.pick(&values).wrapping_add(random.next() % 3).wrapping_sub(1),
            };
            let mut arguments = [0; 6].map(|_: u64| near(&mut random));
            if !abi.is_wide() {
                arguments = arguments.map(|argument| argument & 0xffff_ffff);
            }
            let call = Call {
                architecture: abi.audit(),
                number,
                arguments,
            };
            let named = profile
                .syscalls()
                .iter()
                .flatten()
                .flat_map(|e| e.names())
                .filter_map(|n| abi.number(n))
                .max();
            let default = if named.is_some_and(|named| number > named) {
                ENOSYS
            } else {
                ERRNO | 1
            };
            assert_eq!(
                run(&program, &call).0,
                reference(&profile, abi, &call).unwrap_or(default),
                "{call:?} {profile:?}"
            );
        }
    }
}

#[test]
fn architectures_carry_libseccomps_tokens() {
    // The oracle's input relies on it.
    assert_eq!(Arch::ScmpArchX32 as u32, 0x4000_003e);
}

/// `cargo test --release -p corten-runtime --test seccomp -- --ignored --nocapture how_long`
#[test]
#[ignore = "a measurement"]
fn how_long_compiling_and_loading_take() {
    let microseconds = |mut work: Box<dyn FnMut()>| {
        let mut times: Vec<u128> = Vec::new();
        for _ in 0..200 {
            let start = std::time::Instant::now();
            work();
            times.push(start.elapsed().as_nanos() / 1000);
        }
        times.sort_unstable();
        (times[0], times[100])
    };
    let profile = docker_default(&HashSet::new());
    let filter = compile(&profile).unwrap();
    println!(
        "default profile as data: {:?} µs (least, median)",
        microseconds(Box::new(|| drop(docker_default(&HashSet::new()))))
    );
    println!(
        "compile: {:?} µs",
        microseconds(Box::new(move || drop(compile(&profile).unwrap())))
    );
    let load = move || {
        let filter = filter.clone();
        // Filters stay until their thread ends: a thread for each.
        let thread = std::thread::spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            let start = std::time::Instant::now();
            corten_linux::seccomp::set_filter(&filter.program, filter.flags).unwrap();
            start.elapsed().as_nanos() / 1000
        });
        thread.join().unwrap()
    };
    let mut times: Vec<u128> = (0..200).map(|_| load()).collect();
    times.sort_unstable();
    println!("load: ({}, {}) µs", times[0], times[100]);
}
