//! Leases: hold on to layers while work on them is under way.
//!
//! A lease is taken before a layer is looked up or committed, so the collector never takes a layer that a load has just
//! found or made and no image refers to yet. They live in memory: a process that dies has no work under way.
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

#[derive(Debug, Default)]
pub struct Leases {
    held: Mutex<HashMap<String, usize>>,
}

/// Lets go of everything when dropped.
#[derive(Debug)]
pub struct Lease<'a> {
    leases: &'a Leases,
    layers: Mutex<Vec<String>>,
}

/// While it lives, no lease changes and nothing is collected: layers come and go under it.
pub(crate) struct Gate<'a> {
    held: MutexGuard<'a, HashMap<String, usize>>,
}

impl Leases {
    pub fn take(&self) -> Lease<'_> {
        Lease {
            leases: self,
            layers: Mutex::default(),
        }
    }

    pub(crate) fn gate(&self) -> Gate<'_> {
        Gate {
            held: self.held.lock().unwrap_or_else(|poisoned| poisoned.into_inner()),
        }
    }
}

impl Gate<'_> {
    pub(crate) fn is_held(&self, layer: &str) -> bool {
        self.held.contains_key(layer)
    }

    pub(crate) fn hold(&mut self, lease: &Lease<'_>, layer: &str) {
        *self.held.entry(layer.to_owned()).or_default() += 1;
        let mut layers = lease.layers.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        layers.push(layer.to_owned());
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut gate = self.leases.gate();
        let layers = self.layers.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        for layer in layers {
            if let Some(count) = gate.held.get_mut(layer) {
                *count -= 1;
                if *count == 0 {
                    gate.held.remove(layer);
                }
            }
        }
    }
}
