//! `--volumes-from`: binds and volumes of other containers, running or not, in the same places.
use crate::{
    container::{record::MountPoint, table::Table},
    error::{Error, Result},
};

/// The mounts of `name[:mode]`s, each target once: the last that has it gives it.
pub fn taken_over(wishes: &[String], table: &Table) -> Result<Vec<MountPoint>> {
    let mut all: Vec<MountPoint> = Vec::new();
    for wish in wishes {
        let (name, writable) = parse(wish)?;
        // Not 404: that would be the image, which clients would go and fetch.
        let found = table.find(name).map_err(|error| Error::invalid(error.to_string()));
        let record = found?.record();
        for point in record.mounts.iter().filter(|point| point.kind != "tmpfs") {
            let mut point = point.clone();
            point.writable &= writable;
            point.create_source = false;
            point.copy_up = false;
            all.retain(|known| known.destination != point.destination);
            all.push(point);
        }
    }
    Ok(all)
}

/// The container, and whether it shares for writing. Propagation and copying are not shared.
fn parse(wish: &str) -> Result<(&str, bool)> {
    let (name, mode) = wish.split_once(':').unwrap_or((wish, ""));
    if name.is_empty() {
        return Err(Error::invalid("volumes-from specification cannot be an empty string"));
    }
    let mut access = None;
    let mut label = None;
    for option in mode.split(',').filter(|option| !option.is_empty()) {
        let place = match option {
            "ro" | "rw" => &mut access,
            "z" | "Z" => &mut label,
            _ => return Err(Error::invalid(format!("invalid mode: {mode}"))),
        };
        if place.replace(option).is_some() {
            return Err(Error::invalid(format!("invalid mode: {mode}")));
        }
    }
    Ok((name, access != Some("ro")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_few() {
        assert_eq!(parse("web").expect("valid"), ("web", true));
        assert_eq!(parse("web:ro,z").expect("valid"), ("web", false));
        for wish in ["", ":ro", "web:rshared", "web:nocopy", "web:ro,rw"] {
            assert!(parse(wish).is_err(), "{wish}");
        }
    }
}
