# shellcheck shell=bash disable=SC2034
packages=(prometheus) compressor=go
