//! Unpacks one layer into a new data root and says how long it took: `unpack LAYER.tar[.gz|.zst] DIRECTORY`.
//!
//! For measurements, `DIRECTORY` should be fresh each time and not deleted in between: ext4 is slow at creating files for
//! about a minute after many were deleted.
use std::{env, fs::File, path::PathBuf, time::Instant};

use corten_store::{layout::Layout, store::Store};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args_os().skip(1);
    let (Some(layer), Some(directory)) = (arguments.next(), arguments.next()) else {
        return Err("usage: unpack LAYER DIRECTORY".into());
    };
    let directory = PathBuf::from(directory);
    let store = Store::open(Layout::new(directory.join("data"), directory.join("run")))?;
    let lease = store.lease();
    let start = Instant::now();
    let layer = store.unpack(&lease, File::open(layer)?, &mut |_| ())?.layer;
    let seconds = start.elapsed().as_secs_f64();
    let megabytes = layer.tar_size as f64 / 1e6;
    println!(
        "{megabytes:.0} MB of tar in {seconds:.2} s, {:.0} MB/s",
        megabytes / seconds
    );
    // The layer is kept: nothing refers to it, but this process ends without collecting it.
    Ok(())
}
