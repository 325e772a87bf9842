# shellcheck shell=bash disable=SC2034
# Debian as its users know it: essential packages and apt, documentation and locales included.
packages=('?essential' apt) variant=apt compressor=go
