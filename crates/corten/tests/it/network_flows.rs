//! The kernel's flow table, which a developer's kernel may lack: on one of Debian's, in a small virtual machine (`ci/guest`).
use std::{path::Path, process::Command};

/// What `ci/guest/run` ends with when the machine lacks something that it needs.
const NOT_HERE: i32 = 2;

/// In an order in which each finds those that it needs.
const MODULES: &str = "llc stp bridge br_netfilter veth libcrc32c nf_defrag_ipv4 nf_defrag_ipv6 nfnetlink nf_conntrack \
                       nf_nat nf_tables nft_ct nft_chain_nat nft_nat nft_masq nft_fib nft_fib_ipv4 nft_fib_ipv6 \
                       nft_fib_inet nf_flow_table nf_flow_table_inet nft_flow_offload nf_conntrack_netlink";

#[test]
fn established_connections_pass_by_the_flow_table_while_nobody_else_has_rules() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let corten = directory.path().join("corten");
    let mut strip = Command::new("strip");
    strip.arg("-o").args([&corten, Path::new(env!("CARGO_BIN_EXE_corten"))]);
    assert!(strip.status().expect("binutils come with every C compiler").success());
    let output = Command::new(top.join("ci/guest/run"))
        .args([&top.join("ci/guest/flows.sh"), &corten])
        .env("GUEST_MODULES", MODULES)
        .env("GUEST_PROGRAMS", "nft ip")
        .output()
        .expect("bash runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(NOT_HERE) {
        println!("skipped: {error}");
        return;
    }
    assert!(output.status.success(), "{said}{error}");
    assert!(said.contains("ok   another network by the published port"), "{said}");
}
