#!/bin/sh
# deb.sh [TREE]
# Makes dist/mailprobe_VERSION_ARCHITECTURE.deb of this directory, with all that mailprobe needs but Debian's Python.
# TREE: what tree.sh has made before.
set -eu

source=$(cd "$(dirname "$0")/.." && pwd)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$source/pyproject.toml")
architecture=$(dpkg --print-architecture) # some of the libraries are compiled
python=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') # and for one Python
root=$(mktemp -d)

umask 022
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"
mkdir -p "$root/DEBIAN" "$root/opt" "$root/etc/mailprobe" "$root/lib/systemd/system" "$root/usr/bin" \
    "$root/usr/share/doc/mailprobe" "$source/dist"
if [ -n "${1:-}" ]; then
    cp -a "$1" "$root/opt/mailprobe"
else
    "$source/deploy/tree.sh" "$root/opt/mailprobe"
fi
install -m 644 "$source/deploy/mailprobe.toml" "$root/etc/mailprobe/"
install -d -m 700 "$root/etc/mailprobe/credentials"
install -m 644 "$source/deploy/mailprobe.service" "$root/lib/systemd/system/"
ln -s /opt/mailprobe/bin/mailprobe "$root/usr/bin/mailprobe"
install -m 644 "$source/LICENSE" "$root/usr/share/doc/mailprobe/copyright"
install -m 644 "$source/CHANGELOG.md" "$source/docs/operation.md" "$root/usr/share/doc/mailprobe/"

sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@PYTHON@/$python/" \
    -e "s/@NEXT_PYTHON@/3.$((${python#3.} + 1))/" -e "s/@SIZE@/$(du -sk "$root" | cut -f 1)/" \
    "$source/deploy/debian/control" >"$root/DEBIAN/control"
install -m 644 "$source/deploy/debian/conffiles" "$root/DEBIAN/"
for script in preinst postinst prerm postrm; do
    install -m 755 "$source/deploy/debian/$script" "$root/DEBIAN/"
done
(cd "$root" && find opt usr lib -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"

package=$source/dist/mailprobe_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zzstd --build "$root" "$package" >/dev/null
echo "$package"
