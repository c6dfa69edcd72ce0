#!/bin/sh
# tree.sh DIRECTORY | --fingerprint
# Makes in DIRECTORY what is to become /opt/mailprobe: a virtual environment of Debian's Python with mailprobe and all it
# needs (constraints.txt, hashes checked), and the files that go elsewhere from there. It works at /opt/mailprobe only.
# The fingerprint is one number of all that it is made from: the same number, the same tree.
set -eu

source=$(cd "$(dirname "$0")/.." && pwd)
tree=$1
python=/usr/bin/python3 # not a user's own: the service cannot see it, and it would vanish

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "mailprobe needs Python 3.11 or later as $python" >&2
    exit 1
}
fingerprint() {
    (cd "$source" && {
        "$python" --version
        find probe deploy docs/operation.md constraints.txt pyproject.toml LICENSE CHANGELOG.md -type f \
            ! -name '*.pyc' -exec sha256sum {} + | sort -k 2
    } | sha256sum | cut -d ' ' -f 1)
}
if [ "$tree" = --fingerprint ]; then
    fingerprint
    exit
fi

"$source/deploy/debian-packages.sh" python3-venv
rm -rf "$tree"
"$python" -m venv "$tree"
pip() {
    "$tree/bin/python" -m pip --disable-pip-version-check --quiet "$@"
}
export PIP_ROOT_USER_ACTION=ignore
pip install --no-compile --require-hashes -r "$source/constraints.txt"
# --no-index: what constraints.txt lacks is an error here, not a download
pip install --no-compile --no-index --no-build-isolation "$source[demo,speed]"

# What built it is not needed to run it.
pip uninstall --yes hatchling editables packaging pathspec pluggy tomlkit trove-classifiers
find "$tree/bin" -mindepth 1 ! -name mailprobe ! -name 'python*' -delete
rm -rf "$tree"/lib/python3*/site-packages/pip "$tree"/lib/python3*/site-packages/pip-*.dist-info \
    "$tree"/lib/python3*/site-packages/setuptools* "$tree"/lib/python3*/site-packages/pkg_resources \
    "$tree"/lib/python3*/site-packages/_distutils_hack "$tree"/lib/python3*/site-packages/distutils-precedence.pth
rm -f "$tree"/lib/python3*/site-packages/mailprobe-*.dist-info/direct_url.json # where it was built

# Nothing may remember the place where it was made.
sed -i '1s|^#!.*|#!/opt/mailprobe/bin/python3|' "$tree/bin/mailprobe"
sed -i '/^command = /d' "$tree/pyvenv.cfg"
find "$tree" -name __pycache__ -prune -exec rm -rf {} +
# The service cannot write there; and who looks at a file's date, as others do, would compile it anew at every start.
"$python" -m compileall -q -j 0 -s "$tree" -p /opt/mailprobe --invalidation-mode unchecked-hash "$tree/lib"

mkdir "$tree/share"
cp "$source/deploy/mailprobe.toml" "$source/deploy/mailprobe.service" "$source/LICENSE" "$source/CHANGELOG.md" \
    "$source/docs/operation.md" "$tree/share/"
fingerprint >"$tree/share/fingerprint"
chmod -R u=rwX,go=rX "$tree"
