//! The same archive through GNU tar and through the store gives the same tree.
mod support;

use std::{fs, path::Path};

use support::{World, picture, run};

/// Makes one of everything in `tree`.
const TREE: &str = r#"
set -e
mkdir tree && cd tree
mkdir -p a/b/c empty "with space" sticky setgid
echo hello > a/file; : > a/nothing; head -c 300000 /dev/urandom > a/b/big
head -c 512 /dev/zero > a/b/block; head -c 513 /dev/zero > a/b/block1
ln a/file a/b/hard; ln a/file hard2
ln -s ../file a/b/soft; ln -s /absolute/target soft-absolute; ln -s dangling soft-dangling
ln a/b/soft hard-to-soft
mknod char c 1 3; mknod block b 7 5; mknod big-minor c 300 70000; mkfifo fifo
chmod 4755 a/file; chmod 2755 setgid; chmod 1777 sticky; chmod 0000 a/nothing; chmod 0777 a/b/big; chmod 0700 empty
touch setgid/inside; mkdir setgid/deeper
chown 1000:2000 a/b/block; chown -h 33:33 soft-dangling; chown 7:8 a/b
long=$(printf 'n%.0s' $(seq 1 120)); mkdir -p "long/$long/$long"; echo deep > "long/$long/$long/$long"
ln -s "$long/$long/$long" long/link-to-long; ln "long/$long/$long/$long" "long/hard-to-long"
printf 'x' > "$(printf 'bytes\xff\xfe')"; printf 'y' > 'späce'
touch -d '1970-01-01 00:00:01.5 UTC' a/b/block; touch -d '2030-06-01 12:00:00.123456789 UTC' a/b/c
touch -h -d '2001-01-01 UTC' soft-absolute
cd ..
"#;

const XATTRS: &str = r#"
set -e
cd tree
python3 - <<'EOF'
import os
os.setxattr('a/file', 'user.colour', b'green\x00blue\n=')
os.setxattr('a/b', 'user.directory', b'1')
os.setxattr('a/b/big', 'security.capability', bytes.fromhex('0100000200040000000000000000000000000000'))
os.setxattr('soft-absolute', 'trusted.link', b'yes', follow_symlinks=False)
EOF
cd ..
"#;

const HOLES: &str = r#"
set -e
cd tree
truncate -s 3000000 holes-only
dd if=/dev/urandom of=holes bs=4096 count=1 seek=10 status=none
dd if=/dev/urandom of=holes bs=4096 count=3 seek=700 conv=notrunc status=none; truncate -s 5000001 holes
for i in $(seq 0 40); do dd if=/dev/urandom of=many-holes bs=4096 count=1 seek=$((i*9)) conv=notrunc status=none; done
cd ..
"#;

/// Packs `tree` with `pack` into `archive`, then compares GNU tar's tree with ours.
fn compare(make: &str, pack: &str) {
    let world = World::new();
    let work = tempfile::tempdir().unwrap();
    run("bash", make, work.path());
    run("bash", &format!("set -e; {pack}"), work.path());
    let theirs = work.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    let unpack = "tar -xPpf archive --numeric-owner --xattrs --xattrs-include='*' -C theirs";
    run("bash", unpack, work.path());
    let archive = fs::read(work.path().join("archive")).unwrap();
    let unpacked = world.unpack(&archive).unwrap();
    assert_same(&theirs, &world.files(&unpacked.layer));
    assert_eq!(world.store.content().read(&unpacked.layer.id).unwrap(), archive);
}

fn assert_same(theirs: &Path, ours: &Path) {
    let (theirs, ours) = (picture(theirs), picture(ours));
    for (name, line) in &theirs {
        assert_eq!(Some(line), ours.get(name), "{name}");
    }
    assert_eq!(theirs.len(), ours.len());
}

fn both(first: &str, second: &str) -> String {
    format!("{first}\n{second}")
}

#[test]
fn gnu_archives_of_all_formats() {
    for format in ["gnu", "oldgnu", "posix"] {
        compare(TREE, &format!("tar -cf archive --format={format} -C tree ."));
    }
}

#[test]
fn ustar_and_v7_archives() {
    let short = both(TREE, "cd tree; rm -rf long big-minor; cd ..");
    compare(&short, "tar -cf archive --format=ustar -C tree .");
    let plain = both(&short, "cd tree; rm char block fifo");
    compare(&plain, "tar -cf archive --format=v7 -C tree .");
}

#[test]
fn extended_attributes() {
    compare(
        &both(TREE, XATTRS),
        "tar -cf archive --format=posix --xattrs --xattrs-include='*' -C tree .",
    );
}

#[test]
fn sparse_files_in_all_four_formats() {
    for options in [
        "--format=gnu",
        "--format=oldgnu",
        "--format=posix --sparse-version=0.0",
        "--format=posix --sparse-version=0.1",
        "--format=posix --sparse-version=1.0",
    ] {
        compare(
            &both("mkdir tree", HOLES),
            &format!("tar -cf archive -S {options} -C tree ."),
        );
    }
}

#[test]
fn appended_archives_where_later_entries_win() {
    let again = r#"
        tar -cf archive -C tree .
        rm -rf tree/soft-absolute tree/empty tree/hard2
        echo now a file > tree/empty; echo and this > tree/soft-absolute
        ln -s elsewhere tree/hard2; chmod 0711 tree/setgid
        tar -rf archive -C tree ./soft-absolute ./empty ./hard2 ./setgid
    "#;
    compare(TREE, again);
}

#[test]
fn names_without_directories_of_their_own() {
    let flat = "tar -cf archive -C tree a/b/c a/file a/b/hard setgid/inside";
    let world = World::new();
    let work = tempfile::tempdir().unwrap();
    run("bash", &both(TREE, flat), work.path());
    let layer = world
        .unpack(&fs::read(work.path().join("archive")).unwrap())
        .unwrap()
        .layer;
    let picture = picture(&world.files(&layer));
    assert!(picture["a"].starts_with("755 0:0"));
    assert!(picture["a/b/hard"].contains("\"a/b/hard\""));
    assert!(picture["a/file"].contains("\"a/b/hard\""), "one file with two names");
}

#[test]
fn pythons_tarfile_in_all_formats() {
    for format in ["GNU_FORMAT", "PAX_FORMAT", "USTAR_FORMAT"] {
        let ustar = format == "USTAR_FORMAT";
        let make = if ustar {
            both(TREE, "cd tree; rm -rf long big-minor späce")
        } else {
            TREE.to_owned()
        };
        let script = format!(
            r#"python3 - <<'EOF'
import tarfile
with tarfile.open('archive', 'w', format=tarfile.{format}, encoding='utf-8', errors='surrogateescape') as t:
    t.add('tree', arcname='.')
EOF"#
        );
        compare(&make, &script);
    }
}

#[test]
fn compressed_layers_give_the_same_layer() {
    let world = World::new();
    let work = tempfile::tempdir().unwrap();
    run("bash", &both(TREE, "tar -cf archive -C tree ."), work.path());
    run("bash", "gzip -k archive", work.path());
    let plain = fs::read(work.path().join("archive")).unwrap();
    let gzip = fs::read(work.path().join("archive.gz")).unwrap();
    let zstd = zstd::encode_all(&plain[..], 3).unwrap();
    let lease = world.store.lease();
    let unpack = |bytes: &[u8]| world.store.unpack(&lease, bytes, &mut |_| ()).unwrap();
    let from_gzip = unpack(&gzip);
    let digest = corten_store::content::digest(&gzip);
    assert_eq!(from_gzip.compressed, Some((digest.clone(), gzip.len() as u64)));
    assert_eq!(from_gzip.layer.id, corten_store::content::digest(&plain));
    assert_eq!(unpack(&zstd).layer, from_gzip.layer);
    assert_eq!(unpack(&plain).layer, from_gzip.layer);
    assert_eq!(
        world.store.find_source(&lease, &digest).unwrap(),
        Some(from_gzip.layer.clone())
    );
    assert_eq!(world.store.collect().unwrap(), 0, "held by the lease");
    drop(lease);
    assert_eq!(world.store.collect().unwrap(), from_gzip.layer.size);
    world.assert_empty();
}
