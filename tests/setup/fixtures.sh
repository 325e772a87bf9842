#!/bin/bash
# Makes the slow inputs of the tests, once, outside the tree: the reference images.
# Prints nothing but what the makers print; LOCKGATE_FIXTURES names the folder (default: the cache).
# fixtures.sh --updated: also images-updated, the same images with the suite's updates and security fixes.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
fixtures=${LOCKGATE_FIXTURES:-${LOCKGATE_CACHE:-$HOME/.cache/lockgate}/fixtures}
mkdir -p "$fixtures"
"$here/appliance/images/build.sh" --out "$fixtures/images"
[ "${1:-}" != --updated ] || "$here/appliance/images/build.sh" --with-updates --out "$fixtures/images-updated"
for os in debian-12 debian-13; do
    "$here/appliance/runtime/fetch-debs.sh" --os "$os" --out "$fixtures/runtime/$os"
done
