# shellcheck shell=bash disable=SC2034
# The layer under every application: Debian's essential packages, nothing else
# (bash, coreutils and dpkg's database; no apt, no shell history, no locales).
packages=('?essential')
