//! Classic BPF, written from its end to its beginning.
//!
//! Jumps only go forward, and reach 255 instructions. Written backwards, every target is known when a jump to it is
//! written, and one that has come to lie too far away gets a trampoline just where it is needed.
use std::collections::HashMap;

use corten_linux::seccomp::instruction;

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
pub const JUMP_IF_EQUAL: u16 = 0x15;
pub const JUMP_IF_GREATER: u16 = 0x25;
pub const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// How far a target may be away before another way to it is made: 255, less what may come between.
const NEAR: usize = 250;

/// Where to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The filter's answer; an instruction is made only where none is near.
    Return(u32),
    /// An instruction that was written, counted from the end.
    At(usize),
}

#[derive(Default)]
pub struct Assembler {
    /// The last instruction first.
    reversed: Vec<u64>,
    returns: HashMap<u32, usize>,
}

impl Assembler {
    /// The program, which starts at `entry`.
    pub fn finish(mut self, entry: Target) -> Vec<u64> {
        self.make_next(entry);
        self.reversed.reverse();
        self.reversed
    }

    fn push(&mut self, code: u16, yes: u8, no: u8, k: u32) -> usize {
        self.reversed.push(instruction(code, yes, no, k));
        self.reversed.len() - 1
    }

    fn distance(&self, position: usize) -> usize {
        self.reversed.len() - position - 1
    }

    fn near(&mut self, target: Target) -> usize {
        let known = match target {
            Target::Return(value) => self.returns.get(&value).copied(),
            Target::At(position) => Some(position),
        };
        match (known.filter(|position| self.distance(*position) < NEAR), target) {
            (Some(position), _) => position,
            (None, Target::Return(value)) => {
                let position = self.push(RETURN, 0, 0, value);
                self.returns.insert(value, position);
                position
            }
            (None, Target::At(position)) => self.push(JUMP, 0, 0, self.distance(position) as u32),
        }
    }

    /// Sees to it that the next instruction to be written falls through to `target`.
    fn make_next(&mut self, target: Target) {
        match target {
            Target::At(position) if self.distance(position) == 0 => {}
            Target::At(position) => {
                self.push(JUMP, 0, 0, self.distance(position) as u32);
            }
            Target::Return(value) => {
                let position = self.push(RETURN, 0, 0, value);
                self.returns.insert(value, position);
            }
        }
    }

    /// Compares the accumulator with `k`.
    pub fn jump(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        let (yes, no) = (self.near(yes), self.near(no));
        let offset = |position| u8::try_from(self.distance(position)).expect("near() keeps targets in reach");
        let (yes, no) = (offset(yes), offset(no));
        Target::At(self.push(code, yes, no, k))
    }

    /// Loads a word of `struct seccomp_data`.
    pub fn load(&mut self, offset: u32, next: Target) -> Target {
        self.statement(LOAD, offset, next)
    }

    pub fn and(&mut self, mask: u32, next: Target) -> Target {
        self.statement(AND, mask, next)
    }

    fn statement(&mut self, code: u16, k: u32, next: Target) -> Target {
        if let Target::Return(_) = next {
            // Nothing is compared any more.
            return next;
        }
        self.make_next(next);
        Target::At(self.push(code, 0, 0, k))
    }

    /// Finds the range that the accumulator is in: `(first number, what to do)`, sorted, the first one from zero on.
    pub fn tree<T: PartialEq>(
        &mut self,
        ranges: &[(u32, T)],
        leaf: &mut impl FnMut(&mut Self, &T) -> Target,
    ) -> Target {
        match ranges {
            [(_, only)] => leaf(self, only),
            // One number that differs from all around it.
            [(_, around), (number, inside), (next, after)] if around == after && *next == number + 1 => {
                let (no, yes) = (leaf(self, around), leaf(self, inside));
                self.jump(JUMP_IF_EQUAL, *number, yes, no)
            }
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let yes = self.tree(high, leaf);
                let no = self.tree(low, leaf);
                self.jump(JUMP_IF_AT_LEAST, high[0].0, yes, no)
            }
        }
    }
}
