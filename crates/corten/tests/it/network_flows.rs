//! The kernel's flow table, which a developer's kernel may lack: on one of Debian's, in a guest.
use std::fs;

use crate::guest;

#[test]
fn established_connections_pass_by_the_flow_table_while_nobody_else_has_rules() {
    let modules = fs::read_to_string(guest::directory().join("modules.network")).expect("a list");
    let variables = [("GUEST_MODULES", modules.as_str()), ("GUEST_PROGRAMS", "nft ip")];
    if let Some(said) = guest::run("flows.sh", &[], &variables) {
        assert!(said.contains("ok   another network by the published port"), "{said}");
    }
}
