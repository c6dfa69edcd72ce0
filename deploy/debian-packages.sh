#!/bin/sh
# debian-packages.sh PACKAGE...
# Installs the Debian packages that are missing, without a question and without starting a service, now or at the next
# boot. Does nothing when all are there. Who is not root is told what to install.
set -eu

missing=
for package; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "Debian 12 or later is needed here, with its packages$missing" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "To be installed by root first: apt-get install --no-install-recommends$missing" >&2
    exit 1
fi

echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive

policy=/usr/sbin/policy-rc.d # 101: the maintainer scripts may start nothing
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 1' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

new_units=
for unit in postfix.service dovecot.service dovecot.socket prometheus.service prometheus-alertmanager.service; do
    [ -e "/lib/systemd/system/$unit" ] || new_units="$new_units $unit"
done

apt-get -qq update || echo "apt-get update failed: trying with the lists that are there" >&2
case "$missing " in
*" postfix "*) # no main.cf: the test bed writes its own elsewhere
    echo "postfix postfix/main_mailer_type select No configuration" | debconf-set-selections
    ;;
esac
# shellcheck disable=SC2086  # a list of words
said=$(apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install $missing 2>&1 </dev/null) || {
    echo "$said" >&2
    exit 1
}

if command -v systemctl >/dev/null; then
    for unit in $new_units; do
        [ ! -e "/lib/systemd/system/$unit" ] || systemctl --quiet disable "$unit"
    done
fi
