//! Buffers that cost memory only while they are in use.
use std::{ffi::c_void, io, ops, ptr, slice};

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};

/// Private anonymous memory, zero until written, that [`Scratch::release`] gives back to the kernel.
pub struct Scratch {
    start: *mut c_void,
    length: usize,
}

impl Scratch {
    /// `length` is rounded up to whole pages by the kernel; none of them exists yet.
    pub fn new(length: usize) -> io::Result<Scratch> {
        // SAFETY: a new mapping at a place of the kernel's choice touches no memory of ours.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                length,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )?
        };
        Ok(Scratch { start, length })
    }

    /// Forgets the contents and frees their pages.
    pub fn release(&mut self) {
        // SAFETY: the range is ours, and `&mut self` proves that nobody looks at it.
        let _ = unsafe { madvise(self.start, self.length, Advice::LinuxDontNeed) };
    }
}

impl ops::Deref for Scratch {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the mapping is readable, `length` long, initialised (zero) and lives as long as self.
        unsafe { slice::from_raw_parts(self.start.cast(), self.length) }
    }
}

impl ops::DerefMut for Scratch {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, writable, and `&mut self` makes it the only view.
        unsafe { slice::from_raw_parts_mut(self.start.cast(), self.length) }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: the range is ours and nobody can refer to it any more.
        let _ = unsafe { munmap(self.start, self.length) };
    }
}
