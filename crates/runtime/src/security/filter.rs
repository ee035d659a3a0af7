//! The seccomp compiler: a profile becomes one classic BPF program for all of the machine's ABIs.
//!
//! The kernel runs the program through for each number when it is loaded, and at each call that it could not settle
//! then. So it is a balanced tree over ranges of numbers: about 12 instructions deep, where a list has hundreds.
//!
//! Rules of one call are tried in order, and the first that applies decides. A rule with two conditions on the same
//! argument means "either", as in runc (libseccomp cannot say "both").
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use serde::{Deserialize, Serialize};

use super::abi::{self, Abi, X32_MARK};
use super::assembler::{Assembler, JUMP_IF_AT_LEAST, JUMP_IF_EQUAL, JUMP_IF_GREATER, Target};
use super::error::Error;

const KILL_THREAD: u32 = 0;
const KILL_PROCESS: u32 = 0x8000_0000;
const TRAP: u32 = 0x0003_0000;
const ERRNO: u32 = 0x0005_0000;
const TRACE: u32 = 0x7ff0_0000;
const LOG: u32 = 0x7ffc_0000;
const ALLOW: u32 = 0x7fff_0000;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// The kernel's `BPF_MAXINSNS`.
const MAX_INSTRUCTIONS: usize = 4096;

// struct seccomp_data
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// A compiled filter, ready for `corten_linux::seccomp::set_filter`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// `struct sock_filter`, one per element, as it lies in memory.
    pub program: Vec<u64>,
    /// `SECCOMP_FILTER_FLAG_*`.
    pub flags: u32,
}

/// For the machine that we run on.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, Error> {
    compile_for(profile, Abi::NATIVE)
}

/// For a machine whose first ABI is `native`: what is not one of its ABIs is left out.
pub fn compile_for(profile: &LinuxSeccomp, native: Abi) -> Result<Filter, Error> {
    let default = action(profile.default_action(), profile.default_errno_ret())?;
    let rules = Rules::parse(profile.syscalls().as_deref().unwrap_or_default())?;
    let mut compiler = Compiler {
        rules,
        default,
        permissive: default == ALLOW || default == LOG,
        assembler: Assembler::default(),
        leaves: HashMap::new(),
    };
    let program = compiler.program(&abis(profile, native), native);
    if program.len() > MAX_INSTRUCTIONS {
        return Err(Error::TooLong(program.len()));
    }
    Ok(Filter {
        program,
        flags: flags(profile)?,
    })
}

/// The native ABI always: a filter without it would lock everything out.
fn abis(profile: &LinuxSeccomp, native: Abi) -> Vec<Abi> {
    let mut abis = vec![native];
    for arch in profile.architectures().iter().flatten() {
        if let Some(abi) = Abi::of(*arch, native)
            && abi.runs_on(native)
            && !abis.contains(&abi)
        {
            abis.push(abi);
        }
    }
    abis
}

fn flags(profile: &LinuxSeccomp) -> Result<u32, Error> {
    use corten_linux::seccomp::{FLAG_LOG, FLAG_SPEC_ALLOW};
    // A profile that says nothing does not ask for slower branches either.
    let Some(asked) = profile.flags() else {
        return Ok(FLAG_SPEC_ALLOW);
    };
    asked.iter().try_fold(0, |flags, flag| match flag {
        LinuxSeccompFilterFlag::SeccompFilterFlagLog => Ok(flags | FLAG_LOG),
        LinuxSeccompFilterFlag::SeccompFilterFlagSpecAllow => Ok(flags | FLAG_SPEC_ALLOW),
        // The process has one thread when the filter is set.
        LinuxSeccompFilterFlag::SeccompFilterFlagTsync => Ok(flags),
        LinuxSeccompFilterFlag::SeccompFilterFlagWaitKillableRecv => Err(Error::NotImplemented("SCMP_ACT_NOTIFY")),
    })
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, Error> {
    let data = errno.unwrap_or(EPERM);
    if data > 0xffff {
        return Err(Error::Invalid(format!("errno {data} does not fit into 16 bits")));
    }
    Ok(match action {
        LinuxSeccompAction::ScmpActKill | LinuxSeccompAction::ScmpActKillThread => KILL_THREAD,
        LinuxSeccompAction::ScmpActKillProcess => KILL_PROCESS,
        LinuxSeccompAction::ScmpActTrap => TRAP,
        LinuxSeccompAction::ScmpActErrno => ERRNO | data,
        LinuxSeccompAction::ScmpActTrace => TRACE | data,
        LinuxSeccompAction::ScmpActLog => LOG,
        LinuxSeccompAction::ScmpActAllow => ALLOW,
        LinuxSeccompAction::ScmpActNotify => return Err(Error::NotImplemented("SCMP_ACT_NOTIFY")),
    })
}

/// When all `conditions` hold, `action` is the answer.
#[derive(Debug, Clone)]
struct Rule {
    conditions: Vec<LinuxSeccompArg>,
    action: u32,
}

/// Which rule applies to a call of which name; rules are shared by the calls of one entry.
struct Rules<'p> {
    list: Vec<Rule>,
    /// (name, index into `list`), in the profile's order.
    named: Vec<(&'p str, usize)>,
    /// For i386's doors: (door, call's number behind it) → a copy of a rule, with that number as first argument.
    doors: Vec<(&'static str, usize)>,
}

impl<'p> Rules<'p> {
    fn parse(entries: &'p [LinuxSyscall]) -> Result<Rules<'p>, Error> {
        let mut rules = Rules {
            list: Vec::new(),
            named: Vec::new(),
            doors: Vec::new(),
        };
        for entry in entries {
            if entry.names().is_empty() {
                return Err(Error::Invalid("an entry without a system call's name".to_owned()));
            }
            let action = action(entry.action(), entry.errno_ret())?;
            let arguments = entry.args().as_deref().unwrap_or_default();
            if let Some(bad) = arguments.iter().find(|argument| argument.index() > 5) {
                return Err(Error::Invalid(format!(
                    "argument {} of {}",
                    bad.index(),
                    entry.names()[0]
                )));
            }
            let first = rules.list.len();
            for conditions in alternatives(arguments) {
                rules.list.push(Rule { conditions, action });
            }
            let own = first..rules.list.len();
            for name in entry.names() {
                rules.named.extend(own.clone().map(|index| (name.as_str(), index)));
                rules.add_doors(name, own.clone());
            }
        }
        Ok(rules)
    }

    /// The same call through its old door: the first argument is the call's number there, and the call's own first
    /// argument is behind a pointer, where no filter can look.
    fn add_doors(&mut self, name: &str, rules: Range<usize>) {
        let Some((door, number)) = abi::i386_door(name) else {
            return;
        };
        for index in rules {
            let mut rule = self.list[index].clone();
            rule.conditions.retain(|condition| condition.index() != 0);
            rule.conditions.insert(0, equal_to(number));
            self.list.push(rule);
            self.doors.push((door, self.list.len() - 1));
        }
    }

    /// Every call of `abi` that has a rule, with its rules in order, up to the one that always applies.
    fn by_number(&self, abi: Abi) -> BTreeMap<u32, Vec<usize>> {
        let mut calls: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut add = |name: &str, index: usize| {
            if let Some(number) = abi.number(name) {
                let rules = calls.entry(number).or_default();
                if !rules.last().is_some_and(|last| self.list[*last].conditions.is_empty()) {
                    rules.push(index);
                }
            }
        };
        for (name, index) in &self.named {
            add(name, *index);
        }
        if abi == Abi::I386 {
            self.doors.iter().for_each(|(door, index)| add(door, *index));
        }
        calls
    }
}

fn equal_to(value: u64) -> LinuxSeccompArg {
    let builder = oci_spec::runtime::LinuxSeccompArgBuilder::default();
    let builder = builder.index(0usize).value(value).op(LinuxSeccompOperator::ScmpCmpEq);
    builder.build().expect("all that is required is set")
}

/// One set of conditions, or, when an argument is named twice, one for each condition.
fn alternatives(arguments: &[LinuxSeccompArg]) -> Vec<Vec<LinuxSeccompArg>> {
    let twice = arguments
        .iter()
        .enumerate()
        .any(|(i, a)| arguments[..i].iter().any(|b| a.index() == b.index()));
    if twice {
        arguments.iter().map(|argument| vec![*argument]).collect()
    } else {
        vec![arguments.to_vec()]
    }
}

/// What a range of numbers leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Leaf {
    Return(u32),
    /// Rules in order, by index; whether arguments are 64 bits wide.
    Rules(Vec<usize>, bool),
}

struct Compiler<'p> {
    rules: Rules<'p>,
    default: u32,
    permissive: bool,
    assembler: Assembler,
    /// Calls with the same rules share one copy of them.
    leaves: HashMap<Leaf, Target>,
}

impl Compiler<'_> {
    fn program(&mut self, abis: &[Abi], native: Abi) -> Vec<u64> {
        let mut entry = Target::Return(KILL_PROCESS);
        // The last test is written first: the native ABI, in front of `abis`, is tested first.
        for abi in abis.iter().rev().filter(|abi| **abi != Abi::X32) {
            let mut ranges = self.ranges(*abi);
            if *abi == Abi::X86_64 {
                self.add_x32(&mut ranges, abis.contains(&Abi::X32));
            }
            let section = self.tree(&ranges);
            let section = self.assembler.load(NUMBER, section);
            entry = self.assembler.jump(JUMP_IF_EQUAL, abi.audit(), section, entry);
        }
        debug_assert!(abis.contains(&native));
        let entry = self.assembler.load(ARCHITECTURE, entry);
        std::mem::take(&mut self.assembler).finish(entry)
    }

    /// What to do from which number on; neighbours differ.
    fn ranges(&self, abi: Abi) -> Vec<(u32, Leaf)> {
        let calls = self.rules.by_number(abi);
        let mut ranges = vec![(0, Leaf::Return(self.default))];
        let mut next = 0;
        for (number, rules) in calls {
            if number > next {
                push_range(&mut ranges, next, Leaf::Return(self.default));
            }
            push_range(&mut ranges, number, self.leaf(rules, abi.is_wide()));
            next = number + 1;
        }
        // Newer than the profile: "not there" makes programs fall back, where "not permitted" makes them fail.
        let beyond = if self.permissive || next == 0 {
            self.default
        } else {
            ERRNO | ENOSYS
        };
        push_range(&mut ranges, next, Leaf::Return(beyond));
        ranges
    }

    /// x32's calls are x86_64's with a mark in the number.
    fn add_x32(&self, ranges: &mut Vec<(u32, Leaf)>, allowed: bool) {
        if !allowed {
            return push_range(ranges, X32_MARK, Leaf::Return(ERRNO | ENOSYS));
        }
        for (start, leaf) in self.ranges(Abi::X32) {
            push_range(ranges, start.max(X32_MARK), leaf);
        }
    }

    fn leaf(&self, rules: Vec<usize>, wide: bool) -> Leaf {
        let first = &self.rules.list[rules[0]];
        if first.conditions.is_empty() {
            Leaf::Return(first.action)
        } else {
            Leaf::Rules(rules, wide)
        }
    }

    fn tree(&mut self, ranges: &[(u32, Leaf)]) -> Target {
        let mut assembler = std::mem::take(&mut self.assembler);
        let target = assembler.tree(ranges, &mut |assembler, leaf| match leaf {
            Leaf::Return(value) => Target::Return(*value),
            Leaf::Rules(rules, wide) => {
                if let Some(known) = self.leaves.get(leaf) {
                    return *known;
                }
                let target = emit_rules(assembler, &self.rules.list, rules, *wide, self.default);
                self.leaves.insert(leaf.clone(), target);
                target
            }
        });
        self.assembler = assembler;
        target
    }
}

fn push_range(ranges: &mut Vec<(u32, Leaf)>, start: u32, leaf: Leaf) {
    if ranges.last().is_some_and(|last| last.0 == start) {
        ranges.pop();
    }
    if ranges.last().is_none_or(|last| last.1 != leaf) {
        ranges.push((start, leaf));
    }
}

fn emit_rules(assembler: &mut Assembler, list: &[Rule], rules: &[usize], wide: bool, default: u32) -> Target {
    let rules: Vec<&Rule> = rules.iter().map(|index| &list[*index]).collect();
    let groups: Vec<&[&Rule]> = rules
        .chunk_by(|a, b| a.action == b.action && is_set(a).is_some_and(|i| is_set(b) == Some(i)))
        .collect();
    let mut otherwise = Target::Return(default);
    for group in groups.into_iter().rev() {
        otherwise = match emit_set(assembler, group, wide, otherwise) {
            Some(target) => target,
            None => group
                .iter()
                .rev()
                .fold(otherwise, |otherwise, rule| emit_rule(assembler, rule, wide, otherwise)),
        };
    }
    otherwise
}

/// The argument, when the rule is a question of which numbers one argument is among.
fn is_set(rule: &Rule) -> Option<usize> {
    match &rule.conditions[..] {
        [only] if only.op() != LinuxSeccompOperator::ScmpCmpMaskedEq => Some(only.index()),
        _ => None,
    }
}

/// Several such rules with one answer: again a search among ranges. `None` when that is not worth it.
fn emit_set(assembler: &mut Assembler, group: &[&Rule], wide: bool, otherwise: Target) -> Option<Target> {
    if group.len() < 2 {
        return None;
    }
    // Where membership changes: +1 at the first number of an interval, -1 after its last.
    let mut changes: BTreeMap<u64, i32> = BTreeMap::new();
    for condition in group.iter().map(|rule| &rule.conditions[0]) {
        for (first, last) in intervals(condition) {
            *changes.entry(first).or_default() += 1;
            if let Some(after) = last.checked_add(1) {
                *changes.entry(after).or_default() -= 1;
            }
        }
    }
    let mut ranges = vec![(0, false)];
    let mut depth = 0;
    for (start, change) in changes {
        depth += change;
        match u32::try_from(start) {
            Ok(start) => {
                ranges.retain(|range: &(u32, bool)| range.0 != start);
                if ranges.last().is_none_or(|last| last.1 != (depth > 0)) {
                    ranges.push((start, depth > 0));
                }
            }
            // Never seen by a narrow argument.
            Err(_) if !wide => {}
            Err(_) => return None,
        }
    }
    let offset = ARGUMENTS + 8 * group[0].conditions[0].index() as u32;
    let answer = |inside: bool| {
        if inside {
            Target::Return(group[0].action)
        } else {
            otherwise
        }
    };
    let beyond = answer(ranges.last().expect("there is always one").1);
    let low = assembler.tree(&ranges, &mut |_, inside| answer(*inside));
    let low = assembler.load(offset, low);
    if !wide {
        return Some(low);
    }
    let high = assembler.jump(JUMP_IF_EQUAL, 0, low, beyond);
    Some(assembler.load(offset + 4, high))
}

/// The numbers for which a condition holds, as inclusive intervals.
fn intervals(condition: &LinuxSeccompArg) -> Vec<(u64, u64)> {
    let value = condition.value();
    let below = value.checked_sub(1).map(|last| (0, last));
    let above = value.checked_add(1).map(|first| (first, u64::MAX));
    match condition.op() {
        LinuxSeccompOperator::ScmpCmpEq => vec![(value, value)],
        LinuxSeccompOperator::ScmpCmpNe => below.into_iter().chain(above).collect(),
        LinuxSeccompOperator::ScmpCmpLt => below.into_iter().collect(),
        LinuxSeccompOperator::ScmpCmpLe => vec![(0, value)],
        LinuxSeccompOperator::ScmpCmpGt => above.into_iter().collect(),
        LinuxSeccompOperator::ScmpCmpGe => vec![(value, u64::MAX)],
        LinuxSeccompOperator::ScmpCmpMaskedEq => unreachable!("is_set() leaves it out"),
    }
}

fn emit_rule(assembler: &mut Assembler, rule: &Rule, wide: bool, otherwise: Target) -> Target {
    let answer = Target::Return(rule.action);
    rule.conditions.iter().rev().fold(answer, |holds, condition| {
        emit_condition(assembler, condition, wide, holds, otherwise)
    })
}

/// Compares the upper half first. Narrow arguments have none: the kernel makes it zero.
fn emit_condition(
    assembler: &mut Assembler,
    condition: &LinuxSeccompArg,
    wide: bool,
    holds: Target,
    fails: Target,
) -> Target {
    use LinuxSeccompOperator as Op;
    let low_offset = ARGUMENTS + 8 * condition.index() as u32;
    let halves = |value: u64| ((value >> 32) as u32, value as u32);
    if condition.op() == Op::ScmpCmpMaskedEq {
        let (mask, value) = (halves(condition.value()), halves(condition.value_two().unwrap_or(0)));
        let mut masked = |mask: u32, value: u32, offset: u32, holds: Target| {
            let test = assembler.jump(JUMP_IF_EQUAL, value, holds, fails);
            let test = if mask == u32::MAX {
                test
            } else {
                assembler.and(mask, test)
            };
            assembler.load(offset, test)
        };
        let low = match mask.1 {
            0 => {
                if value.1 == 0 {
                    holds
                } else {
                    fails
                }
            }
            _ => masked(mask.1, value.1, low_offset, holds),
        };
        return match (mask.0, wide) {
            (0, _) | (_, false) => {
                if value.0 == 0 {
                    low
                } else {
                    fails
                }
            }
            _ => masked(mask.0, value.0, low_offset + 4, low),
        };
    }
    // Less is not at-least, and so on: four operators are two.
    let (code, holds, fails) = match condition.op() {
        Op::ScmpCmpEq => (JUMP_IF_EQUAL, holds, fails),
        Op::ScmpCmpNe => (JUMP_IF_EQUAL, fails, holds),
        Op::ScmpCmpGt => (JUMP_IF_GREATER, holds, fails),
        Op::ScmpCmpLe => (JUMP_IF_GREATER, fails, holds),
        Op::ScmpCmpGe => (JUMP_IF_AT_LEAST, holds, fails),
        Op::ScmpCmpLt => (JUMP_IF_AT_LEAST, fails, holds),
        Op::ScmpCmpMaskedEq => unreachable!("handled above"),
    };
    let (high, low) = halves(condition.value());
    if !wide && high != 0 {
        // No narrow argument is equal to it or greater.
        return fails;
    }
    let test = assembler.jump(code, low, holds, fails);
    let test = assembler.load(low_offset, test);
    if !wide {
        return test;
    }
    let same = assembler.jump(JUMP_IF_EQUAL, high, test, fails);
    let upper = if code == JUMP_IF_EQUAL {
        same
    } else {
        assembler.jump(JUMP_IF_GREATER, high, holds, same)
    };
    assembler.load(low_offset + 4, upper)
}
