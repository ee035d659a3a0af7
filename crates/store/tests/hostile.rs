//! Archives that mean harm: refused with an error that names the entry, and nothing is left behind.
mod support;

use std::fs;

use support::{World, names, run};

/// Lets Python's tarfile write an archive: `t` is open, `add(name, **fields)` adds an entry.
fn archive(script: &str) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let program = format!(
        r#"
import tarfile, io
t = tarfile.open('archive', 'w', format=tarfile.PAX_FORMAT)
FILE, DIR, SYM, LNK, CHR = tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE
def add(name, type=FILE, data=b'', link='', pax=None, mode=0o644, uid=0):
    i = tarfile.TarInfo(name); i.type = type; i.size = len(data); i.linkname = link
    i.mode = 0o755 if type == DIR else mode; i.uid = uid; i.mtime = 1000000000
    if pax: i.pax_headers = pax
    t.addfile(i, io.BytesIO(data))
{script}
t.close()
"#
    );
    run("python3", &program, directory.path());
    fs::read(directory.path().join("archive")).unwrap()
}

fn refused(bytes: &[u8], parts: &[&str]) {
    let world = World::new();
    fs::create_dir(world.directory.path().join("victim")).unwrap();
    let error = world.unpack(bytes).unwrap_err();
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    let message: Vec<_> = causes.map(ToString::to_string).collect();
    let message = message.join(": ");
    for part in parts {
        assert!(message.contains(part), "{message}\nlacks {part}");
    }
    assert_eq!(names(&world.directory.path().join("victim")), Vec::<String>::new());
    fs::remove_dir(world.directory.path().join("victim")).unwrap();
    world.assert_empty();
}

fn refused_script(script: &str, parts: &[&str]) {
    refused(&archive(script), parts);
}

#[test]
fn names_that_lead_out_of_the_root() {
    for name in [
        "../victim/x",
        "a/../../victim/x",
        "/../victim/x",
        "..",
        "./../../../victim/x",
    ] {
        let script = format!("add('fine', data=b'1'); add('{name}', data=b'2')");
        refused_script(&script, &[&format!("entry {name:?}"), "leads out of the root"]);
    }
}

#[test]
fn symbolic_links_on_the_way_that_lead_out_of_the_root() {
    for (target, problem) in [
        ("..", "leads out of the root"),
        ("../../../../victim", "leads out of the root"),
        ("a/../../..", "leads out of the root"),
        ("/tmp", "leads to nothing in this layer"),
        ("/proc/self/root/tmp", "leads to nothing in this layer"),
        ("x", "too many symbolic links"),
    ] {
        let script = format!("add('a', DIR); add('x', SYM, link='{target}'); add('x/evil', data=b'2')");
        refused_script(&script, &["entry \"x/evil\"", problem]);
    }
    // In two steps, each of which is harmless.
    let script = "add('d', DIR); add('d/up', SYM, link='..'); add('d/up/up2', SYM, link='..'); add('d/up/up2/evil')";
    refused_script(script, &["entry \"d/up/up2/evil\"", "leads out of the root"]);
}

#[test]
fn hard_links_that_lead_out_of_the_root() {
    for (target, problem) in [
        ("../victim", "that leads out of the root"),
        ("/../../etc/passwd", "that leads out of the root"),
        ("/etc/passwd", "this layer does not have that file"),
        ("missing", "this layer does not have that file"),
        ("d", "that is a directory"),
        (".", "that is the root"),
    ] {
        let script = format!("add('d', DIR); add('x', LNK, link='{target}')");
        refused_script(&script, &["entry \"x\"", &format!("hard link to {target:?}"), problem]);
    }
    let through = "add('s', SYM, link='../..'); add('x', LNK, link='s/etc/passwd')";
    refused_script(
        through,
        &["entry \"x\"", "a symbolic link on its way leads out of the root"],
    );
}

#[test]
fn whiteouts_that_hide_what_they_may_not() {
    for name in [".wh.", ".wh...", ".wh..", "d/.wh."] {
        refused_script(&format!("add('{name}')"), &[&format!("entry {name:?}")]);
    }
    refused_script("add('x', SYM, link='..'); add('x/.wh.y')", &["entry \"x/.wh.y\""]);
    refused_script(
        "add('x', SYM, link='..'); add('x/.wh..wh..opq')",
        &["entry \"x/.wh..wh..opq\""],
    );
}

#[test]
fn names_too_long_for_any_file_system() {
    refused_script("add('fine'); add('n' * 256)", &["entry \"nnn", "longer than 255 bytes"]);
    refused_script("add('a/' * 2500)", &["entry \"a/a/", "too long"]);
    refused_script("add('a/' * 600 + 'x')", &["entry \"a/a/", "nested too deeply"]);
    refused_script("add('x', SYM, link='y' * 5000)", &["entry \"x\"", "too long"]);
}

#[test]
fn headers_too_large_to_be_honest() {
    let script = "add('fine'); add('big', pax={'comment': 'x' * (2 << 20)})";
    refused_script(
        script,
        &[
            "the header after entry \"fine\"",
            "an extension of",
            "more than 1048576",
        ],
    );
    let script = "add('x', pax={'size': '99999999999999999999999'})";
    refused_script(script, &["header", "a number that is none"]);
    let script = "add('owner', pax={'uid': '4294967296'})";
    refused_script(script, &["entry \"owner\"", "its owner is out of range"]);
}

#[test]
fn archives_that_are_cut_off() {
    let whole = archive("add('first', data=b'1'*1000); add('second', data=b'2'*1000)");
    for (length, part) in [
        (100, "not a tar archive"),
        (512 + 10, "entry \"first\""),
        (512 + 999, "entry \"first\""),
        (512 + 1024 + 100, "the header after entry \"first\" is cut off"),
        (512 + 1024 + 512 + 10, "entry \"second\""),
    ] {
        refused(&whole[..length], &[part]);
    }
    let gzip = {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a"), &whole).unwrap();
        run("bash", "gzip a", directory.path());
        fs::read(directory.path().join("a.gz")).unwrap()
    };
    refused(&gzip[..gzip.len() - 6], &["cannot read the archive"]);
}

#[test]
fn garbage_between_entries() {
    let mut bytes = archive("add('first', data=b'1'*1000); add('second')");
    bytes[512 + 1024 + 20] ^= 0xff;
    refused(&bytes, &["the header after entry \"first\" is no header"]);
    refused(b"PK\x03\x04 this is a zip", &["not a tar archive"]);
    refused(&[7; 4096], &["not a tar archive"]);
    refused(b"\xfd7zXZ\0 and more", &["xz compression is not supported"]);
}

#[test]
fn maps_of_holes_that_lie() {
    for (map, size, problem) in [
        (
            "0,10,5,10",
            "100",
            "entry \"holes\": its map of holes contradicts itself",
        ),
        (
            "0,10,90,20",
            "100",
            "entry \"holes\": its map of holes contradicts itself",
        ),
        (
            "18446744073709551615,10",
            "100",
            "entry \"holes\": its map of holes contradicts itself",
        ),
        ("0,5", "100", "entry \"holes\": its map of holes does not fit its data"),
        (
            "0,10",
            "18446744073709551615",
            "entry \"holes\": its map of holes does not fit its data",
        ),
        (
            "x,10",
            "100",
            "the first header has an extension with a number that is none",
        ),
        (
            "0",
            "100",
            "the first header has a map of holes that is not a list of numbers",
        ),
    ] {
        let script = format!(
            "add('holes', data=b'1'*10, pax={{'GNU.sparse.map': '{map}', 'GNU.sparse.size': '{size}', \
             'GNU.sparse.name': 'holes'}})"
        );
        refused_script(&script, &[problem]);
    }
    let script = "add('holes', data=b'99999999999999\\n0\\n1\\n'+bytes(500), \
                  pax={'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.realsize': '10'})";
    refused_script(script, &["entry \"holes\"", "too many holes"]);
    let script = "add('holes', pax={'GNU.sparse.name': '../victim/x', 'GNU.sparse.size': '0'})";
    refused_script(script, &["entry \"../victim/x\"", "leads out of the root"]);
}

#[test]
fn a_forged_overlay_attribute_is_dropped_and_others_are_kept() {
    let world = World::new();
    let bytes = archive(
        "add('d', DIR, pax={'SCHILY.xattr.trusted.overlay.opaque': 'y', 'SCHILY.xattr.trusted.fine': '1'})
add('f', pax={'SCHILY.xattr.trusted.overlay.redirect': '/etc', 'SCHILY.xattr.user.fine': '2'})",
    );
    let files = world.files(&world.unpack(&bytes).unwrap().layer);
    let keys = |name: &str| support::xattrs(&files.join(name)).into_keys().collect::<Vec<_>>();
    assert_eq!(keys("d"), ["trusted.fine"]);
    assert_eq!(keys("f"), ["user.fine"]);
}

#[test]
fn whiteouts_take_overlays_form() {
    let world = World::new();
    let bytes = archive(
        "add('a/.wh.gone'); add('b', DIR); add('b/.wh..wh..opq'); add('.wh..wh.aufs'); add('.wh..wh.plnk', DIR)
add('.wh..wh.plnk/1.2'); add('both/.wh.x'); add('both/x', data=b'1'); add('late/y'); add('late/.wh.y')
add('.wh.dir'); add('dir', DIR); add('dir/new'); add('.wh.implied'); add('implied/new')
add('merged', DIR); add('merged/z'); add('.wh.merged')",
    );
    let layer = world.unpack(&bytes).unwrap().layer;
    let files = world.files(&layer);
    let picture = support::picture(&files);
    assert!(picture["a/gone"].ends_with("device true 0"));
    let opaque = "{\"trusted.overlay.opaque\": [121]}";
    for name in ["b", "dir", "implied", "merged"] {
        assert!(picture[name].contains(opaque), "{name}: {}", picture[name]);
    }
    for name in ["both/x", "late/y", "dir/new", "implied/new", "merged/z"] {
        assert!(picture[name].contains("file"), "{name}: {}", picture[name]);
    }
    assert!(!picture.keys().any(|name| name.contains(".wh.")));
}

#[test]
fn later_entries_replace_earlier_ones() {
    let world = World::new();
    let bytes = archive(
        "add('d', DIR); add('d/x/y/z', data=b'1'); add('d/x', data=b'now a file')
add('f', data=b'1'); add('f', DIR); add('f/inside')
add('s', SYM, link='d'); add('s/through'); add('s', DIR); add('s/own')
add('h', data=b'1'); add('h2', LNK, link='h'); add('h', data=b'22'); add('h2', LNK, link='h')
add('h2', LNK, link='h2')
add('m', data=b'1', mode=0o4755, uid=5); add('m', data=b'333')",
    );
    let layer = world.unpack(&bytes).unwrap().layer;
    let picture = support::picture(&world.files(&layer));
    for (name, part) in [
        ("d/x", "file 10 "),
        ("f", "directory"),
        ("d/through", "file 0"),
        ("s/own", "file 0"),
        ("h2", "\"h\" {} file 2"),
        ("m", "644 0:0"),
    ] {
        assert!(picture[name].contains(part), "{name}: {}", picture[name]);
    }
    assert!(!picture.contains_key("d/x/y"));
}

#[test]
fn absolute_links_on_the_way_stay_inside() {
    let world = World::new();
    let bytes = archive(
        "add('run', DIR); add('var', DIR); add('var/run', SYM, link='/run'); add('var/run/pid', data=b'7')
add('lib', SYM, link='usr/lib'); add('usr/lib', DIR); add('lib/so', data=b'8'); add('/etc/abs', data=b'9')",
    );
    let layer = world.unpack(&bytes).unwrap().layer;
    let picture = support::picture(&world.files(&layer));
    for name in ["run/pid", "usr/lib/so", "etc/abs"] {
        assert!(picture[name].contains("file 1"), "{name}");
    }
    assert!(picture["var/run"].contains("link \"/run\""));
}
