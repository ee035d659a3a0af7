#!/usr/bin/env python3
"""Writes src/security/syscalls.rs: system call numbers of every ABI that a filter can be compiled for.

The source is the linux-raw-sys crate (generated from the kernel's own headers, one module per architecture), in the
version that Cargo.lock names, from Cargo's registry directory. Run it after that version changes:
    crates/runtime/tools/syscall-table.py && cargo fmt -p corten-runtime
"""
import glob, os, re, subprocess

here = os.path.dirname(os.path.abspath(__file__))
root = os.path.join(here, "../../..")
version = re.search(r'name = "linux-raw-sys"\nversion = "(.*?)"', open(f"{root}/Cargo.lock").read()).group(1)
home = os.environ.get("CARGO_HOME", os.path.expanduser("~/.cargo"))
(source,) = glob.glob(f"{home}/registry/src/*/linux-raw-sys-{version}/src")

abis = {"X86_64": "x86_64", "X32": "x32", "I386": "x86", "AARCH64": "aarch64", "ARM": "arm"}
# Not system calls, but marks in the headers.
marks = {"SYSCALL_MASK", "syscalls", "SYSCALL_BASE", "OABI_SYSCALL_BASE", "Linux"}
# Names that libseccomp, and so every profile, uses beside the kernel's.
also = {"ARM": {"sync_file_range2": "arm_sync_file_range"}}
# Newer than the crate: (name, {ABI: number}).
newer = [("uprobe", {"X86_64": 336})]

table = {}
for abi, module in abis.items():
    text = open(f"{source}/{module}/general.rs").read()
    numbers = dict(re.findall(r"pub const __(?:ARM_)?NR_(\w+): u32 = (\d+);", text))
    for name, number in numbers.items():
        if name in marks or name == "BASE" or name.startswith(("usr26", "usr32")):
            continue
        table.setdefault(name, {})[abi] = int(number)
        other = also.get(abi, {}).get(name)
        if other:
            table.setdefault(other, {})[abi] = int(number)
for name, numbers in newer:
    for abi, number in numbers.items():
        table.setdefault(name, {}).setdefault(abi, number)

columns = list(abis)
rows = []
for name in sorted(table):
    numbers = ", ".join(str(table[name].get(abi, -1)) for abi in columns)
    rows.append(f'    ("{name}", [{numbers}]),')
out = f"""//! Which number each system call has in each ABI.
//!
//! Made by `tools/syscall-table.py` from linux-raw-sys {version}; do not edit. x32's numbers carry their mark, bit 30.

/// `name, [x86_64, x32, i386, aarch64, arm]`, sorted by name; -1 where an ABI does not have the call.
#[rustfmt::skip]
pub static SYSCALLS: [(&str, [i32; {len(columns)}]); {len(rows)}] = [
""" + "\n".join(rows) + "\n];\n"
open(f"{here}/../src/security/syscalls.rs", "w").write(out)
