#!/bin/sh
# A small real image, without a build tool or a network: static busybox and the web server, as a docker archive.
#
#   examples/image.sh FILE      writes FILE; `docker load -i FILE` makes demo:latest of it
set -eu
out=$(realpath -m "$1")
here=$(dirname "$(realpath "$0")")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

busybox=
for file in /bin/busybox /usr/bin/busybox; do [ -x "$file" ] && busybox=$file && break; done
[ "$busybox" ] || { echo "image.sh: there is no busybox (apt-get install busybox-static)" >&2; exit 1; }

# The root file system.
root=$work/root
mkdir -p "$root/bin" "$root/etc" "$root/tmp"
chmod 1777 "$root/tmp"
cp "$busybox" "$root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
${CC:-cc} -O2 -static -o "$root/bin/web" "$here/web/web.c"
printf 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/tmp:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\nweb:x:1000:\n' >"$root/etc/group"

# One layer, one configuration, one manifest: that is all an image is.
tar --numeric-owner --owner=0 --group=0 --sort=name -C "$root" -cf "$work/layer.tar" .
layer=$(sha256sum "$work/layer.tar" | cut -d' ' -f1)
case $(uname -m) in x86_64) arch=amd64 ;; aarch64) arch=arm64 ;; *) arch=$(uname -m) ;; esac
cat >"$work/config.json" <<END
{"architecture":"$arch","os":"linux","created":"$(date -u +%FT%TZ)",
 "config":{"Env":["PATH=/bin"],"Cmd":["web"],"User":"web","StopSignal":"SIGTERM"},
 "rootfs":{"type":"layers","diff_ids":["sha256:$layer"]},
 "history":[{"created_by":"examples/image.sh"}]}
END
echo '[{"Config":"config.json","RepoTags":["demo:latest"],"Layers":["layer.tar"]}]' >"$work/manifest.json"
mkdir -p "$(dirname "$out")"
tar -C "$work" -cf "$out" manifest.json config.json layer.tar
echo "$out: demo:latest, $(du -h "$out" | cut -f1)"
