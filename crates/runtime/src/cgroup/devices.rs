//! Which devices a container may open or make: rules for v1's `devices` controller, an eBPF program for v2.
//!
//! Rules apply in order. The kernel of v1 folds them into "all but these" or "none but these"; the program for v2 is
//! made from the same folding, so that a list means the same on both.
use corten_linux::bpf::instruction;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::error::Error;
use super::plan::Write;

/// `BPF_DEVCG_ACC_*`: make a node, read, write.
const MKNOD: u8 = 1;
const READ: u8 = 2;
const WRITE: u8 = 4;
const ALL: u8 = MKNOD | READ | WRITE;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Block = 1,
    Character = 2,
}

/// A rule that names devices; `None` is any number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Device {
    kind: Kind,
    major: Option<u32>,
    minor: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Everything { allow: bool },
    Some { allow: bool, device: Device, access: u8 },
}

/// All rules folded: `allow` is for whatever no exception names.
#[derive(Debug, PartialEq, Eq)]
struct Policy {
    allow: bool,
    exceptions: Vec<(Device, u8)>,
}

fn parse(rule: &LinuxDeviceCgroup) -> Result<Rule, Error> {
    let invalid = |reason| {
        Err(Error::Invalid {
            limit: "device rule".to_owned(),
            reason,
        })
    };
    let kind = match rule.typ().unwrap_or_default() {
        LinuxDeviceType::A => return Ok(Rule::Everything { allow: rule.allow() }),
        LinuxDeviceType::B => Kind::Block,
        LinuxDeviceType::C | LinuxDeviceType::U => Kind::Character,
        LinuxDeviceType::P => return invalid(format!("{rule}: a FIFO is not a device")),
    };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or_default().chars() {
        access |= match letter {
            'm' => MKNOD,
            'r' => READ,
            'w' => WRITE,
            _ => return invalid(format!("{rule}: access is made of r, w and m")),
        };
    }
    // The specification's -1 and a missing number are both "any".
    let number = |number: Option<i64>| match number {
        None | Some(-1) => Ok(None),
        Some(n) => u32::try_from(n).map(Some),
    };
    let (Ok(major), Ok(minor)) = (number(rule.major()), number(rule.minor())) else {
        return invalid(format!("{rule}: no such device number"));
    };
    Ok(Rule::Some {
        allow: rule.allow(),
        device: Device { kind, major, minor },
        access,
    })
}

fn parse_all(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>, Error> {
    rules.iter().map(parse).collect()
}

/// The rules for `devices.allow` and `devices.deny`.
pub fn legacy_writes(rules: &[LinuxDeviceCgroup]) -> Result<Vec<Write>, Error> {
    let write = |rule| {
        let (allow, text) = match rule {
            Rule::Everything { allow } => (allow, "a".to_owned()),
            Rule::Some { access: 0, .. } => return None,
            Rule::Some { allow, device, access } => {
                let kind = if device.kind == Kind::Block { 'b' } else { 'c' };
                let number = |n: Option<u32>| n.map_or("*".to_owned(), |n| n.to_string());
                let mut text = format!("{kind} {}:{} ", number(device.major), number(device.minor));
                let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
                text.extend(
                    letters
                        .iter()
                        .filter(|(bit, _)| access & bit != 0)
                        .map(|(_, letter)| letter),
                );
                (allow, text)
            }
        };
        Some(Write::new(
            "device rule",
            if allow { "devices.allow" } else { "devices.deny" },
            text,
        ))
    };
    Ok(parse_all(rules)?.into_iter().filter_map(write).collect())
}

/// The program for v2; `None` when every device is allowed.
pub fn program(rules: &[LinuxDeviceCgroup]) -> Result<Option<Vec<u64>>, Error> {
    let policy = fold(&parse_all(rules)?);
    Ok((!policy.allow || !policy.exceptions.is_empty()).then(|| emit(&policy)))
}

fn fold(rules: &[Rule]) -> Policy {
    let mut policy = Policy {
        allow: true,
        exceptions: Vec::new(),
    };
    for rule in rules {
        match *rule {
            Rule::Everything { allow } => {
                policy = Policy {
                    allow,
                    exceptions: Vec::new(),
                }
            }
            Rule::Some { allow, device, access } => {
                let known = policy.exceptions.iter().position(|(d, _)| *d == device);
                match (allow == policy.allow, known) {
                    // What is so anyway: an earlier exception to it ends.
                    (true, Some(index)) => {
                        policy.exceptions[index].1 &= !access;
                        if policy.exceptions[index].1 == 0 {
                            policy.exceptions.remove(index);
                        }
                    }
                    (true, None) => {}
                    (false, Some(index)) => policy.exceptions[index].1 |= access,
                    (false, None) if access != 0 => policy.exceptions.push((device, access)),
                    (false, None) => {}
                }
            }
        }
    }
    policy
}

// eBPF, as far as needed here. Registers: r1 context, r2 kind, r3 access, r4 major, r5 minor, r0 answer.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xbf;
const MOVE_NUMBER: u8 = 0xb7;
const AND_NUMBER: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_NOT_NUMBER: u8 = 0x56; // 32 bits wide: device numbers have no sign
const JUMP_IF_NUMBER: u8 = 0x16;
const EXIT: u8 = 0x95;

/// Per exception: any test that fails jumps to the next exception; the first that passes all answers.
fn emit(policy: &Policy) -> Vec<u64> {
    let mut program = vec![
        // struct bpf_cgroup_dev_ctx { u32 access << 16 | kind; u32 major; u32 minor; }
        instruction(LOAD_WORD, 2, 1, 0, 0),
        instruction(MOVE, 3, 2, 0, 0),
        instruction(AND_NUMBER, 2, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, 3, 0, 0, 16),
        instruction(LOAD_WORD, 4, 1, 4, 0),
        instruction(LOAD_WORD, 5, 1, 8, 0),
    ];
    for (device, access) in &policy.exceptions {
        // Each test: opcode of the jump taken when it fails, register, number.
        let mut tests = vec![(JUMP_IF_NOT_NUMBER, 2, device.kind as i32)];
        let mut prepare = None;
        if policy.allow {
            // Denied as soon as one kind of access is.
            prepare = Some(i32::from(*access));
            tests.push((JUMP_IF_NUMBER, 6, 0));
        } else if *access != ALL {
            // Allowed only when nothing else is asked for.
            prepare = Some(i32::from(ALL & !*access));
            tests.push((JUMP_IF_NOT_NUMBER, 6, 0));
        }
        tests.extend(device.major.map(|major| (JUMP_IF_NOT_NUMBER, 4, major as i32)));
        tests.extend(device.minor.map(|minor| (JUMP_IF_NOT_NUMBER, 5, minor as i32)));

        let mut left = tests.len() as i16 + if prepare.is_some() { 2 } else { 0 } + 2;
        for (index, (opcode, register, number)) in tests.into_iter().enumerate() {
            if let (1, Some(mask)) = (index, prepare) {
                program.push(instruction(MOVE, 6, 3, 0, 0));
                program.push(instruction(AND_NUMBER, 6, 0, 0, mask));
                left -= 2;
            }
            left -= 1;
            program.push(instruction(opcode, register, 0, left, number));
        }
        program.push(instruction(MOVE_NUMBER, 0, 0, 0, i32::from(!policy.allow)));
        program.push(instruction(EXIT, 0, 0, 0, 0));
    }
    program.push(instruction(MOVE_NUMBER, 0, 0, 0, i32::from(policy.allow)));
    program.push(instruction(EXIT, 0, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    fn rule(allow: bool, kind: LinuxDeviceType, major: i64, minor: i64, access: &str) -> LinuxDeviceCgroup {
        let builder = LinuxDeviceCgroupBuilder::default()
            .allow(allow)
            .typ(kind)
            .access(access);
        builder.major(major).minor(minor).build().unwrap()
    }

    fn some_rules() -> Vec<LinuxDeviceCgroup> {
        use LinuxDeviceType::{A, B, C};
        vec![
            rule(false, A, -1, -1, "rwm"),
            rule(true, C, -1, -1, "m"),
            rule(true, B, -1, -1, "m"),
            rule(true, C, 1, 3, "rwm"),
            rule(true, C, 136, -1, "rwm"),
            rule(true, C, 5, 1, "r"),
            rule(true, C, 5, 1, "w"),
        ]
    }

    /// Runs a program as the kernel would: 64-bit registers, 32-bit comparisons.
    fn run(program: &[u64], kind: u32, access: u32, major: u32, minor: u32) -> bool {
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0u64; 11];
        let mut at = 0usize;
        loop {
            let bytes = program[at].to_ne_bytes();
            let (destination, source) = ((bytes[1] & 15) as usize, (bytes[1] >> 4) as usize);
            let offset = i16::from_ne_bytes([bytes[2], bytes[3]]);
            let immediate = i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
            at += 1;
            let equal = registers[destination] as u32 == immediate as u32;
            match bytes[0] {
                LOAD_WORD => registers[destination] = context[offset as usize / 4].into(),
                MOVE => registers[destination] = registers[source],
                MOVE_NUMBER => registers[destination] = immediate as u64,
                AND_NUMBER => registers[destination] &= immediate as i64 as u64,
                SHIFT_RIGHT => registers[destination] >>= immediate,
                JUMP_IF_NOT_NUMBER if !equal => at += offset as usize,
                JUMP_IF_NUMBER if equal => at += offset as usize,
                JUMP_IF_NOT_NUMBER | JUMP_IF_NUMBER => {}
                EXIT => return registers[0] != 0,
                other => panic!("opcode {other:#x}"),
            }
        }
    }

    #[test]
    fn nothing_but_the_listed_devices_is_allowed() {
        let program = program(&some_rules()).unwrap().unwrap();
        let character = |access: u8, major, minor| run(&program, 2, access.into(), major, minor);
        assert!(character(READ | WRITE, 1, 3), "/dev/null");
        assert!(!character(READ, 1, 1), "/dev/mem");
        assert!(character(MKNOD, 1, 1), "any node may be made");
        assert!(!character(MKNOD | READ, 1, 1));
        assert!(character(READ | WRITE, 136, 77), "any pseudo-terminal");
        assert!(character(READ | WRITE, 5, 1), "rules for one device add up");
        assert!(
            !character(READ | WRITE | MKNOD, 5, 1),
            "but not rules for different devices, as on v1"
        );
        assert!(
            !run(&program, 1, READ.into(), 1, 3),
            "a block device of the same number is another device"
        );
        assert!(program.len() <= 100, "{}", program.len());
    }

    #[test]
    fn all_but_the_listed_devices_are_allowed() {
        use LinuxDeviceType::{A, C};
        let rules = [
            rule(true, A, -1, -1, "rwm"),
            rule(false, C, 1, 1, "w"),
            rule(false, C, 4_000_000_000, 0, "rwm"),
        ];
        let program = program(&rules).unwrap().unwrap();
        assert!(!run(&program, 2, WRITE.into(), 1, 1));
        assert!(
            !run(&program, 2, (READ | WRITE).into(), 1, 1),
            "one denied kind of access denies all"
        );
        assert!(run(&program, 2, READ.into(), 1, 1));
        assert!(!run(&program, 2, READ.into(), 4_000_000_000, 0));
        assert!(run(&program, 1, ALL.into(), 1, 1));
    }

    #[test]
    fn a_privileged_container_has_no_program() {
        assert_eq!(program(&[rule(true, LinuxDeviceType::A, -1, -1, "rwm")]).unwrap(), None);
        assert_eq!(program(&[]).unwrap(), None);
    }

    #[test]
    fn v1_takes_rules_as_text() {
        let writes = legacy_writes(&some_rules()).unwrap();
        let text: Vec<_> = writes.iter().map(|w| format!("{} {}", w.file, w.value)).collect();
        assert_eq!(text[0], "devices.deny a");
        assert_eq!(text[1], "devices.allow c *:* m");
        assert_eq!(text[3], "devices.allow c 1:3 rwm");
        assert_eq!(text[4], "devices.allow c 136:* rwm");
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            rule(true, LinuxDeviceType::C, 1, 3, "rx"),
            rule(true, LinuxDeviceType::C, -7, 3, "r"),
        ] {
            assert!(program(&[bad]).is_err());
        }
    }
}
