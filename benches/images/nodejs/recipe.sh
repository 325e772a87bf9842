# shellcheck shell=bash disable=SC2034
packages=(nodejs) compressor=zlib
