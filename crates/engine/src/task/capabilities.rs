//! Which capabilities a container gets: Docker's fourteen, what was added, what was dropped.
//!
//! "All" means all that the daemon itself may hand on: a capability outside its permitted set cannot be given away.
use std::str::FromStr;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use crate::error::{Error, Result};

/// CapEff 00000000a80425fb.
const DEFAULT: [Capability; 14] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fsetid,
    Capability::Fowner,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::NetBindService,
    Capability::SysChroot,
    Capability::Kill,
    Capability::AuditWrite,
];

/// By the kernel's numbers.
const BY_NUMBER: [Capability; 41] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::DacReadSearch,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::Setgid,
    Capability::Setuid,
    Capability::Setpcap,
    Capability::LinuxImmutable,
    Capability::NetBindService,
    Capability::NetBroadcast,
    Capability::NetAdmin,
    Capability::NetRaw,
    Capability::IpcLock,
    Capability::IpcOwner,
    Capability::SysModule,
    Capability::SysRawio,
    Capability::SysChroot,
    Capability::SysPtrace,
    Capability::SysPacct,
    Capability::SysAdmin,
    Capability::SysBoot,
    Capability::SysNice,
    Capability::SysResource,
    Capability::SysTime,
    Capability::SysTtyConfig,
    Capability::Mknod,
    Capability::Lease,
    Capability::AuditWrite,
    Capability::AuditControl,
    Capability::Setfcap,
    Capability::MacOverride,
    Capability::MacAdmin,
    Capability::Syslog,
    Capability::WakeAlarm,
    Capability::BlockSuspend,
    Capability::AuditRead,
    Capability::Perfmon,
    Capability::Bpf,
    Capability::CheckpointRestore,
];

/// One name of `--cap-add` or `--cap-drop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    All,
    One(Capability),
}

/// The set that comes out of defaults, additions and drops; everything when `privileged`.
pub fn resolve(privileged: bool, add: &[String], drop: &[String]) -> Result<Capabilities> {
    let add = parse("CapAdd", add)?;
    let drop = parse("CapDrop", drop)?;
    if privileged {
        return Ok(all());
    }
    let one = |name: &Name| match name {
        Name::One(capability) => Some(*capability),
        Name::All => None,
    };
    let mut set: Capabilities = match (add.contains(&Name::All), drop.contains(&Name::All)) {
        (true, _) => all(),
        (false, true) => Capabilities::new(),
        (false, false) => DEFAULT.into_iter().collect(),
    };
    for capability in drop.iter().filter_map(one) {
        set.remove(&capability);
    }
    set.extend(add.iter().filter_map(one));
    Ok(set)
}

/// As the OCI specification wants it: nothing inheritable, nothing ambient.
pub fn specify(set: &Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set.clone()));
    sets.set_effective(Some(set.clone()));
    sets.set_permitted(Some(set.clone()));
    sets.set_inheritable(None);
    sets.set_ambient(None);
    sets
}

fn all() -> Capabilities {
    let permitted = rustix::thread::capabilities(None).map_or(u64::MAX, |sets| sets.permitted.bits());
    let held = |(number, _): &(usize, &Capability)| permitted & (1 << number) != 0;
    BY_NUMBER
        .iter()
        .enumerate()
        .filter(held)
        .map(|(_, capability)| *capability)
        .collect()
}

fn parse(field: &str, names: &[String]) -> Result<Vec<Name>> {
    let parse = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if bare == "ALL" && upper == bare {
            return Ok(Name::All);
        }
        Capability::from_str(bare)
            .map(Name::One)
            .map_err(|_| Error::invalid(format!("invalid {field}: unknown capability: \"CAP_{bare}\"")))
    };
    names.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(set: &Capabilities) -> u64 {
        let number = |capability: &Capability| BY_NUMBER.iter().position(|known| known == capability).expect("known");
        set.iter().fold(0, |bits, capability| bits | 1 << number(capability))
    }

    fn words(list: &[&str]) -> Vec<String> {
        list.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn the_default_set_is_dockers() {
        assert_eq!(bits(&resolve(false, &[], &[]).expect("resolves")), 0xa804_25fb);
    }

    #[test]
    fn additions_and_drops_combine_as_docker_combines_them() {
        let set = resolve(false, &words(&["NET_ADMIN"]), &words(&["ALL"])).expect("resolves");
        assert_eq!(set, [Capability::NetAdmin].into_iter().collect());
        let set = resolve(false, &words(&["cap_sys_ptrace"]), &words(&["CHOWN"])).expect("resolves");
        assert_eq!(bits(&set), 0xa804_25fb & !1 | 1 << 19);
        let set = resolve(false, &words(&["ALL"]), &words(&["MKNOD"])).expect("resolves");
        assert!(!set.contains(&Capability::Mknod) && set.contains(&Capability::SysAdmin));
    }

    #[test]
    fn an_unknown_name_is_refused() {
        let error = resolve(false, &words(&["FOO"]), &[]).expect_err("refused");
        assert_eq!(error.to_string(), "invalid CapAdd: unknown capability: \"CAP_FOO\"");
    }
}
