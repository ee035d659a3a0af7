//! Network devices of the host's that go into a container (`netDevices` of the OCI specification).
//!
//! A device keeps its hardware address, its MTU and its addresses, but for those of its link alone. When the container's
//! namespace ends, the kernel gives hardware back to the host; a device that is only software goes with it.
use std::{
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd},
};

use corten_linux::netlink::{
    message::Batch,
    route::{
        address,
        link::{self, Changes, Target},
        list,
    },
    socket::{Protocol, Refusal, Socket},
};
use rustix::io::Errno;

use crate::{
    bridge::check_name,
    error::{Error, Result},
    namespace::inside,
};

/// A device, by its name on the host and by the one that it gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    pub host: String,
    pub container: String,
}

/// What a device was on the host.
struct Before {
    addresses: Vec<list::Address>,
    up: bool,
}

/// Moves devices from the calling thread's namespace into a container's; all of them, or none.
pub fn move_in(namespace: BorrowedFd, devices: &[Device]) -> Result<()> {
    let mut moved = Vec::new();
    for device in devices {
        let named = |error| {
            let name = &device.host;
            Error::system(format!("cannot move network device {name} into the container")).because(error)
        };
        let one = check_name(&device.container).and_then(|()| move_one(namespace, device).map_err(named));
        match one {
            Ok(before) => moved.push((device, before)),
            Err(error) => {
                for (device, before) in moved.iter().rev() {
                    take_back(namespace, device, before);
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

fn move_one(namespace: BorrowedFd, device: &Device) -> io::Result<Before> {
    let mut socket = Socket::open(Protocol::Route)?;
    let found = list::link(&mut socket, &device.host).map_err(io::Error::from)?;
    let link = found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such device"))?;
    let mut addresses = list::addresses(&mut socket).map_err(io::Error::from)?;
    addresses.retain(|address| address.interface == link.index && !is_of_link(address));
    let before = Before { addresses, up: link.up };
    change(&mut socket, link.index, &device.container, namespace)?;
    match inside(namespace, || equip(&device.container, &before.addresses, true)) {
        Ok(()) => Ok(before),
        Err(error) => {
            take_back(namespace, device, &before);
            Err(error)
        }
    }
}

fn change(socket: &mut Socket, index: u32, name: &str, namespace: BorrowedFd) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    let changes = Changes {
        name: Some(name),
        namespace: Some(namespace),
        ..Changes::default()
    };
    link::change(&mut batch, Target::Index(index), &changes);
    socket.transact(&mut batch)
}

/// The addresses that it had, and up or not: the kernel takes both from what changes its namespace.
fn equip(name: &str, addresses: &[list::Address], up: bool) -> io::Result<()> {
    let mut socket = Socket::open(Protocol::Route)?;
    let index = link::index(&socket, name)?.ok_or(Errno::NODEV)?;
    let mut batch = Batch::new();
    for address in addresses {
        address::add(&mut batch, index, address.address, address.prefix);
    }
    let up = Changes {
        up: Some(up),
        ..Changes::default()
    };
    link::change(&mut batch, Target::Index(index), &up);
    Ok(socket.transact(&mut batch)?)
}

/// Undoes a move.
fn take_back(namespace: BorrowedFd, device: &Device, before: &Before) {
    let taken = File::open("/proc/thread-self/ns/net").and_then(|home| {
        inside(namespace, || {
            let mut socket = Socket::open(Protocol::Route)?;
            let index = link::index(&socket, &device.container)?.ok_or(Errno::NODEV)?;
            Ok(change(&mut socket, index, &device.host, home.as_fd())?)
        })
    });
    if let Err(error) = taken.and_then(|()| equip(&device.host, &before.addresses, before.up)) {
        tracing::error!(device = device.host, %error, "a network device is not on the host as it was");
    }
}

fn is_of_link(address: &list::Address) -> bool {
    match address.address {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::testing::{alone, new_namespace};

    fn device(host: &str, container: &str) -> Device {
        Device {
            host: host.to_owned(),
            container: container.to_owned(),
        }
    }

    fn run(line: &str) -> String {
        let mut words = line.split(' ');
        let output = std::process::Command::new(words.next().expect("a program"))
            .args(words)
            .output();
        let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    #[test]
    fn a_device_arrives_with_what_it_had_or_all_stay() {
        alone(|| {
            run("ip link add probe0 mtu 1400 type veth peer name far0");
            run("ip address add 192.0.2.7/24 dev probe0");
            run("ip -6 address add 2001:db8::7/64 dev probe0");
            run("ip link add probe1 type veth peer name far1");
            let there = new_namespace();
            let absent = [device("probe0", "net0"), device("absent", "net1")];
            let error = move_in(there.as_fd(), &absent).expect_err("one is not there");
            assert!(error.to_string().contains("network device absent"), "{error}");
            let back = run("ip address show dev probe0");
            for part in ["192.0.2.7/24", "2001:db8::7/64", "mtu 1400", "state DOWN"] {
                assert!(back.contains(part), "{part}: {back}");
            }
            for name in ["", "a/b", "far-too-long-a-name"] {
                move_in(there.as_fd(), &[device("probe1", name)]).expect_err(name);
            }
            move_in(there.as_fd(), &[device("probe0", "net0"), device("probe1", "probe1")]).expect("root");
            let seen = inside(there.as_fd(), || Ok(run("ip address show dev net0"))).expect("root");
            for part in ["192.0.2.7/24", "2001:db8::7/64", "mtu 1400", ",UP"] {
                assert!(seen.contains(part), "{part}: {seen}");
            }
            assert!(!run("ip link").contains("probe"), "both are gone");
        });
    }
}
