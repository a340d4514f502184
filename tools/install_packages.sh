#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# usage: tools/install_packages.sh PURPOSE...   installs the Debian packages of packages.txt that are missing (as root).
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
while read -r purpose package; do
  for wanted in "$@"; do
    if [ "$purpose" = "$wanted" ] && [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" != "install ok installed" ]; then
      missing+=("$package")
    fi
  done
done < <(grep -v '^#' packages.txt)

if [ ${#missing[@]} -eq 0 ]; then exit 0; fi
if [ "$(id -u)" -ne 0 ]; then
  echo "these packages are missing; install them first: apt-get install ${missing[*]}" >&2
  exit 1
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null
