//! Parents of macvlan and ipvlan networks: an interface of the host's, a VLAN of one, or one that leads nowhere.
//!
//! The interfaces of containers on such a network are children of the parent. The host itself cannot talk to them: that
//! is how macvlan and ipvlan are.
use std::io;

use corten_linux::netlink::{
    message::Batch,
    route::{
        link::{self, Changes, IpvlanFlag, IpvlanMode, Kind, MacvlanMode, NewLink, Target},
        list,
    },
    socket::{Protocol, Refusal, Socket},
};
use rustix::io::Errno;

use crate::{
    bridge::{self, Origin, check_name},
    error::{Error, Result},
};

/// Finds a parent, or makes it: `eth0.50` is VLAN 50 of `eth0`, brought up if `eth0` is. What is made is marked as
/// `owner`'s.
pub fn parent(name: &str, owner: &str) -> Result<Origin> {
    check_name(name)?;
    let mut socket = open()?;
    let found = list::link(&mut socket, name).map_err(|refusal| failed(name, refusal))?;
    if let Some(found) = found {
        return Ok(match found.alias.as_deref() == Some(owner) {
            true => Origin::Ours,
            false => Origin::Foreign,
        });
    }
    let missing = || Error::not_found(format!("parent interface {name} does not exist"));
    let (base, number) = name.rsplit_once('.').ok_or_else(missing)?;
    let parent = link::index(&socket, base).map_err(|error| failed(name, error.into()))?;
    let parent = parent.ok_or_else(|| Error::not_found(format!("parent interface {base} of {name} does not exist")))?;
    let id = number
        .parse()
        .ok()
        .filter(|id| (1..4095).contains(id) && !number.starts_with(['0', '+']));
    let id = id.ok_or_else(|| Error::invalid(format!("invalid VLAN {number} of {name}: 1 to 4094")))?;
    make(&mut socket, &NewLink::new(name, Kind::Vlan { parent, id }), owner)
        .map_err(|refusal| failed(name, refusal))?;
    Ok(Origin::Ours)
}

/// Makes a parent that leads nowhere, for networks without a way out.
pub fn dead_end(name: &str, owner: &str) -> Result<()> {
    check_name(name)?;
    let mut socket = open()?;
    let found = list::link(&mut socket, name).map_err(|refusal| failed(name, refusal))?;
    match found {
        Some(found) if found.alias.as_deref() == Some(owner) => return Ok(()),
        Some(_) => return Err(Error::conflict(format!("interface {name} exists already"))),
        None => {}
    }
    let made = match make(&mut socket, &NewLink::new(name, Kind::Dummy), owner) {
        // Kernels without dummy interfaces: a bridge that never has a port will do.
        Err(refusal) if refusal.errno == Errno::OPNOTSUPP => {
            make(&mut socket, &NewLink::new(name, Kind::Bridge), owner)
        }
        made => made,
    };
    made.map_err(|refusal| failed(name, refusal))
}

/// Removes a parent that we made; any other stays.
pub fn remove(name: &str, owner: &str) -> Result<()> {
    let mut socket = open()?;
    match list::link(&mut socket, name).map_err(|refusal| failed(name, refusal))? {
        Some(link) if link.alias.as_deref() == Some(owner) => bridge::remove(name),
        _ => Ok(()),
    }
}

fn make(socket: &mut Socket, link: &NewLink, owner: &str) -> Result<(), Refusal> {
    let mut batch = Batch::new();
    link::create(&mut batch, link);
    let changes = Changes {
        alias: Some(owner),
        up: Some(true),
        // Nobody speaks IPv6 on the parent itself.
        no_automatic_ipv6: crate::sysctl::has_ipv6() && !matches!(link.kind, Kind::Vlan { .. }),
        ..Changes::default()
    };
    link::change(&mut batch, Target::Name(link.name), &changes);
    let made = socket.transact(&mut batch);
    if made.as_ref().is_err_and(|refusal| refusal.index > 0) {
        let mut batch = Batch::new();
        link::delete(&mut batch, Target::Name(link.name));
        let _ = socket.transact(&mut batch);
    }
    made
}

/// Refuses a network that this kernel cannot make.
pub fn check_kernel(driver: &str) -> Result<()> {
    let kind = match driver {
        // No interface has this index.
        "macvlan" => Kind::Macvlan {
            parent: 0,
            mode: MacvlanMode::Bridge,
        },
        "ipvlan" => Kind::Ipvlan {
            parent: 0,
            mode: IpvlanMode::L2,
            flag: IpvlanFlag::Bridge,
        },
        _ => return Ok(()),
    };
    let mut batch = Batch::new();
    link::create(&mut batch, &NewLink::new("corten-probe", kind));
    match open()?.transact(&mut batch) {
        Err(refusal) if refusal.errno == Errno::OPNOTSUPP => {
            Err(Error::unsupported(format!("this kernel has no {driver}")).because(refusal))
        }
        _ => Ok(()),
    }
}

/// The option `macvlan_mode`.
pub fn macvlan_mode(text: &str) -> Result<MacvlanMode> {
    match text {
        "" | "bridge" => Ok(MacvlanMode::Bridge),
        "private" => Ok(MacvlanMode::Private),
        "vepa" => Ok(MacvlanMode::Vepa),
        "passthru" => Ok(MacvlanMode::Passthru),
        _ => Err(Error::invalid(format!("requested macvlan mode '{text}' is not valid"))),
    }
}

/// The option `ipvlan_mode`.
pub fn ipvlan_mode(text: &str) -> Result<IpvlanMode> {
    match text {
        "" | "l2" => Ok(IpvlanMode::L2),
        "l3" => Ok(IpvlanMode::L3),
        "l3s" => Ok(IpvlanMode::L3s),
        _ => Err(Error::invalid(format!("requested ipvlan mode '{text}' is not valid"))),
    }
}

/// The option `ipvlan_flag`.
pub fn ipvlan_flag(text: &str) -> Result<IpvlanFlag> {
    match text {
        "" | "bridge" => Ok(IpvlanFlag::Bridge),
        "private" => Ok(IpvlanFlag::Private),
        "vepa" => Ok(IpvlanFlag::Vepa),
        _ => Err(Error::invalid(format!("requested ipvlan flag '{text}' is not valid"))),
    }
}

fn open() -> Result<Socket> {
    Socket::open(Protocol::Route)
        .map_err(|error| Error::system("cannot talk to the kernel about interfaces").because(error))
}

fn failed(name: &str, refusal: Refusal) -> Error {
    match refusal.errno {
        Errno::OPNOTSUPP => Error::unsupported(format!("this kernel cannot make {name}")).because(refusal),
        _ => Error::system(format!("cannot make interface {name}")).because(io::Error::from(refusal)),
    }
}
